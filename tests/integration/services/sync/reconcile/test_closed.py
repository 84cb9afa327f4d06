"""A period that is over is compared by its events, because Lago's total is about the current one only."""

from deploy.demo.lago import lifecycle
from services.sync.reconcile import store
from tests.integration.services.sync.conftest import World
from tests.integration.services.sync.reconcile.test_reconcile import billed


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
