"""Two questions to SteVe at once: what was asked before another answer was written down may be older than that one."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from deploy.demo.steve.model import Transaction
from services.sync.sessions import poll
from services.sync.steve.models import Transaction as Answer
from tests.integration.services.sync.conftest import Build, World, ago

Ask = Callable[[Sequence[int]], Awaitable[list[Answer]]]


def put(monkeypatch: pytest.MonkeyPatch, world: World, ask: Callable[[Ask, Sequence[int]], Awaitable[object]]) -> None:
    """Have `ask` put the questions about transactions."""
    real = world.rooms.poller._steve.transactions

    async def transactions(pks: Sequence[int], *, urgent: bool = False) -> object:
        return await real(pks, urgent=True) if urgent else await ask(real, pks)

    monkeypatch.setattr(world.rooms.poller._steve, "transactions", transactions)


def stop(world: World, one: Transaction) -> None:
    """Of 70 Wh."""
    stop_wh, box = int(one.start_value) + 70, one.charge_box_id
    world.steve.state.stop_by_station(
        charge_box_id=box, pk=one.pk, stop_at=ago(minutes=1), stop_wh=stop_wh, reason=None
    )


async def stops_told(world: World, pk: int) -> int:
    return sum(one.data["session"] == f"main:{pk}" for one in await world.events("transaction.stopped"))


async def test_an_answer_from_before_a_stop_does_not_take_it_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asked before a session ended, and writes the answer down after the one that has the stop, changes nothing:
    it stays stopped, is billed once, and its stop is told once.
    """
    await world.link("A")
    one = world.charge("A", None, start_at=ago(minutes=9))
    await world.turn()
    answered, go_on = asyncio.Event(), asyncio.Event()

    async def ask(real: Ask, pks: Sequence[int]) -> object:
        answer = await real(pks)
        if not answered.is_set():
            answered.set()
            await go_on.wait()
        return answer

    put(monkeypatch, world, ask)
    early = asyncio.create_task(world.rooms.poller.reread([one.pk]))
    await answered.wait()
    stop(world, one)
    await world.rooms.poller.poll()
    go_on.set()
    await early
    assert (await world.session(one.pk)).stopped_at is not None
    await world.turn()
    assert world.counted() == (70, 1)
    assert await stops_told(world, one.pk) == 1


async def test_a_page_that_was_asked_for_ahead_does_not_take_back_a_stop(
    build_world: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading a long past, a page is asked for while the one before is written down; what a look in between finds has
    happened since.
    """
    monkeypatch.setattr(poll, "LOOK_BETWEEN_S", 0.0)
    world = await build_world(page_size=10)
    await world.link("A")
    for _ in range(25):
        world.charge("A", 10)
    one = world.charge("A", None, charge_box_id="B", start_at=ago(minutes=9))
    stopped = asyncio.Event()

    async def ask(real: Ask, pks: Sequence[int]) -> object:
        if list(pks) == [one.pk] and await world.rows("SELECT 1 FROM sync.session WHERE transaction_pk = 20"):
            # A look in between, after the second page: the third is on its way.
            await stopped.wait()
        answer = await real(pks)
        if one.pk in pks and len(pks) > 1 and not stopped.is_set():
            stop(world, one)
            stopped.set()
        return answer

    put(monkeypatch, world, ask)
    await world.rooms.poller.look_for_new(poll._silent)
    assert stopped.is_set()
    assert (await world.session(one.pk)).stopped_at is not None
    assert await stops_told(world, one.pk) == 1


async def test_what_may_be_older_is_asked_for_again_at_the_next_look(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question that was put first may be answered last, and by what is newer: it is not known to be, and SteVe is
    asked again, also about a session whose end is final.
    """
    await world.link("A")
    one = world.charge("A", 10)
    # Each look asks about the newest one.
    world.charge("A", 5)
    await world.turn()
    first, go_on = asyncio.Event(), asyncio.Event()

    async def ask(real: Ask, pks: Sequence[int]) -> object:
        if not first.is_set():
            first.set()
            await go_on.wait()
        return await real(pks)

    put(monkeypatch, world, ask)
    slow = asyncio.create_task(world.rooms.poller.reread([one.pk]))
    await first.wait()
    one.stops[0].value = str(int(one.start_value) + 20)
    await world.rooms.poller.reread([one.pk])
    one.stops[0].value = str(int(one.start_value) + 30)
    go_on.set()
    await slow
    await world.turn()
    assert world.counted()[0] == 30 + 5


async def test_a_hint_that_comes_while_steve_answers_is_followed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A charger tells of the end of a session about which SteVe has just been asked: it is asked about it again next,
    also where the session has been open for days.
    """
    await world.link("A")
    one = world.charge("A", None, start_at=ago(hours=50))
    world.charge("A", 5, charge_box_id="B")
    await world.turn()
    poller = world.rooms.poller
    told = list[int]()

    async def ask(real: Ask, pks: Sequence[int]) -> object:
        answer = await real(pks)
        if one.pk in pks and not told:
            told.append(one.pk)
            stop(world, one)
            poller.want(one.pk)
        return answer

    put(monkeypatch, world, ask)
    poller.want(one.pk)
    await poller.poll()
    assert told
    await poller.poll()
    assert (await world.session(one.pk)).stopped_at is not None


async def test_a_number_that_is_still_to_come_hides_nothing(world: World) -> None:
    """Sessions that were copied from another database have numbers of its observations; their stops are seen."""
    await world.link("A")
    one = world.charge("A", None, start_at=ago(minutes=9))
    await world.turn()
    async with world.service.database.write() as tx:
        await tx.exec_driver_sql("UPDATE sync.session SET observation = 1000000")
    stop(world, one)
    await world.turn()
    assert world.counted() == (70, 1)
