"""Arming, cancelling and listing pairings, as operators ask it through admin_api."""

from services.preauth.decision.handlers import position
from services.preauth.pairing import rules, store
from services.preauth.pairing.arming import Arming
from shared.contracts.identity import Cause
from shared.contracts.problem import NotFound
from shared.contracts.requests.preauth import ArmPairing, CancelPairing, ListPairings, PairingList, PairingView
from shared.database.engine import Database, Write
from shared.runtime.log import get_logger

log = get_logger(__name__)


class Pairings:
    def __init__(self, database: Database, arming: Arming) -> None:
        self._database, self._arming = database, arming

    async def arm_pairing(self, tx: Write, request: ArmPairing, cause: Cause) -> PairingView:
        """:raises InterceptionOff: while no tap could be taken here.
        :raises AlreadyArmed: while another scan waits at this charger.
        """
        if await store.is_off(tx, request.charge_box_id):
            raise rules.InterceptionOff(
                f"Interception is switched off at {request.charge_box_id}, so no tap would be taken."
                " Switch it on, then arm again."
            )
        row = await self._arming.arm(
            tx,
            cause,
            charge_box_id=request.charge_box_id,
            connector_id=request.connector_id,
            purpose=request.purpose,
            window_s=request.window_s,
            presence="operator",
        )
        return store.view(row)

    async def cancel_pairing(self, tx: Write, request: CancelPairing, cause: Cause) -> PairingView:
        """:raises NotFound: for an unknown pairing.
        :raises NotCancellable: when it has ended, or a card was just matched.
        """
        row = await self._arming.cancel(tx, request.pairing_id, cause)
        if row is None:
            known = await store.get(tx, request.pairing_id)
            if known is None:
                raise NotFound(f"There is no scan {request.pairing_id}.")
            raise rules.NotCancellable(
                f"The scan at {known.charge_box_id} is {known.state}; there is nothing to cancel."
            )
        return store.view(row)

    async def list_pairings(self, request: ListPairings, _: Cause) -> PairingList:
        """:raises Invalid: on a cursor that did not come from a previous page."""
        before = position(request.cursor) if request.cursor else None
        async with self._database.read() as tx:
            rows = await store.search(tx, request, before=before)
        more = len(rows) == request.limit
        cursor = f"{rows[-1].armed_at.isoformat()}_{rows[-1].pairing_id}" if more else None
        return PairingList(pairings=[store.view(row) for row in rows], next_cursor=cursor)

    async def expire(self) -> int:
        """End what ran out; returns how many. Called again and again."""
        async with self._database.write() as tx:
            return await self._arming.expire(tx)
