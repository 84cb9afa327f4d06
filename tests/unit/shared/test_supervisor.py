import asyncio
import time

from shared.runtime.supervisor import Every, Supervisor
from tests.waiting import until


class Falling:
    name = "falling"

    def __init__(self, falls: int) -> None:
        self.falls, self.runs, self.stopped = falls, 0, False

    async def run(self, stop: asyncio.Event) -> None:
        self.runs += 1
        if self.runs <= self.falls:
            raise RuntimeError("fell")
        await stop.wait()
        self.stopped = True


async def test_a_part_that_falls_is_restarted() -> None:
    """A part that raises comes back by itself, and is stopped like any other."""
    supervisor, part = Supervisor(), Falling(2)
    supervisor.start(part)

    async def third() -> bool:
        return part.runs == 3

    await until(third)
    await supervisor.stop(1)
    assert part.stopped


async def test_a_part_that_ends_as_if_cancelled_is_restarted() -> None:
    """A library's CancelledError that nobody asked for is a fall like any other, and not the end of the part."""

    class Cancelled:
        name = "cancelled"
        runs = 0

        async def run(self, stop: asyncio.Event) -> None:
            self.runs += 1
            if self.runs == 1:
                broken = asyncio.get_running_loop().create_future()
                broken.cancel()
                await broken
            await stop.wait()

    supervisor, part = Supervisor(), Cancelled()
    supervisor.start(part)

    async def second() -> bool:
        return part.runs == 2

    await until(second)
    await supervisor.stop(1)


async def test_parts_stop_in_reverse_order() -> None:
    """What was started last stops first, so that what it needs is still there."""
    order: list[str] = []

    class Noting:
        def __init__(self, name: str) -> None:
            self.name = name

        async def run(self, stop: asyncio.Event) -> None:
            await stop.wait()
            order.append(self.name)

    supervisor = Supervisor()
    for name in ("relay", "consumer", "http"):
        supervisor.start(Noting(name))
    await asyncio.sleep(0)
    await supervisor.stop(1)
    assert order == ["http", "consumer", "relay"]


async def test_a_part_that_does_not_stop_is_cancelled() -> None:
    """A part may take its grace period and no more."""

    class Stubborn:
        name = "stubborn"

        async def run(self, _: asyncio.Event) -> None:
            await asyncio.Event().wait()

    supervisor = Supervisor()
    supervisor.start(Stubborn())
    await asyncio.sleep(0)
    started = time.monotonic()
    await supervisor.stop(0.1)
    assert time.monotonic() - started < 2


async def test_stubborn_parts_share_one_grace_period() -> None:
    """A stop takes its grace period once, however many parts do not obey."""

    class Stubborn:
        name = "stubborn"

        async def run(self, _: asyncio.Event) -> None:
            await asyncio.Event().wait()

    supervisor = Supervisor()
    for _ in range(8):
        supervisor.start(Stubborn())
    await asyncio.sleep(0)
    started = time.monotonic()
    await supervisor.stop(0.5)
    assert 0.4 < time.monotonic() - started < 2


async def test_a_failing_job_comes_again() -> None:
    """A periodic job that fails has its next turn all the same."""
    turns = 0

    async def job() -> None:
        nonlocal turns
        turns += 1
        raise ValueError("this turn failed")

    supervisor = Supervisor()
    supervisor.start(Every("job", 0.01, job))

    async def twice() -> bool:
        return turns >= 2

    await until(twice)
    await supervisor.stop(1)


async def test_doors_stop_together_and_leave_time_for_who_writes() -> None:
    """Two doors stop at the same moment, one that does not obey is cut early, and what writes after them still can."""
    order: list[str] = []

    class Door:
        def __init__(self, name: str, takes_s: float) -> None:
            self.name, self._takes_s = name, takes_s

        async def run(self, stop: asyncio.Event) -> None:
            await stop.wait()
            order.append(f"{self.name} stops")
            await asyncio.sleep(self._takes_s)
            order.append(f"{self.name} stopped")

    class Writer:
        name = "writer"

        async def run(self, stop: asyncio.Event) -> None:
            await stop.wait()
            await asyncio.sleep(0.02)
            order.append("written")

    supervisor = Supervisor()
    supervisor.start(Door("slow", 60), door=True)
    supervisor.start(Writer())
    supervisor.start(Door("quick", 0.1), door=True)
    await asyncio.sleep(0)
    started = time.monotonic()
    await supervisor.stop(2)
    assert order == ["slow stops", "quick stops", "quick stopped", "written"]
    assert time.monotonic() - started < 2


async def test_a_job_may_be_abandoned_at_the_stop_or_follow_it() -> None:
    """A job that waits for somebody else does not hold up the stop; one that writes what came has one more turn."""
    began, turns = asyncio.Event(), 0

    async def waits() -> None:
        began.set()
        await asyncio.sleep(60)

    async def counts() -> None:
        nonlocal turns
        turns += 1

    supervisor = Supervisor()
    supervisor.start(Every("waits", 60, waits, at_stop="abandon"))
    supervisor.start(Every("counts", 60, counts, at_stop="once more"))
    await began.wait()
    started = time.monotonic()
    await supervisor.stop(10)
    assert time.monotonic() - started < 1
    assert turns == 2
