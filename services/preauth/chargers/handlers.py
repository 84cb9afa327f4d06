"""Answers to what others ask about chargers."""

from collections.abc import Callable

from services.preauth.chargers import views
from shared.contracts.identity import Cause
from shared.contracts.problem import NotFound
from shared.contracts.requests.preauth import ChargerPage, ChargerView, GetCharger, ListChargers
from shared.database.engine import Database


class UnknownCharger(NotFound):
    code = "charger_unknown"

    def __init__(self, charge_box_id: str) -> None:
        super().__init__(
            f"No charger {charge_box_id!r} was ever seen: it neither came through the gateway, nor was a card presented"
            " there. Check the spelling; SteVe's own list is the authority."
        )


class Chargers:
    """`look` is told of each charger that somebody looks at of which SteVe alone knows whether it is online, and that
    takes no cards: who looks may just have changed its configuration.
    """

    def __init__(self, database: Database, look: Callable[[str], None]) -> None:
        self._database, self._look = database, look

    async def get_charger(self, request: GetCharger, _: Cause) -> ChargerView:
        """:raises UnknownCharger: for one that was never heard of."""
        async with self._database.read() as tx:
            found = await views.view(tx, request.charge_box_id)
        if found is None:
            raise UnknownCharger(request.charge_box_id)
        if not found.via_gateway or found.readiness.ready == "no":
            self._look(found.charge_box_id)
        return found

    async def list_chargers(self, request: ListChargers, _: Cause) -> ChargerPage:
        async with self._database.read() as tx:
            found = await views.views(
                tx,
                text=request.text,
                connected=request.connected,
                ready=request.ready,
                after=request.cursor,
                limit=request.limit,
            )
        more = len(found) == request.limit
        return ChargerPage(chargers=found, next_cursor=found[-1].charge_box_id if more else None)
