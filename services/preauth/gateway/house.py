"""What all tunnels of a gateway share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from services.preauth.chargers.seen import Seen
from services.preauth.gateway.meter import Meter
from services.preauth.gateway.ports import Presented, TapDesk, Watcher
from shared.contracts.events.preauth import Told
from shared.runtime.clock import Clock, NewId
from shared.runtime.log import get_logger

log = get_logger(__name__)

LONGEST_PAUSE_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long a tap may wait, how long its Blocked may be cached, what a peer may do to us."""

    deadline_s: float = 0.2
    blocked_for_s: float = 5.0
    frames_per_s: float = 200.0
    burst_frames: int = 1_000
    stall_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What all tunnels share."""

    desk: TapDesk
    watcher: Watcher
    meter: Meter
    limits: Limits
    clock: Clock
    new_id: NewId

    def told(self, tap: Presented, told: Told, *, in_time: bool) -> None:
        _guarded(lambda: self.desk.told(tap, told, in_time=in_time))

    def answered(self, tap: Presented | None, verdict: str | None) -> None:
        """What SteVe said to a tap, where it was one and said anything."""
        if tap is not None and verdict is not None:
            _guarded(lambda: self.desk.answered(tap, verdict))

    def saw(self, seen: Seen | None) -> None:
        if seen is not None:
            _guarded(lambda: self.watcher.saw(seen))


def _guarded(tell: Callable[[], None]) -> None:
    """Nothing that others do with what they are told may stop a frame."""
    try:
        tell()
    except Exception as error:  # noqa: BLE001 - see above
        log.error("What passed could not be told.", action="gateway.tell_failed", error=repr(error))  # noqa: TRY400


class Share:
    """How much a charger may send: so many frames for long, a burst more at once. `now` is monotonic, in seconds."""

    __slots__ = ("_at", "_burst", "_left", "_per_s")

    def __init__(self, limits: Limits, now: float) -> None:
        self._per_s, self._burst = limits.frames_per_s, limits.burst_frames
        self._left, self._at = float(limits.burst_frames), now

    def use(self, frames: int, now: float) -> float:
        """Count frames that came; returns for how many seconds the charger should not be read."""
        self._left = min(self._left + (now - self._at) * self._per_s, self._burst) - frames
        self._at = now
        return min(-self._left / self._per_s, LONGEST_PAUSE_S) if self._left < 0 else 0.0
