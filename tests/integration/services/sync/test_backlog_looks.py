"""A backlog, or a slow Lago, takes nothing from the looks at SteVe: what happens at a charger is seen meanwhile."""

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime

import pytest

from services.sync.runs import runner, store
from services.sync.sessions import poll
from shared.contracts.requests.sync_work import ListRuns, RunView, StartRun
from shared.database.engine import Read
from tests.integration.services.sync.conftest import ADA, Build, World, ago, eventually

TRANSACTIONS = "/steve/api/v1/transactions"
BATCH = "/api/v1/events/batch"
SUBSCRIPTIONS = "/api/v1/subscriptions"


async def seen(world: World, pk: int) -> bool:
    return bool(await world.rows("SELECT 1 FROM sync.session WHERE transaction_pk = :pk", pk=pk))


async def runs(world: World) -> list[RunView]:
    return (await world.rooms.runs.list_runs(ListRuns(), ADA)).runs


async def backlog(build_world: Build, count: int = 300) -> World:
    world = await build_world(in_flight=1)
    await world.link("A")
    for _ in range(count):
        world.charge("A", 10)
    return world


async def turn_until_through(world: World) -> None:
    run = await world.rooms.runner.turn()
    async with asyncio.timeout(60):
        while run is not None and run.more:
            run = await world.rooms.runner.turn()


@pytest.mark.parametrize("path", [BATCH, SUBSCRIPTIONS])
async def test_a_slow_lago_takes_nothing_from_the_looks(
    build_world: Build, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """A turn waits for Lago for its slice and no longer; the next ones find what began meanwhile, and what they left in
    hand is billed and counted once, by the run that knows how it ended.
    """
    monkeypatch.setattr(runner, "SLICE_S", 0.3)
    world = await backlog(build_world, 120)
    # For longer than the four turns take, also on a busy machine.
    world.lago.faults.add("slow", 5_000, path=path)
    took, news = [], []
    for number in range(4):
        begun = time.monotonic()
        run = await world.rooms.runner.turn()
        took.append(time.monotonic() - begun)
        assert run is not None
        news.append(world.charge("A", None, charge_box_id=f"B{number}", start_at=ago(minutes=5)).pk)
    assert max(took) < 2.5
    assert [await seen(world, pk) for pk in news] == [True, True, True, False]
    world.lago.faults.clear()
    await turn_until_through(world)
    assert world.counted() == (1_200, 120)
    counters = [one.counters for one in await runs(world)]
    assert sum(one.billed for one in counters) == sum(one.seen for one in counters) == 120
    assert all(one.state == "finished" for one in await runs(world))
    lines = await world.rows("SELECT transaction_pk FROM sync.run_session WHERE outcome <> 'open'")
    assert len(lines) == len({one.transaction_pk for one in lines}) == 120


async def test_what_lago_takes_while_a_run_counts_is_counted(
    build_world: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lago's answer comes after the run has read that its sessions are in hand: they are counted as billed, once."""
    monkeypatch.setattr(runner, "SLICE_S", 0.1)
    world = await backlog(build_world, 3)
    # Within such a slice it would still be asked how it is set up.
    assert await world.rooms.gate.is_open()
    world.lago.faults.add("slow", 1_000, path=BATCH)
    ask = store.outcomes

    async def through() -> bool:
        return len(await world.rows("SELECT 1 FROM sync.ledger_entry WHERE state = 'delivered'")) == 3

    async def meanwhile_delivered(
        tx: Read, steve_id: str, pks: Sequence[int], *, since: datetime
    ) -> dict[int, store.Outcome]:
        found = await ask(tx, steve_id, pks, since=since)
        await eventually(through)
        return found

    monkeypatch.setattr(store, "outcomes", meanwhile_delivered)
    await turn_until_through(world)
    assert world.counted() == (30, 3)
    assert [(one.counters.seen, one.counters.billed) for one in await runs(world) if one.counters.seen] == [(3, 3)]


async def test_a_charger_that_tells_something_ends_the_waiting_for_lago(build_world: Build) -> None:
    """What a charger tells does not wait for the slice either."""
    world = await backlog(build_world, 120)
    world.lago.faults.add("slow", 2_000, path=BATCH)
    turn = asyncio.create_task(world.rooms.runner.turn())

    async def delivering() -> bool:
        return bool(await world.rows("SELECT 1 FROM sync.run WHERE segment = 'deliver'")) or bool(
            await world.rows("SELECT 1 FROM sync.ledger_entry WHERE state = 'sending'")
        )

    await eventually(delivering)
    world.rooms.runner.hurry()
    async with asyncio.timeout(1):
        run = await turn
    assert run is not None
    assert run.more
    world.lago.faults.clear()
    await turn_until_through(world)
    assert world.counted() == (1_200, 120)


async def test_a_run_by_hand_is_one_and_looks_in_between(build_world: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for by hand, a run goes on to the end, and sees meanwhile what begins."""
    monkeypatch.setattr(runner, "SLICE_S", 0.2)
    world = await backlog(build_world)
    async with world.service.database.write() as tx:
        await world.rooms.runs.start_run(tx, StartRun(), ADA)
    world.lago.faults.add("slow", 1_000, path=BATCH)
    turn = asyncio.create_task(world.rooms.runner.turn())
    await asyncio.sleep(1)
    new = world.charge("A", None, charge_box_id="B", start_at=ago(minutes=5)).pk
    await eventually(lambda: seen(world, new))
    assert not turn.done()
    world.lago.faults.clear()
    await turn
    [run] = await runs(world)
    assert (run.counters.seen, run.counters.billed, run.counters.still_open) == (300, 300, 1)


async def test_lago_down_is_waited_for_once_a_turn(build_world: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many sessions wait, the turn waits for them all together, and calls them failed."""
    monkeypatch.setattr(runner, "SETTLES_WITHIN_S", 0.5)
    monkeypatch.setattr(runner, "LOG_AT_ONCE", 10)
    world = await backlog(build_world, 1)
    await world.rooms.runner.turn()
    for _ in range(300):
        world.charge("A", 10)
    world.clock.advance(seconds=3)
    world.lago.faults.add("down")
    begun = time.monotonic()
    await world.rooms.runner.turn()
    # Half a second for each of the thirty would be fifteen.
    assert time.monotonic() - begun < 5
    run = (await runs(world))[0]
    assert (run.counters.seen, run.counters.failed) == (300, 300)


async def test_the_first_walk_looks_at_the_chargers_in_between(
    build_world: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the past of a SteVe is read for the first time, a session that begins is seen, and one that ends too."""
    monkeypatch.setattr(poll, "LOOK_BETWEEN_S", 0.2)
    world = await build_world(page_size=10)
    await world.link("A")
    for _ in range(200):
        world.charge("A", 10)
    world.steve.faults.set("slow", 150, path=TRANSACTIONS)
    turn = asyncio.create_task(world.rooms.runner.turn())
    await asyncio.sleep(0.5)
    new = world.charge("A", None, charge_box_id="B", start_at=ago(minutes=5))
    await eventually(lambda: seen(world, new.pk))
    world.steve.state.stop_by_station(
        charge_box_id="B", pk=new.pk, stop_at=ago(minutes=1), stop_wh=int(new.start_value) + 70, reason=None
    )

    async def stopped() -> bool:
        return (await world.session(new.pk)).stopped_at is not None

    await eventually(stopped)
    assert not turn.done()
    world.steve.faults.clear()
    await turn
    await turn_until_through(world)
    assert world.counted() == (2_070, 201)


async def test_a_row_that_is_committed_late_during_the_first_walk_fills_its_gap(build_world: Build) -> None:
    """What is missing among the last ids of the first walk, also at a page's end, is asked for again."""
    world = await build_world(page_size=10)
    await world.link("A")
    every = [world.charge("A", 10) for _ in range(35)]
    late = [every[at] for at in (28, 29, 32)]
    for one in late:
        del world.steve.state.transactions[one.pk]
    await world.rooms.runner.turn()
    assert world.counted() == (320, 32)
    for one in late:
        world.steve.state.transactions[one.pk] = one
    world.clock.advance(seconds=30)
    await world.rooms.runner.turn()
    assert world.counted() == (350, 35)
