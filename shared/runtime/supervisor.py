"""Keeps a service's parts running: starts them in order, restarts what falls, stops doors first, then in reverse."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, Literal, NamedTuple, Protocol

from shared.runtime.log import get_logger
from shared.runtime.tracing import turn

log = get_logger(__name__)

FIRST_BACKOFF_S: Final = 0.2
LONGEST_BACKOFF_S: Final = 5.0
# A part that ran this long was well: its next fall starts counting afresh.
HEALTHY_AFTER_S: Final = 10.0
# Of the time that a stop may take, what is kept for those who write down what came in through the doors.
KEPT_FOR_WRITERS: Final = 0.2


class Part(Protocol):
    """Something that runs until `stop` is set. Raising means: it fell, restart it."""

    @property
    def name(self) -> str: ...

    async def run(self, stop: asyncio.Event) -> None: ...


AtStop = Literal["finish", "abandon", "once more"]


class Every:
    """A part that calls `job` every `interval_s` seconds; a failure is logged and the next turn comes all the same.

    `at_stop`: a turn under way is finished, or abandoned (for jobs that wait for others and can be cut anywhere), or
    another one follows, for what came since.
    """

    def __init__(
        self, name: str, interval_s: float, job: Callable[[], Awaitable[object]], *, at_stop: AtStop = "finish"
    ) -> None:
        self.name, self._interval_s, self._job, self._at_stop = name, interval_s, job, at_stop

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            if self._at_stop == "abandon":
                await self._turn_unless(stop)
            else:
                await self._turn()
            try:
                async with asyncio.timeout(self._interval_s):
                    await stop.wait()
            except TimeoutError:
                continue
        if self._at_stop == "once more":
            await self._turn()

    async def _turn(self) -> None:
        try:
            with turn(self.name):
                await self._job()
        except Exception as error:  # noqa: BLE001 - a periodic job's next turn is its retry
            log.warning("A periodic job failed.", action="job.failed", job=self.name, error=repr(error))

    async def _turn_unless(self, stop: asyncio.Event) -> None:
        working, stopping = asyncio.create_task(self._turn()), asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            working.cancel()
            stopping.cancel()
            await asyncio.gather(working, return_exceptions=True)


class _Running(NamedTuple):
    part: Part
    stop: asyncio.Event
    task: asyncio.Task[None]
    door: bool


class Supervisor:
    """Runs parts. One that falls is restarted after a growing, jittered pause; the others do not notice."""

    def __init__(self) -> None:
        self._running: list[_Running] = []

    def start(self, part: Part, *, door: bool = False) -> None:
        """`door`: it takes in what the other parts work on."""
        stop = asyncio.Event()
        task = asyncio.create_task(self._keep(part, stop), name=part.name)
        self._running.append(_Running(part, stop, task, door))

    async def stop(self, grace_s: float) -> None:
        """Stop all parts: the doors together, then the last started first; they have `grace_s` seconds altogether.

        Whatever still runs then is cancelled, all at once; a door a little earlier, so that what it took in is written.
        """
        deadline = asyncio.get_running_loop().time() + grace_s
        await self._close_doors(grace_s * (1 - KEPT_FOR_WRITERS))
        while self._running:
            last = self._running[-1]
            last.stop.set()
            try:
                async with asyncio.timeout_at(deadline):
                    await asyncio.shield(last.task)
            except TimeoutError:
                await self._cancel(self._running)
                self._running = []
                return
            self._running.pop()

    async def _close_doors(self, within_s: float) -> None:
        doors = [one for one in self._running if one.door]
        if not doors:
            return
        for one in doors:
            one.stop.set()
        await asyncio.wait([one.task for one in doors], timeout=within_s)
        await self._cancel(doors)
        self._running = [one for one in self._running if not one.door]

    async def _cancel(self, some: list[_Running]) -> None:
        for one in some:
            one.stop.set()
            if not one.task.done():
                log.warning("A part did not stop in time.", action="part.stop_timeout", part=one.part.name)
                one.task.cancel()
        await asyncio.gather(*(one.task for one in some), return_exceptions=True)

    async def _keep(self, part: Part, stop: asyncio.Event) -> None:
        falls = 0
        loop = asyncio.get_running_loop()
        while not stop.is_set():
            started = loop.time()
            try:
                await part.run(stop)
            except (Exception, asyncio.CancelledError) as error:
                if isinstance(error, asyncio.CancelledError) and _is_being_cancelled():
                    raise
                if stop.is_set():
                    return
                falls = 1 if loop.time() - started > HEALTHY_AFTER_S else falls + 1
                pause = min(FIRST_BACKOFF_S * 2 ** (falls - 1), LONGEST_BACKOFF_S) * random.uniform(0.5, 1)  # noqa: S311 - jitter
                log.warning(
                    "A part fell and is restarted.",
                    action="part.fell",
                    part=part.name,
                    error=repr(error),
                    pause_s=round(pause, 2),
                    exc_info=falls == 3,
                )
                try:
                    async with asyncio.timeout(pause):
                        await stop.wait()
                except TimeoutError:
                    continue


def _is_being_cancelled() -> bool:
    # aio-pika lets what waits on a connection end in CancelledError when that breaks, which cancels nobody.
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
