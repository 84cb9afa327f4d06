"""Work that a turn waits for a little, and that goes on beside the next looks where it takes longer."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

HURRIED_WITHIN_S: Final = 0.1
# At a stop. What is cut off then loses nothing: whoever comes next finds what is due, and claims end by themselves.
ENDS_WITHIN_S: Final = 2.0

Until = Callable[[], bool]
Work = Callable[[Until], Coroutine[Any, Any, None]]


class Beside:
    """One task for each name. It is never cut off within a step, because a step that another system holds up may be
    half done; but nobody waits for its end either.
    """

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def advance(self, name: str, work: Work, until: Until) -> bool:
        """Have `work` done until `until()` says so, and go on with what an earlier call left; True: there was time
        enough for all of it. Raises what the work raises.
        """
        task = self._tasks.get(name)
        fresh = task is None
        if task is None:
            task = self._tasks[name] = asyncio.create_task(work(until), name=name)
        while not task.done() and not until():
            await asyncio.wait({task}, timeout=HURRIED_WITHIN_S)
        if not task.done():
            return False
        del self._tasks[name]
        task.result()
        # One that was left over had to end at its own time, and may have left something.
        return fresh and not until()

    def is_at(self, name: str) -> bool:
        """Whether an earlier call left something that has not ended."""
        return name in self._tasks

    async def close(self) -> None:
        """End what is left over."""
        if not self._tasks:
            return
        tasks, self._tasks = list(self._tasks.values()), {}
        await asyncio.wait(tasks, timeout=ENDS_WITHIN_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
