"""The service as it runs: its parts, the broker, the requests of others."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.sync.main import build
from shared.bus.requests import Requester
from shared.bus.topology import Topology
from shared.contracts.identity import Actor
from shared.contracts.requests.sync import (
    GetCard,
    GetUpstreams,
    LinkCard,
    ReadCardInSteve,
    SearchCards,
    SearchCustomers,
    SearchSessions,
)
from shared.runtime.clock import utc_now, uuid7
from tests.integration.services.sync.conftest import World, ago, eventually

ADA = Actor(kind="operator", id="ada")


@pytest.fixture
async def ask(broker: str, world: World) -> AsyncIterator[Requester]:
    """The service in this process, and somebody who asks it."""
    settings = world.settings.model_copy(
        update={"amqp_url": type(world.settings.amqp_url)(broker), "poll_s": 0.2, "cards_every_s": 0.5}
    )
    service = build(settings)
    requester = Requester(broker, service="admin_api", topology=Topology(), clock=utc_now)
    stop = asyncio.Event()
    running = [asyncio.create_task(service.run(stop)), asyncio.create_task(requester.run(stop))]
    yield requester
    stop.set()
    await asyncio.gather(*running)


async def test_a_stop_is_counted_within_seconds(ask: Requester, world: World) -> None:
    """A card is seen, linked by a request, charges, and is billed by itself; all of it can be asked for."""
    world.steve.state.add_tag("META")
    world.steve.state.add_tag("04A1B2C3", parent_id_tag="META")

    async def seen() -> bool:
        return len((await ask.ask(SearchCards(text="04a1"), actor=ADA)).cards) == 1

    await eventually(seen)
    link = LinkCard(
        id_tag="04a1b2c3", external_customer_id="cus_ada", external_subscription_id="sub_ada", valid_from=ago(days=30)
    )
    linked = await ask.ask(link, actor=ADA, key=str(uuid7()))
    assert linked.link is not None
    assert linked.link.linked_by == "ada"
    world.charge("04A1B2C3", 4_200)

    async def counted() -> bool:
        await asyncio.sleep(0)
        return world.counted() == (4_200, 1)

    await eventually(counted, within_s=5)

    async def synced() -> bool:
        page = await ask.ask(SearchSessions(id_tag="04A1B2C3"), actor=ADA)
        return page.sessions[0].billing.state in {"synced", "counted"}

    await eventually(synced)
    charging = world.charge("META", None, charge_box_id="CP-2")

    async def open_sessions() -> list[str]:
        return [one.session for one in (await ask.ask(SearchSessions(open_only=True), actor=ADA)).sessions]

    async def is_open() -> bool:
        return [one.rpartition(":")[2] for one in await open_sessions()] == [str(charging.pk)]

    await eventually(is_open)
    meta = await ask.ask(GetCard(id_tag="META"), actor=ADA)
    assert meta.children == ["04A1B2C3"]
    answer = await ask.ask(ReadCardInSteve(id_tag="04A1B2C3"), actor=ADA)
    assert answer.answered
    assert answer.card is not None
    assert answer.parent is not None
    assert answer.parent.id_tag == "META"
    customers = await ask.ask(SearchCustomers(text="ada"), actor=ADA)
    assert [one.external_subscription_id for one in customers.customers[0].subscriptions] == ["sub_ada"]
    upstreams = await ask.ask(GetUpstreams(), actor=ADA)
    assert {one.upstream: one.state for one in upstreams.upstreams} == {"steve": "ok", "lago": "ok"}
