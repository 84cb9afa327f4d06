"""The service as it runs: Lago tells on its public port, what it tells is acted on, and a proof can be asked for."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from deploy.demo.lago import lifecycle
from services.sync.main import build
from shared.bus.requests import Requester
from shared.bus.topology import Topology
from shared.contracts.identity import Actor
from shared.contracts.requests.sync_work import Reconcile
from shared.runtime.clock import utc_now
from shared.web.server import HttpServer
from tests.integration.services.sync.conftest import World, eventually

ADA = Actor(kind="operator", id="ada")


@pytest.fixture
async def ask(broker: str, world: World) -> AsyncIterator[Requester]:
    """The service in this process, told of by its Lago, and somebody who asks it."""
    settings = world.settings.model_copy(
        update={"amqp_url": SecretStr(broker), "lago_webhook_key": SecretStr(world.lago.settings.webhook_hmac_key)}
    )
    service = build(settings)
    (http,) = [part for part in service.parts if isinstance(part, HttpServer) and part.name == "http"]
    world.lago.webhooks.url = f"http://127.0.0.1:{http.port}/webhooks/lago"
    requester = Requester(broker, service="admin_api", topology=Topology(), clock=utc_now)
    stop = asyncio.Event()
    running = [asyncio.create_task(service.run(stop)), asyncio.create_task(requester.run(stop))]
    yield requester
    stop.set()
    await asyncio.gather(*running)


async def test_lago_tells_and_the_proof_holds(world: World, ask: Requester) -> None:
    """A subscription ends in Lago: sync knows at once, without being asked to look; what was billed is proven."""
    await world.link("A")
    world.charge("A", 4_200)

    async def counted() -> bool:
        rows = await world.rows("SELECT 1 FROM sync.session WHERE billing = 'counted'")
        return len(rows) == 1

    await eventually(counted, within_s=20)
    (before,) = await world.rows("SELECT active FROM sync.subscription")
    # Lago tells whole seconds: what came within that of an end is not known to have come before it.
    world.clock.advance(seconds=1)
    lifecycle.terminate(world.lago.state, "sub_ada")

    async def followed() -> bool:
        (row,) = await world.rows("SELECT active, ended_at FROM sync.subscription")
        return not row.active and row.ended_at is not None

    await eventually(followed)
    assert before.active
    assert {one.statuses[-1] for one in world.lago.webhooks.deliveries} == {200}
    result = await ask.ask(Reconcile(external_subscription_id="sub_ada"), actor=ADA, deadline_s=10)
    (row,) = result.rows
    assert (row.equal, row.steve_wh, row.counted_wh) == (True, 4_200, 4_200)
