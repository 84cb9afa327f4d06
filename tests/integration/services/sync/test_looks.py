"""What is looked for in SteVe, and when: new sessions, and sweeps that make way."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from services.sync.runs import runner
from services.sync.sessions import poll
from services.sync.steve.client import MOST_PKS
from shared.contracts.requests.sync_work import ListRuns, StartRun
from tests.integration.services.sync.conftest import ADA, Build, World, ago, eventually

TRANSACTIONS = "/steve/api/v1/transactions"


async def swept(world: World) -> bool:
    """Whether a sweep is through, of all that there were."""
    [row] = await world.rows("SELECT swept_at FROM sync.run_schedule")
    return bool(world.clock() - row.swept_at < timedelta(hours=1))


def correct(world: World, pk: int, wh: int) -> None:
    """Change a stop in SteVe that was final."""
    one = world.steve.state.transactions[pk]
    one.stops[0].value = str(int(one.start_value) + wh)


async def test_no_look_asks_for_more_than_steve_takes_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest page has room for the transaction that is checked along with it, and nothing in it is left out."""
    await world.link("A")
    pks = [world.charge("A", 1_000).pk for _ in range(3)]
    await world.rooms.runner.turn()
    sizes: list[int] = []
    real = world.rooms.poller._steve.transactions

    async def counted(asked: Sequence[int], *, urgent: bool = False) -> list[Any]:
        sizes.append(len(asked))
        return await real(asked, urgent=urgent)

    monkeypatch.setattr(world.rooms.poller._steve, "transactions", counted)
    world.steve.state.skip_transaction_pks(MOST_PKS - 2)
    last = world.charge("A", 1_000).pk
    assert last == pks[-1] + MOST_PKS - 1
    await world.rooms.poller.poll()
    assert max(sizes) == MOST_PKS
    assert (await world.session(last)).transaction_pk == last


@pytest.mark.parametrize("followed", [False, True])
async def test_a_jump_just_past_the_largest_look_is_seen(world: World, followed: bool) -> None:  # noqa: FBT001
    """The first id that a look does not reach is one that was jumped to, whether it stands alone or before others."""
    await world.link("A")
    before = world.charge("A", 1_000).pk
    await world.rooms.poller.poll()
    world.steve.state.skip_transaction_pks(MOST_PKS - 1)
    pks = [world.charge("A", 1_000 if followed else None).pk]
    if followed:
        pks.append(world.charge("A", None).pk)
    assert pks[0] == before + MOST_PKS
    world.clock.advance(seconds=31)
    await world.rooms.poller.poll()
    rows = await world.rows("SELECT transaction_pk FROM sync.session ORDER BY 1")
    assert [row.transaction_pk for row in rows] == [before, *pks]


async def test_a_first_look_reaches_what_stands_just_past_it(world: World) -> None:
    """All before it was deleted, and it is the only one: with no id to go on from, SteVe is asked for its highest."""
    await world.link("A")
    world.steve.state.skip_transaction_pks(MOST_PKS - 1)
    pk = world.charge("A", 1_000).pk
    assert pk == MOST_PKS
    await world.rooms.poller.poll()
    assert [row.transaction_pk for row in await world.rows("SELECT transaction_pk FROM sync.session")] == [pk]


async def test_a_sweep_makes_way(build_world: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep goes on in slices, one a turn: what happens meanwhile is seen by each of them, and at the end all of the
    past was read.
    """
    monkeypatch.setattr(runner, "SWEEP_SLICE_S", 0.0)
    world = await build_world(page_size=10)
    await world.link("A")
    for _ in range(35):
        world.charge("A", 1_000)
    await world.rooms.runner.turn()
    correct(world, 2, 2_000)
    correct(world, 34, 3_000)
    world.clock.advance(hours=7)
    slices = 0
    while not await swept(world):
        box, start_at = f"B{slices}", world.clock() - timedelta(minutes=6)
        new = world.charge("A", 10, charge_box_id=box, start_at=start_at).pk
        world.clock.advance(seconds=3)
        await world.rooms.runner.turn()
        assert await world.rows("SELECT 1 FROM sync.session WHERE transaction_pk = :pk", pk=new)
        # The next turn follows at once, until the sweep is through.
        assert (world.rooms.runner.interval_s == 0) != await swept(world)
        slices += 1
    assert slices == 4
    await world.turn()
    assert world.counted() == (35_000 + 1_000 + 2_000 + slices * 10, 35 + 2 + slices)


async def test_a_sweep_ends_its_slice_when_a_charger_tells_something(build_world: Build) -> None:
    """A sweep of a large SteVe is left at the next page when something happened, and not after its slice."""
    world = await build_world(page_size=20)
    await world.link("A")
    for _ in range(80):
        world.charge("A", 10)
    await world.rooms.runner.turn()
    world.clock.advance(hours=7)
    world.steve.faults.set("slow", 400, path=TRANSACTIONS)
    turn = asyncio.create_task(world.rooms.runner.turn())
    await asyncio.sleep(0.2)
    world.rooms.runner.hurry()
    await turn
    assert not await swept(world)
    [row] = await world.rows("SELECT sweep_pk FROM sync.session_cursor")
    assert 0 < row.sweep_pk < 80


async def test_a_sweep_by_hand_is_one_run_and_makes_way_too(
    build_world: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asked for a sweep gets one run that is the whole of it, and a new session is seen before it ends."""
    monkeypatch.setattr(runner, "SWEEP_SLICE_S", 0.0)
    # Nobody settles what it finds here.
    monkeypatch.setattr(runner, "SETTLES_WITHIN_S", 0.5)
    world = await build_world(page_size=10)
    await world.link("A")
    for _ in range(60):
        world.charge("A", 1_000)
    await world.rooms.runner.turn()
    correct(world, 58, 2_000)
    async with world.service.database.write() as tx:
        await world.rooms.runs.start_run(tx, StartRun(segments=["sweep"]), ADA)
    world.steve.faults.set("slow", 150, path=TRANSACTIONS)
    turn = asyncio.create_task(world.rooms.runner.turn())
    await asyncio.sleep(0.3)
    new = world.charge("A", 10, charge_box_id="B").pk

    async def seen() -> bool:
        return bool(await world.rows("SELECT 1 FROM sync.session WHERE transaction_pk = :pk", pk=new))

    await eventually(seen)
    assert not turn.done()
    world.steve.faults.clear()
    await turn
    page = await world.rooms.runs.list_runs(ListRuns(), ADA)
    assert [(one.state, one.segments) for one in page.runs if one.trigger == "operator"] == [("finished", ["sweep"])]
    assert (await world.session(58)).stop_wh - (await world.session(58)).start_wh == 2_000


async def test_a_row_that_is_committed_late_while_a_sweep_passes_it_fills_its_gap(build_world: Build) -> None:
    """A sweep that comes upon what is new moves the cursor past what is on its way: that is asked for again, also where
    it was missing in a page, or a slice, in which nothing followed.
    """
    world = await build_world(page_size=10)
    await world.link("A")
    for _ in range(7):
        world.charge("A", 10)
    await world.rooms.poller.poll()
    every = [world.charge("A", None, charge_box_id=f"B{number}", start_at=ago(minutes=5)) for number in range(5)]
    late = [one for one in every if one.pk in {8, 10, 11}]
    for one in late:
        del world.steve.state.transactions[one.pk]
    assert not await world.rooms.poller.sweep(poll._silent, until=lambda: True)
    assert await world.rooms.poller.sweep(poll._silent, until=lambda: True)
    for one in late:
        world.steve.state.transactions[one.pk] = one
    await world.rooms.poller.poll()
    rows = await world.rows("SELECT transaction_pk FROM sync.session ORDER BY 1")
    assert [row.transaction_pk for row in rows] == list(range(1, 13))
