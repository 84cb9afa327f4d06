"""What SteVe recorded is seen in time, and told, however Lago stands."""

import asyncio

import pytest

from services.sync.upstreams.breaker import FAILURES_TO_OPEN
from shared.contracts.events.preauth import ChargerSessionStopped
from shared.contracts.requests.sync_work import StartRun
from tests.integration.services.sync.conftest import ADA, Build, World, ago, eventually
from tests.integration.services.sync.delivering import BATCH, turns
from tests.integration.services.sync.test_hints import envelope
from tests.integration.services.sync.test_runs import runs


async def tell_stopped(world: World, pk: int) -> None:
    """The gateway saw SteVe's answer to the stop, and the service hears of it."""
    event = ChargerSessionStopped(
        charge_box_id="CP-1",
        transaction_id=pk,
        connector_id=1,
        id_tag="A",
        meter_stop_wh=1,
        reason=None,
        stopped_at=ago(),
        seen_at=ago(),
    )
    async with world.service.database.write() as tx:
        for handler in world.service.consumer.handlers(event):
            await handler(tx, event, envelope(event))


async def test_a_service_that_starts_while_lago_is_down_sees_what_happens_at_once(build_world: Build) -> None:
    """A charger's word and an operator's run have the next look taken now, and a run in which SteVe was read is no
    failed one: it says what is the matter with Lago. Nothing is lost.
    """
    world = await build_world(poll_s=20)
    await world.link("A")
    world.lago.faults.add("down")
    stop = asyncio.Event()
    looking = asyncio.create_task(world.rooms.look.run(stop))

    async def looked() -> bool:
        return bool(await world.rows("SELECT 1 FROM sync.run_schedule WHERE lease_until IS NULL AND NOT mode IS NULL"))

    async def seen() -> bool:
        return bool(await world.rows("SELECT 1 FROM sync.session"))

    async def told() -> bool:
        return {run.trigger for run in await runs(world) if run.finished_at} == {"event", "operator"}

    try:
        await eventually(looked)
        await tell_stopped(world, world.charge("A", 1_000).pk)
        await eventually(seen, within_s=5)
        async with world.service.database.write() as tx:
            await world.rooms.runs.start_run(tx, StartRun(), ADA)
        await eventually(told, within_s=5)
    finally:
        stop.set()
        await looking
    assert {run.state for run in await runs(world)} == {"finished"}
    assert all("Lago: " in (run.problem or "") for run in await runs(world))
    world.lago.faults.clear()
    world.clock.advance(minutes=6)
    await turns(world, 2)
    assert world.counted() == (1_000, 1)


@pytest.mark.parametrize("why", ["down from the start", "left alone", "not set up", "takes no events"])
async def test_a_run_that_was_to_do_nothing_but_deliver_has_failed_without_lago(world: World, why: str) -> None:
    """It did none of what it was asked for, and says why, whether Lago was there before or not."""
    if why != "down from the start":
        await world.link("A")
        assert await world.rooms.gate.is_open()
    match why:
        case "down from the start":
            world.lago.faults.add("down")
        case "left alone":
            for _ in range(FAILURES_TO_OPEN):
                world.rooms.lago._caller._breaker.failed(60)
        case "not set up":
            world.lago.state.metrics["ev_charging_kwh"].field_name = "energy"
            world.clock.advance(minutes=15)
        case _:
            world.lago.faults.add("http_500", path=BATCH)
            world.charge("A", 1_000)
            for _ in range(6):
                world.clock.advance(minutes=6)
                await world.turn()
    async with world.service.database.write() as tx:
        await world.rooms.runs.start_run(tx, StartRun(segments=["settle", "deliver"]), ADA)
    await world.rooms.runner.turn()
    run = (await runs(world))[0]
    assert (run.state, "Lago: " in (run.problem or "")) == ("failed", True)


async def test_a_run_in_which_lago_is_back_is_no_failed_one(world: World) -> None:
    """Lago failed, and the first that it is asked again takes all that waits: the run did what it was to do."""
    await world.link("A")
    assert await world.rooms.gate.is_open()
    pk = world.charge("A", 1_000).pk
    await world.rooms.poller.poll()
    await world.rooms.settler.settle()
    breaker = world.rooms.lago._caller._breaker
    for _ in range(FAILURES_TO_OPEN):
        breaker.failed()
    breaker._closed_again_at = 0.0
    async with world.service.database.write() as tx:
        await world.rooms.runs.start_run(tx, StartRun(segments=["settle", "deliver"]), ADA)
    await world.rooms.runner.turn()
    [run] = await runs(world)
    assert (run.state, run.problem, (await world.session(pk)).billing) == ("finished", None, "synced")


@pytest.mark.parametrize(("why", "entries"), [("left alone", 1), ("not set up", 0)])
async def test_a_run_does_not_wait_for_what_cannot_go(world: World, why: str, entries: int) -> None:
    """Where Lago fails and is left alone, or is not set up for billing, no session is in anybody's hand."""
    await world.link("A")
    if why == "left alone":
        world.charge("A", 1_000)
        await world.rooms.runner.turn()
        for _ in range(FAILURES_TO_OPEN):
            world.rooms.lago._caller._breaker.failed(60)
    else:
        world.lago.state.metrics["ev_charging_kwh"].field_name = "energy"
    world.charge("A", 2_000)
    world.clock.advance(seconds=30)
    async with asyncio.timeout(5):
        await world.rooms.runner.turn()
    [run, *_] = await runs(world)
    assert (run.state, run.counters.failed, run.counters.held) == ("finished", entries, 1 - entries)
    untried = "SELECT 1 FROM sync.ledger_entry WHERE state = 'pending' AND attempts = 0"
    assert len(await world.rows(untried)) == entries
