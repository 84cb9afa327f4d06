"""A period that is over is compared by its events, because Lago's total is about the current one only."""

from deploy.demo.lago import LagoSettings, lifecycle
from services.sync.reconcile import store
from shared.runtime.clock import utc_now
from tests.integration.services.sync.conftest import Build, World, ago
from tests.integration.services.sync.invariant.history import lago_seed
from tests.integration.services.sync.reconcile.test_reconcile import billed, lose, settle


async def turn(world: World) -> list[tuple[bool, int, int]]:
    """Compare what is due; what is kept of each period by now, the oldest first."""
    world.clock.advance(seconds=world.settings.reconcile_every_s + 1)
    await world.rooms.reconciler.run_due()
    rows = await world.rows("SELECT * FROM sync.reconcile_result ORDER BY period_from")
    return [(row.equal, row.steve_wh, row.counted_wh) for row in rows]


async def test_an_error_that_was_repaired_in_time_is_none_afterwards(world: World) -> None:
    """Lago once objected to an event and its total has it since: that is proven, and stays so when only the events are
    left to look at. What it objects to after that is told.
    """
    pk, other = await billed(world, 2_000, 3_000)

    async def report(which: int) -> None:
        async with world.service.database.write() as tx:
            problems = {f"steve:main:{which}:1": "missing_aggregation_property"}
            await store.report_errors(tx, problems, world.clock())

    await report(pk)
    assert await turn(world) == [(True, 5_000, 5_000)]
    await report(other)
    lifecycle.upgrade(world.lago.state, "sub_ada", "ev")
    assert await turn(world) == [(False, 5_000, 2_000), (True, 0, 0)]
    [told] = await world.events("reconcile.mismatch_found")
    assert told.data["sessions"] == [f"main:{other}"]


async def test_a_period_that_ended_before_it_was_ever_compared_is_compared(world: World) -> None:
    """What Lago lost in it is found by the first comparison, which is of the next period."""
    lost, _ = await billed(world, 2_000, 3_000)
    lose(world, lost)
    lifecycle.upgrade(world.lago.state, "sub_ada", "ev")
    assert await turn(world) == [(False, 5_000, 3_000), (True, 0, 0)]
    assert await turn(world) == [(False, 5_000, 3_000), (True, 0, 0)]
    assert len(await world.events("reconcile.mismatch_found")) == 1


async def test_no_period_is_passed_over_while_nothing_is_compared(build_world: Build) -> None:
    """Where several ended since the last comparison, each time in which something was billed is compared."""
    world = await build_world(lago=LagoSettings(seed=lago_seed(utc_now())))
    await world.link("A")
    world.charge("A", 1_000, start_at=ago(hours=1))
    await settle(world)
    assert await turn(world) == [(True, 1_000, 1_000)]
    world.clock.advance(days=6)
    lost = world.charge("A", 2_000, start_at=world.clock()).pk
    world.clock.advance(minutes=6)
    await settle(world)
    lose(world, lost)
    world.clock.advance(days=7)
    assert await turn(world) == [(True, 1_000, 1_000), (False, 2_000, 0), (True, 0, 0)]


async def test_without_an_answer_about_what_is_over_it_is_asked_again(world: World) -> None:
    """A comparison of which a part was not answered is not taken for the first one."""
    lost, _ = await billed(world, 2_000, 3_000)
    lose(world, lost)
    lifecycle.upgrade(world.lago.state, "sub_ada", "ev")
    world.lago.faults.add("http_500", path="/api/v1/events", method="GET")
    assert await turn(world) == []
    world.lago.faults.clear()
    world.rooms.lago._caller._breaker.succeeded()
    assert await turn(world) == [(False, 5_000, 3_000), (True, 0, 0)]
