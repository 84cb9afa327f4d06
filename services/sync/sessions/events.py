"""What passes the gateway is a hint: SteVe is asked at once."""

from collections.abc import Callable
from functools import partial

from services.sync.sessions import store
from shared.contracts.event import Envelope
from shared.contracts.events.preauth import ChargerSessionStarted, ChargerSessionStopped
from shared.database.engine import Write, after_commit
from shared.runtime.clock import Clock


class GatewayHints:
    """`look` has SteVe asked now, about `want`ed sessions too. A new session lies past the cursor, where any look finds
    it; what the charger said itself is believed for the verdict only, which SteVe's REST does not tell.
    """

    def __init__(self, *, look: Callable[[], None], want: Callable[[int], None], steve_id: str, clock: Clock) -> None:
        self._look, self._want, self._steve_id, self._clock = look, want, steve_id, clock

    async def started(self, tx: Write, event: ChargerSessionStarted, _: Envelope) -> None:
        await store.keep_verdict(tx, self._steve_id, event.transaction_id, event.verdict, self._clock())
        after_commit(tx, self._look)

    async def stopped(self, tx: Write, event: ChargerSessionStopped, _: Envelope) -> None:
        after_commit(tx, partial(self._want, event.transaction_id))
        after_commit(tx, self._look)
