"""A part that does its work in turns, and at once when woken."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

from services.sync.upstreams.errors import UpstreamError
from shared.runtime.log import get_logger
from shared.runtime.tracing import turn

log = get_logger(__name__)

LONGEST_PAUSE_S: Final = 30.0


class Loop:
    """Calls `job` every `interval_s` seconds, and soon after `wake()`. A failure makes the pause longer, up to
    LONGEST_PAUSE_S or the interval itself, and never ends the loop.

    `drain`: after a turn that returned a number above 0 the next one follows at once, so that a stop comes between two
    turns and not in the middle of a backlog.

    `rest`: the pause is at least so many times what the turn took, up to LONGEST_PAUSE_S: its work gives way to other
    work where there is much of both.
    """

    def __init__(
        self,
        name: str,
        job: Callable[[], Awaitable[object]],
        interval_s: Callable[[], float] | float,
        *,
        drain: bool = False,
        rest: float = 0.0,
    ) -> None:
        self.name, self._job, self._drain, self._rest = name, job, drain, rest
        self._interval_s = interval_s if callable(interval_s) else lambda: float(interval_s)
        self._wanted = asyncio.Event()
        self._stop = asyncio.Event()

    def stopping(self) -> bool:
        """Whether the process is to end: a job that takes long asks, and leaves the rest for whoever comes next."""
        return self._stop.is_set()

    def wake(self) -> None:
        """There is something to do now."""
        self._wanted.set()

    async def run(self, stop: asyncio.Event) -> None:
        self._stop = stop
        failures, time = 0, asyncio.get_running_loop().time
        while not stop.is_set():
            self._wanted.clear()
            began = time()
            did: object = None
            try:
                with turn(self.name):
                    did = await self._job()
            except UpstreamError as error:
                # Told by its health already.
                log.debug("A turn ended early.", action="loop.upstream", loop=self.name, error=str(error))
                failures += 1
            except Exception as error:
                log.warning(
                    "A turn failed.", action="loop.failed", loop=self.name, error=repr(error), exc_info=failures == 2
                )
                failures += 1
            else:
                failures = 0
            if not (self._drain and isinstance(did, int) and did > 0):
                await self._pause(stop, failures, min(self._rest * (time() - began), LONGEST_PAUSE_S))

    async def _pause(self, stop: asyncio.Event, failures: int, at_least_s: float) -> None:
        pause = max(self._interval_s(), at_least_s)
        if failures:
            pause = max(pause, min(0.5 * 2.0 ** min(failures, 10), LONGEST_PAUSE_S)) * random.uniform(0.7, 1.0)  # noqa: S311 - jitter
        waits = [asyncio.ensure_future(stop.wait())]
        if not failures:
            # Being woken is no reason to hurry while nothing works.
            waits.append(asyncio.ensure_future(self._wanted.wait()))
        try:
            await asyncio.wait(waits, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


class Lanes:
    """The same work in several loops at once, each on its own turn."""

    def __init__(self, name: str, job: Callable[[], Awaitable[object]], interval_s: float, *, count: int) -> None:
        self.loops = [Loop(f"{name}.{number}", job, interval_s, drain=True) for number in range(1, count + 1)]

    def wake(self) -> None:
        """There is something to do now, for whoever is free."""
        for loop in self.loops:
            loop.wake()
