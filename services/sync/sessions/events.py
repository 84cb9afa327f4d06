"""What preauth tells of chargers is a hint: SteVe is asked at once."""

from collections.abc import Callable
from functools import partial

from services.sync.sessions import starts
from shared.contracts.event import Envelope
from shared.contracts.events.preauth import ChargerSessionStarted, ChargerSessionStopped, TapDecided
from shared.database.engine import Write, after_commit
from shared.runtime.clock import Clock


def is_blocked_start(event: TapDecided) -> bool:
    """Of all taps, sync has to do with these, which are few."""
    return event.kind == "start" and event.told == "blocked" and event.in_time


class ChargerHints:
    """`look` has SteVe asked now, about `want`ed sessions too. A new session lies past the cursor, where any look finds
    it; what was heard itself is believed only for what a start was answered, which SteVe's REST does not tell.
    """

    def __init__(self, *, look: Callable[[], None], want: Callable[[int], None], steve_id: str, clock: Clock) -> None:
        self._look, self._want, self._steve_id, self._clock = look, want, steve_id, clock

    async def started(self, tx: Write, event: ChargerSessionStarted, _: Envelope) -> None:
        await starts.keep_verdict(tx, self._steve_id, event.transaction_id, event.verdict, self._clock())
        after_commit(tx, self._look)

    async def tapped(self, tx: Write, event: TapDecided, _: Envelope) -> None:
        """A start that the hook had answered Blocked is a session in SteVe all the same, and nothing says so there."""
        await starts.keep_blocked(tx, self._steve_id, event.charge_box_id, event.id_tag, event.tapped_at)
        after_commit(tx, self._look)

    async def stopped(self, tx: Write, event: ChargerSessionStopped, _: Envelope) -> None:
        after_commit(tx, partial(self._want, event.transaction_id))
        after_commit(tx, self._look)
