"""What the tests of delivery do."""

import contextlib

from services.sync.upstreams.errors import UpstreamError
from tests.integration.services.sync.conftest import World

BATCH = "/api/v1/events/batch"


async def turns(world: World, count: int = 4) -> None:
    """Turns with enough time between them for every back-off to be over."""
    for _ in range(count):
        world.rooms.lago._caller._breaker.succeeded()
        with contextlib.suppress(UpstreamError):
            await world.turn()
        world.clock.advance(minutes=6)


def keep_time(world: World) -> None:
    """Lago is left alone for so long by the world's time, which goes faster than the real one."""
    world.rooms.lago._caller._breaker._clock = lambda: world.clock().timestamp()
