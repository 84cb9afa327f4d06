"""What all tunnels of a gateway share."""

from dataclasses import dataclass
from typing import Final

from services.preauth.gateway.meter import Meter
from services.preauth.gateway.ports import TapDesk, Watcher
from shared.runtime.clock import Clock, NewId

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
