"""The service as it runs: its parts, the broker, the requests of others."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TypeVar

import pytest
from pydantic import BaseModel

from services.sync.main import build
from shared.bus.requests import Requester
from shared.bus.topology import Topology
from shared.contracts.identity import Actor
from shared.contracts.request import Request, registered
from shared.contracts.requests import sync
from shared.contracts.requests import sync_cards as cards
from shared.contracts.requests import sync_work as work
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

R = TypeVar("R", bound=BaseModel)
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


async def test_every_request_of_the_contracts_is_answered(ask: Requester, world: World) -> None:
    """Whatever the contracts say that sync may be asked for, its owner answers over the bus, in the form they say."""
    asked: set[str] = set()

    async def say(request: Request[R]) -> R:
        asked.add(request.name)
        return await ask.ask(request, actor=ADA, key=str(uuid7()) if request.command else None)

    ada = {"external_customer_id": "cus_ada", "external_subscription_id": "sub_ada"}
    bob = {"external_customer_id": "cus_bob", "external_subscription_id": "sub_bob"}
    card = await say(cards.CreateCard(id_tag="A"))
    await say(cards.CreateCard(id_tag="TOP"))
    assert (await say(GetCard(id_tag="A"))).id_tag == card.id_tag
    assert {one.id_tag for one in (await say(SearchCards())).cards} == {"A", "TOP"}
    assert (await say(ReadCardInSteve(id_tag="A"))).card is not None
    assert len((await say(cards.SnapshotCards())).cards) == 2
    assert (await say(cards.ChangeCard(id_tag="A", changes={"cardholder": "Ada"}))).cardholder == "Ada"
    assert (await say(cards.ChangeParent(id_tag="A", parent_id_tag="TOP"))).ancestors == ["TOP"]
    assert (await say(cards.SetExpiry(id_tag="A", expiry=utc_now() + timedelta(days=9)))).steve is not None
    blocked = await say(cards.BlockCard(id_tag="A", reason="lost"))
    assert blocked.last_change_id is not None
    assert (await say(cards.UndoChange(change_id=blocked.last_change_id))).block_kind is None
    await say(cards.BlockCard(id_tag="A", reason="lost"))
    assert (await say(cards.UnblockCard(id_tag="A"))).block_kind is None
    assert (await say(cards.PreviewLink(id_tag="A", **ada))).problems == []
    assert (await say(LinkCard(id_tag="A", valid_from=ago(days=30), **ada))).link is not None
    assert {one.external_customer_id for one in (await say(SearchCustomers())).customers} == {"cus_ada", "cus_bob"}
    subscription = (await say(sync.GetSubscription(external_subscription_id="sub_ada"))).subscription
    assert subscription is not None
    assert (subscription.external_customer_id, subscription.status) == ("cus_ada", "active")
    assert (await say(cards.GetPortalUrl(external_customer_id="cus_ada"))).url is not None
    billed, held = world.charge("A", 1_000).pk, world.charge("A", 0).pk

    async def seen() -> bool:
        return len((await say(work.SearchHeld())).held) == 1

    await eventually(seen)
    session = await say(sync.GetSession(session=f"main:{billed}"))
    assert (session.energy_wh, session.id_tag) == (1_000, "A")
    assert len((await say(SearchSessions(id_tag="A"))).sessions) == 2
    assert (await say(work.RetryHeld(sessions=[f"main:{held}"]))).sessions == [f"main:{held}"]
    await eventually(seen)
    await say(work.ReleaseHeld(sessions=[f"main:{held}"]))
    again = world.charge("A", 0).pk
    await eventually(seen)
    assert (await say(work.IgnoreHeld(sessions=[f"main:{again}"], note="nothing"))).sessions == [f"main:{again}"]
    run = await say(work.StartRun())
    assert (await say(work.GetRun(run_id=run.run_id))).run.trigger == "operator"
    assert run.run_id in {one.run_id for one in (await say(work.ListRuns())).runs}
    assert (await say(work.PinCadence(mode="active"))).pinned_by == "ada"
    assert [one.external_subscription_id for one in (await say(work.Reconcile())).rows] == ["sub_ada"]
    assert (await say(cards.RelinkCard(id_tag="A", **bob))).link is not None
    assert (await say(cards.UnlinkCard(id_tag="A"))).link is None
    operated = await say(sync.OperateCharger(charge_box_id="CP-1", operation="ClearCache"))
    assert operated.outcome == "not_connected"
    assert {one.state for one in (await say(GetUpstreams())).upstreams} == {"ok"}
    assert (await say(sync.ReplayWebhooks(unique_keys=["none"]))).unknown == ["none"]
    assert asked == {name for name, one in registered().items() if one.owner == "sync"}
