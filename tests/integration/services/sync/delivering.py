"""What the tests of delivery do."""

import contextlib

from services.sync.upstreams.breaker import Breaker
from services.sync.upstreams.errors import UpstreamError
from tests.integration.services.sync.conftest import World

BATCH = "/api/v1/events/batch"


def let_time_pass(breaker: Breaker) -> None:
    """Its pauses are over, which go by the real time."""
    breaker.succeeded()
    breaker._allowed_at = 0.0


async def turns(world: World, count: int = 4) -> None:
    """Turns with enough time between them for every back-off to be over."""
    for _ in range(count):
        let_time_pass(world.rooms.lago._caller._breaker)
        with contextlib.suppress(UpstreamError):
            await world.turn()
        world.clock.advance(minutes=6)


def keep_time(world: World) -> None:
    """Lago is left alone for so long by the world's time, which goes faster than the real one."""
    world.rooms.lago._caller._breaker._clock = lambda: world.clock().timestamp()
