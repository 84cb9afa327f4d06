"""The database goes away under load, in three ways, and comes back: no event is lost, and no tap waits for it."""

import asyncio

import pytest

from shared.database.engine import WAIT_FOR_CONNECTION_S
from tests.faults.taps import LOAD_PAUSE_S, check_answers
from tests.faults.world import World, do


@pytest.mark.parametrize(
    "way", ["stopped", *(pytest.param(way, marks=pytest.mark.full) for way in ("killed", "frozen"))]
)
async def test_the_database_goes_away_under_load_and_comes_back(world: World, way: str) -> None:
    """The hook answers all the time, readiness says so and recovers by itself, and every tap ends up in the journal."""
    before = len(world.taps.answers)
    gone = {"stopped": world.postgres.stop, "killed": world.postgres.kill, "frozen": world.postgres.freeze}[way]
    back = world.postgres.thaw if way == "frozen" else world.postgres.start
    healthy = await world.taps.many(50)
    connections = [service.broker.accepted for service in (world.preauth, world.audit)]
    leaving = await world.taps.during(do(gone), pause_s=LOAD_PAUSE_S)
    # Longer than a caller waits for a connection of the pool: whoever gives up then must not take others with it.
    lacking = (({"database", "taps"}, world.preauth), ({"database"}, world.audit))
    await asyncio.gather(*(service.lacking(what, for_s=WAIT_FOR_CONNECTION_S + 3) for what, service in lacking))
    # A sample each two seconds overlooks a connection that is made anew, for which readiness blames the broker.
    assert [service.broker.accepted for service in (world.preauth, world.audit)] == connections
    assert await world.preauth.is_healthy()
    assert await world.audit.is_healthy()
    meanwhile = await world.taps.many(100)
    coming_back = await world.taps.during(do(back))
    coming_back += await world.taps.during(asyncio.gather(world.preauth.ready(for_s=2), world.audit.ready(for_s=2)))
    afterwards = await world.taps.many(50)
    await world.settled()
    check_answers(meanwhile, healthy, afterwards)
    check_answers([*leaving, *meanwhile, *coming_back], healthy, afterwards)
    await world.check_journal(world.taps.answers[before:])
