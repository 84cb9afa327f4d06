"""What passes the gateway is a hint: SteVe is asked at once."""

from collections.abc import Callable

from services.sync.sessions import store
from shared.contracts.event import Envelope
from shared.contracts.events.preauth import ChargerSessionStarted, ChargerSessionStopped
from shared.database.engine import Write, after_commit
from shared.runtime.clock import Clock


class GatewayHints:
    """`poll` has SteVe asked now. A new session lies past the cursor and an ended one is open here, so a look finds
    both; what the charger said itself is believed for the verdict only, which SteVe's REST does not tell.
    """

    def __init__(self, poll: Callable[[], None], *, steve_id: str, clock: Clock) -> None:
        self._poll, self._steve_id, self._clock = poll, steve_id, clock

    async def started(self, tx: Write, event: ChargerSessionStarted, _: Envelope) -> None:
        await store.keep_verdict(tx, self._steve_id, event.transaction_id, event.verdict, self._clock())
        after_commit(tx, self._poll)

    async def stopped(self, tx: Write, _: ChargerSessionStopped, __: Envelope) -> None:
        after_commit(tx, self._poll)
