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
