"""Keeps frames from filling the event loop: whatever else the process does, a tap above all, comes in between."""

import asyncio
import time
from collections import deque
from typing import Final, Protocol

# At most this long, in seconds, frames are worked on before everybody else in the process has a turn.
SLICE_S: Final = 0.002


class Paced(Protocol):
    """Somebody whose bytes can be worked on later."""

    def work(self) -> None:
        """Work on what was put aside."""
        ...


class Pacer:
    """One for all sockets of a process. Who comes after the slice is used up waits, in order, for the loop's next turn.

    Nothing is slowed down while the process has time: the next turn comes at once when nobody else wants it.
    """

    __slots__ = ("_armed", "_loop", "_slice_s", "_spent_s", "_waiting")

    def __init__(self, slice_s: float = SLICE_S) -> None:
        self._loop = asyncio.get_running_loop()
        self._slice_s = slice_s
        self._spent_s = 0.0
        self._armed = False
        self._waiting: deque[Paced] = deque()

    def admits(self) -> bool:
        """Whether there is time now. Then call `spent` with how long it took; else `put_aside`."""
        return not self._waiting and self._spent_s < self._slice_s

    def spent(self, seconds: float) -> None:
        self._spent_s += seconds
        self._arm()

    def put_aside(self, somebody: Paced) -> None:
        self._waiting.append(somebody)
        self._arm()

    def _arm(self) -> None:
        if not self._armed:
            self._armed = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._armed = False
        started = time.perf_counter()
        self._spent_s = 0.0
        while self._waiting and self._spent_s < self._slice_s:
            self._waiting.popleft().work()
            self._spent_s = time.perf_counter() - started
        if self._waiting:
            self._arm()
