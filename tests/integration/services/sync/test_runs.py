"""Runs: one at a time, whoever runs them; what they counted adds up."""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from services.sync.runs import claim
from services.sync.upstreams.errors import UpstreamError
from shared.contracts.requests.sync_work import GetRun, ListRuns, PinCadence, RunDetail, RunView, StartRun
from tests.integration.services.sync.conftest import ADA, Build, Clock, World, a_replica, ago


async def runs(world: World) -> list[RunView]:
    return (await world.rooms.runs.list_runs(ListRuns(), ADA)).runs


async def detail(world: World, run: RunView) -> RunDetail:
    return await world.rooms.runs.get_run(GetRun(run_id=run.run_id), ADA)


async def start(world: World, *segments: Any) -> RunView:  # noqa: ANN401
    async with world.service.database.write() as tx:
        return await world.rooms.runs.start_run(tx, StartRun(segments=list(segments)), ADA)


async def test_a_run_counts_each_session_once(world: World) -> None:
    """What was seen is the sum of its outcomes; open ones stand apart; each session has its line."""
    await world.link("A")
    world.steve.state.add_tag("LONER")
    for _ in range(3):
        world.charge("A", 1_000)
    held = world.charge("LONER", 1_000, charge_box_id="B").pk
    world.charge("A", None, charge_box_id="C")
    await world.rooms.mirror.refresh()
    await world.rooms.runner.turn()
    [run] = await runs(world)
    counters = run.counters
    assert (counters.seen, counters.billed, counters.held, counters.still_open) == (4, 3, 1, 1)
    assert counters.seen == sum(
        (counters.billed, counters.already_billed, counters.held, counters.ignored, counters.failed)
    )
    assert (run.cursor_before, run.cursor_after, run.state, run.trigger) == (0, 5, "finished", "schedule")
    lines = {line.session: (line.outcome, line.detail) for line in (await detail(world, run)).sessions}
    assert lines[f"main:{held}"] == ("held", "card_unlinked")
    assert len(lines) == 5
    told = await world.events("sync_run.started", "sync_run.finished")
    assert [one.type for one in told] == ["sync_run.started", "sync_run.finished"]


async def test_a_look_that_finds_nothing_is_no_run(world: World) -> None:
    """Scheduled looks without news leave no row and no event behind."""
    for _ in range(3):
        await world.rooms.runner.turn()
        world.clock.advance(seconds=30)
    assert await runs(world) == []
    assert await world.events("sync_run.started") == []


async def test_a_run_by_hand_is_kept_even_when_it_finds_nothing(world: World) -> None:
    """Somebody asked for it, so it is written down, with who it was."""
    waiting = await start(world)
    assert waiting.state == "waiting"
    await world.rooms.runner.turn()
    [run] = await runs(world)
    assert (run.state, run.trigger, run.requested_by) == ("finished", "operator", "ada")


async def test_two_replicas_never_run_at_once(world: World) -> None:
    """Of two replicas that look at the same moment one does, and each session is billed once."""
    await world.link("A")
    for _ in range(20):
        world.charge("A", 1_000)
    async with AsyncExitStack() as stack:
        _, second = await a_replica(stack, world.settings, world.clock)
        taken = await asyncio.gather(world.rooms.runner.turn(), second.runner.turn())
        assert sum(one is not None for one in taken) == 1
    assert world.counted() == (20_000, 20)


async def test_a_dead_replicas_claim_ends_by_itself(world: World) -> None:
    """A replica that died in a run loses its claim when the lease ends; its run is called failed, its work is done."""
    await world.link("A")
    world.charge("A", 1_000)
    world.steve.faults.set("slow", 5_000, path="/steve/api/v1/transactions")
    await start(world)
    turn = asyncio.create_task(world.rooms.runner.turn())
    await until_running(world)
    # By then it waits for SteVe, and not for the answer to its commit.
    await asyncio.sleep(0.3)
    # Killed: nothing is tidied up, so neither is the claim.
    world.rooms.runner._done = _nothing  # type: ignore[assignment]
    turn.cancel()
    await asyncio.gather(turn, return_exceptions=True)
    world.steve.faults.clear()
    async with AsyncExitStack() as stack:
        _, second = await a_replica(stack, world.settings, world.clock)
        assert await second.runner.turn() is None
        await pass_of_lease(world, claim.LEASE + timedelta(seconds=1))
        assert await second.runner.turn() is not None
    assert world.counted() == (1_000, 1)
    assert sorted(one.state for one in await runs(world)) == ["failed", "finished"]
    ended = {one.correlationid: one.data["problem"] for one in await world.events("sync_run.finished")}
    assert ended.keys() == {one.run_id for one in await runs(world)}
    assert any("broke off" in (problem or "") for problem in ended.values())


async def test_a_run_that_was_taken_over_leaves_the_new_owner_alone(world: World) -> None:
    """A replica that stood still for longer than its lease finds the claim gone: it ends, and what the other one wrote
    of the schedule and of the run stands.
    """
    await world.link("A")
    world.charge("A", 1_000)
    world.steve.faults.set("slow", 1_500, path="/steve/api/v1/transactions")
    await start(world)
    first = asyncio.create_task(world.rooms.runner.turn())
    await until_running(world)
    async with AsyncExitStack() as stack:
        _, second = await a_replica(stack, world.settings, world.clock)
        # The first one could not renew for longer than that.
        await pass_of_lease(world, claim.LEASE + timedelta(seconds=1))
        other = asyncio.create_task(second.runner.turn())
        async with asyncio.timeout(10):
            assert await first is None
        world.steve.faults.clear()
        [row] = await world.rows("SELECT claimed_by, lease_until FROM sync.run_schedule")
        assert row.claimed_by == second.runner._me
        assert row.lease_until is not None
        assert await other is not None
    assert world.counted() == (1_000, 1)
    # Told once each: the first one says nothing of a run that is no longer its own.
    assert len(await world.events("sync_run.finished")) == 2
    assert sorted(one.state for one in await runs(world)) == ["failed", "finished"]


async def test_a_run_outlives_its_lease(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for SteVe, for longer than the lease lasts, costs a run nothing: no other replica takes it meanwhile."""
    monkeypatch.setattr(claim, "BEAT_S", 0.05)
    world.steve.faults.set("slow", 1_500, path="/steve/api/v1/transactions", times=1)
    await start(world)
    first = asyncio.create_task(world.rooms.runner.turn())
    await until_running(world)
    async with AsyncExitStack() as stack:
        _, second = await a_replica(stack, world.settings, world.clock)
        second.runner.hurry()
        for _ in range(4):
            await pass_of_lease(world, claim.LEASE * 0.75)
            await asyncio.sleep(0.2)
            assert await second.runner.turn() is None
        assert await first is not None
    assert [one.state for one in await runs(world)] == ["finished"]


async def test_a_turn_that_breaks_off_is_closed_by_the_next(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that ended in a fault of our own does not run for ever, though the same process goes on."""
    await world.link("A")
    world.charge("A", 1_000)
    with monkeypatch.context() as patch:
        patch.setattr(world.rooms.poller, "look_for_new", _broken)
        await start(world)
        with pytest.raises(RuntimeError):
            await world.rooms.runner.turn()
    assert [one.state for one in await runs(world)] == ["running"]
    world.clock.advance(seconds=30)
    await world.rooms.runner.turn()
    assert sorted(one.state for one in await runs(world)) == ["failed", "finished"]
    assert world.counted() == (1_000, 1)


async def test_a_run_can_be_watched(build_world: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it reads it says at what it is, how far it has come of how much, and what became of the first ones."""
    monkeypatch.setattr(claim, "BEAT_S", 0.05)
    world = await build_world(page_size=50)
    await world.link("A")
    for _ in range(200):
        world.charge("A", 10)
    world.steve.faults.set("slow", 500, path="/steve/api/v1/transactions")
    turn = asyncio.create_task(world.rooms.runner.turn())
    shown: list[RunView] = []
    async with asyncio.timeout(30):
        while not turn.done():
            shown += await runs(world)
            await world.rooms.settler.settle()
            await world.rooms.delivery.deliver()
            if any(0 < one.counters.billed < 200 for one in shown):
                world.steve.faults.clear()
            await asyncio.sleep(0.05)
    await turn
    reading = [one for one in shown if one.state == "running" and one.segment == "new"]
    assert {one.expected for one in reading} == {200}
    assert any(0 < one.done < 200 for one in reading)
    assert any(0 < one.counters.billed < 200 for one in reading)
    assert all(
        one.counters.seen == one.counters.billed + one.counters.already_billed + one.counters.held for one in reading
    )
    [run] = await runs(world)
    assert (run.done, run.expected, run.segment, run.counters.billed) == (200, 200, None, 200)


async def test_a_pin_set_during_a_run_holds(world: World) -> None:
    """The end of a run does not undo what an operator said while it ran."""
    world.steve.faults.set("slow", 500, path="/steve/api/v1/transactions")
    await start(world)
    turn = asyncio.create_task(world.rooms.runner.turn())
    await until_running(world)
    async with world.service.database.write() as tx:
        await world.rooms.runs.pin_cadence(tx, PinCadence(mode="dormant"), ADA)
    assert not turn.done()
    world.steve.faults.clear()
    await turn
    page = await world.rooms.runs.list_runs(ListRuns(), ADA)
    assert (page.cadence, page.pinned) == ("dormant", True)


@pytest.mark.parametrize("fast", ["owner", "other"])
async def test_a_claim_does_not_go_by_a_replicas_clock(world: World, fast: str) -> None:
    """A clock that is ahead by more than the lease ends nobody's claim before its time, and makes none last longer."""
    world.steve.faults.set("slow", 700, path="/steve/api/v1/transactions")
    await start(world)
    ahead = Clock()
    ahead.advance(seconds=claim.LEASE.total_seconds() * 1.5)
    async with AsyncExitStack() as stack:
        _, other = await a_replica(stack, world.settings, ahead)
        owner, second = (other, world.rooms) if fast == "owner" else (world.rooms, other)
        first = asyncio.create_task(owner.runner.turn())
        await until_running(world)
        [row] = await world.rows("SELECT lease_until - clock_timestamp() AS rest FROM sync.run_schedule")
        assert timedelta() < row.rest <= claim.LEASE
        second.runner.hurry()
        assert await second.runner.turn() is None
        world.steve.faults.clear()
        assert await first is not None
    assert [one.state for one in await runs(world)] == ["finished"]


@pytest.mark.parametrize("left", ["time of the next look", "claim"])
async def test_a_clock_that_was_ahead_keeps_nobody_from_looking(world: World, left: str) -> None:
    """Neither when it said to look next nor a claim that was not given back before it was set right is waited for: what
    begins at a charger is still seen within 30 s.
    """
    await world.link("A")
    if left == "claim":
        await world.rooms.runner.turn()
        async with world.service.database.write() as tx:
            await tx.execute(
                sa.text("UPDATE sync.run_schedule SET claimed_by = gen_random_uuid(), lease_until = now()")
            )
        await pass_of_lease(world, -timedelta(hours=2))
        world.clock.advance(seconds=20)
    else:
        world.clock.advance(hours=2)
        await world.rooms.runner.turn()
        world.clock.advance(hours=-2)
    pk = world.charge("A", None).pk
    assert await world.rooms.runner.turn() is not None
    assert (await world.session(pk)).billing == "open"


async def pass_of_lease(world: World, time: timedelta) -> None:
    """So much of the claim's time passes, in which nobody renews it."""
    async with world.service.database.write() as tx:
        await tx.execute(sa.text("UPDATE sync.run_schedule SET lease_until = lease_until - :time"), {"time": time})


async def until_running(world: World) -> None:
    async with asyncio.timeout(10):
        while not await world.rows("SELECT 1 FROM sync.run WHERE state = 'running'"):  # noqa: ASYNC110 - a database
            await asyncio.sleep(0.02)


async def _broken(*_: object) -> None:
    raise RuntimeError("a fault of our own")


async def _nothing(*_: object) -> None:
    pass


async def test_a_steve_that_is_down_fails_the_run_and_loses_nothing(world: World) -> None:
    """A run that SteVe broke off says why, and the next one finds what it did not."""
    await world.link("A")
    world.charge("A", 1_000)
    world.steve.faults.set("html")
    await start(world)
    with pytest.raises(UpstreamError):
        await world.rooms.runner.turn()
    [run] = await runs(world)
    assert run.state == "failed"
    assert "502" in (run.problem or "")
    world.steve.faults.clear()
    world.clock.advance(seconds=30)
    await world.rooms.runner.turn()
    assert world.counted() == (1_000, 1)


async def test_a_sweep_finds_what_changed_long_ago(world: World) -> None:
    """A stop that was changed after it was final is found by the sweep, and corrected."""
    await world.link("A")
    one = world.charge("A", 5_000, charge_box_id="B")
    world.charge("A", 1_000)
    await world.rooms.runner.turn()
    one.stops[0].value = str(int(one.start_value) + 6_000)
    world.clock.advance(seconds=30)
    await world.rooms.runner.turn()
    assert world.counted() == (6_000, 2)
    await start(world, "sweep", "settle", "deliver")
    await world.rooms.runner.turn()
    assert world.counted() == (7_000, 3)
    assert len(await world.events("transaction.corrected")) == 1


async def test_the_cadence_calms_down_slowly_and_wakes_at_once(world: World) -> None:
    """Active while something happens, idle after a while, dormant after a day; a pin holds it where it is."""

    async def mode() -> str:
        await world.rooms.runner.turn()
        return (await world.rooms.runs.list_runs(ListRuns(), ADA)).cadence

    await world.link("A")
    world.charge("A", 1_000)
    assert await mode() == "active"
    world.clock.advance(minutes=9)
    assert await mode() == "active"
    world.clock.advance(minutes=2)
    assert await mode() == "idle"
    world.clock.advance(days=2)
    assert await mode() == "dormant"
    async with world.service.database.write() as tx:
        pinned = await world.rooms.runs.pin_cadence(tx, PinCadence(mode="idle"), ADA)
    assert (pinned.mode, pinned.pinned_by) == ("idle", "ada")
    world.charge("A", 1_000)
    assert await mode() == "idle"
    async with world.service.database.write() as tx:
        await world.rooms.runs.pin_cadence(tx, PinCadence(mode=None), ADA)
    assert await mode() == "active"


async def test_another_steve_is_refused(world: World) -> None:
    """A SteVe whose ids name other transactions is another one: nothing is read from it, and it is said why."""
    await world.link("A")
    for _ in range(5):
        world.charge("A", 1_000)
    await world.rooms.runner.turn()
    last = world.steve.state.transactions[5]
    last.start_at -= timedelta(days=1)
    world.charge("A", 1_000)
    world.clock.advance(seconds=30)
    with pytest.raises(UpstreamError, match="not the SteVe database called main"):
        await world.rooms.runner.turn()
    standing = world.rooms.health.standing("steve")
    assert (standing.state, standing.reason) == ("lost", "another_steve")
    assert world.counted() == (5_000, 5)


async def test_a_reinstalled_steve_is_refused_by_its_highest_id(world: World) -> None:
    """A SteVe that begins to count again lies below the cursor."""
    await world.link("A")
    for _ in range(5):
        world.charge("A", 1_000)
    await world.rooms.runner.turn()
    for pk in (3, 4, 5):
        world.steve.state._remove_transaction(world.steve.state.transactions[pk])
    world.clock.advance(seconds=30)
    with pytest.raises(UpstreamError, match="highest transaction is 2"):
        await world.rooms.runner.turn()


async def test_ids_that_jump_are_found(world: World) -> None:
    """Ids far past the page that is looked at are reached by way of what is open."""
    await world.link("A")
    world.charge("A", 1_000)
    await world.rooms.runner.turn()
    world.steve.state.skip_transaction_pks(3_000)
    done = world.charge("A", 2_000)
    world.charge("A", None, charge_box_id="B", start_at=ago(minutes=5))
    world.clock.advance(minutes=1)
    await world.rooms.runner.turn()
    assert done.pk > 3_000
    assert world.counted() == (3_000, 2)


async def test_a_row_that_is_committed_late_fills_its_gap(world: World) -> None:
    """A transaction whose id lies below the cursor, because its commit came late, is not lost."""
    await world.link("A")
    late = world.charge("A", 1_000)
    del world.steve.state.transactions[late.pk]
    world.charge("A", 2_000, charge_box_id="B")
    await world.rooms.runner.turn()
    assert world.counted() == (2_000, 1)
    world.steve.state.transactions[late.pk] = late
    world.clock.advance(seconds=30)
    await world.rooms.runner.turn()
    assert world.counted() == (3_000, 2)
