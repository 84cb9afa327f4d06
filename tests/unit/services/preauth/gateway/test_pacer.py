"""Frames leave room for everybody else in the process."""

import asyncio
import time

from services.preauth.gateway.pacer import Pacer

MS = 0.001


class Busy:
    """A socket whose bytes take a millisecond each time."""

    def __init__(self, pacer: Pacer, name: int, done: list[int | str]) -> None:
        self._pacer, self._name, self._done = pacer, name, done

    def came(self) -> None:
        if self._pacer.admits():
            started = time.perf_counter()
            self.work()
            self._pacer.spent(time.perf_counter() - started)
        else:
            self._pacer.put_aside(self)

    def work(self) -> None:
        until = time.perf_counter() + MS
        while time.perf_counter() < until:
            pass
        self._done.append(self._name)


async def test_others_have_their_turn_between_slices() -> None:
    """A hundred sockets that are ready at once are worked on in order, and another callback comes in between."""
    done: list[int | str] = []
    pacer, loop = Pacer(4 * MS), asyncio.get_running_loop()
    finished = asyncio.Event()
    sockets = [Busy(pacer, number, done) for number in range(100)]

    def tap() -> None:
        done.append("tap")
        if sum(one != "tap" for one in done) < 100:
            loop.call_soon(tap)
        else:
            finished.set()

    loop.call_soon(tap)
    for socket in sockets:
        socket.came()
    assert 1 <= len(done) <= 4
    async with asyncio.timeout(5):
        await finished.wait()
    assert [one for one in done if one != "tap"] == list(range(100))
    longest = max(len(run.split()) for run in " ".join(map(str, done)).split("tap"))
    assert longest <= 5


async def test_nobody_waits_while_there_is_time() -> None:
    """A single socket is served at once, every time."""
    done: list[int | str] = []
    socket = Busy(Pacer(4 * MS), 1, done)
    for turn in range(20):
        socket.came()
        assert len(done) == turn + 1
        await asyncio.sleep(0)
        await asyncio.sleep(0)
