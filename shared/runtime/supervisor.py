"""Keeps a service's parts running: starts them in order, restarts what falls, stops them in reverse."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from shared.runtime.log import get_logger
from shared.runtime.tracing import turn

log = get_logger(__name__)

FIRST_BACKOFF_S: Final = 0.2
LONGEST_BACKOFF_S: Final = 5.0
# A part that ran this long was well: its next fall starts counting afresh.
HEALTHY_AFTER_S: Final = 10.0


class Part(Protocol):
    """Something that runs until `stop` is set. Raising means: it fell, restart it."""

    @property
    def name(self) -> str: ...

    async def run(self, stop: asyncio.Event) -> None: ...


class Every:
    """A part that calls `job` every `interval_s` seconds; a failure is logged and the next turn comes all the same."""

    def __init__(self, name: str, interval_s: float, job: Callable[[], Awaitable[object]]) -> None:
        self.name, self._interval_s, self._job = name, interval_s, job

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                with turn(self.name):
                    await self._job()
            except Exception as error:  # noqa: BLE001 - a periodic job's next turn is its retry
                log.warning("A periodic job failed.", action="job.failed", job=self.name, error=repr(error))
            try:
                async with asyncio.timeout(self._interval_s):
                    await stop.wait()
            except TimeoutError:
                continue


class Supervisor:
    """Runs parts. One that falls is restarted after a growing, jittered pause; the others do not notice."""

    def __init__(self) -> None:
        self._running: list[tuple[Part, asyncio.Event, asyncio.Task[None]]] = []

    def start(self, part: Part) -> None:
        stop = asyncio.Event()
        task = asyncio.create_task(self._keep(part, stop), name=part.name)
        self._running.append((part, stop, task))

    async def stop(self, grace_s: float) -> None:
        """Stop all parts, the last started first; together they have `grace_s` seconds to finish what they hold.

        Whatever still runs then is cancelled, all at once.
        """
        deadline = asyncio.get_running_loop().time() + grace_s
        while self._running:
            _, stop, task = self._running[-1]
            stop.set()
            try:
                async with asyncio.timeout_at(deadline):
                    await asyncio.shield(task)
            except TimeoutError:
                await self._cancel_all()
                return
            self._running.pop()

    async def _cancel_all(self) -> None:
        tasks = []
        for part, stop, task in self._running:
            stop.set()
            if not task.done():
                log.warning("A part did not stop in time.", action="part.stop_timeout", part=part.name)
                task.cancel()
            tasks.append(task)
        self._running.clear()
        await asyncio.gather(*tasks, return_exceptions=True)

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
