"""Services start in any order, whatever is missing: they live, say what they lack, and work once it is there."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import aio_pika
import pytest

from shared.bus.topology import SUBSCRIPTIONS, events_queue, parked_queue, requests_queue, retry_queue
from tests.faults.billing import CARD, CHARGER, CUSTOMER, SUBSCRIPTION, Billing
from tests.faults.conftest import Worlds
from tests.faults.console import signed_in
from tests.faults.proxy import Proxy
from tests.faults.taps import check_answers
from tests.faults.world import World, do, new_world
from tests.infra import Infra
from tests.waiting import until

ENERGY_WH = 12_345
DATABASE, BROKER = "database", "broker"
REFUSED, SILENT = "refused", "silent"
# What each service says that it lacks, by what is missing.
LISTENS_AND_ANSWERS = {"broker", "events", "requests"}
LACKS = {
    "preauth": {DATABASE: {"database", "taps"}, BROKER: LISTENS_AND_ANSWERS | {"asking"}},
    "sync": {DATABASE: {"database"}, BROKER: LISTENS_AND_ANSWERS},
    "audit": {DATABASE: {"database"}, BROKER: LISTENS_AND_ANSWERS},
    "admin_api": {DATABASE: {"database"}, BROKER: {"broker", "asking"}},
}


@pytest.fixture
async def fresh(
    worlds: Worlds, breakable: Infra, tmp_path: Path, billing: Billing, order: Sequence[str]
) -> AsyncIterator[World]:
    """Services that were never started, and a broker that has never seen them."""
    await worlds.leave()
    async with new_world(breakable, tmp_path, order, more=billing.settings) as world:
        await delete_queues(world.rabbitmq.url)
        yield world


async def delete_queues(amqp_url: str) -> None:
    async with await aio_pika.connect(amqp_url, timeout=30) as connection:
        channel = await connection.channel()
        for service in SUBSCRIPTIONS:
            queue = events_queue(service)
            for name in (requests_queue(service), queue, retry_queue(queue), parked_queue(queue)):
                await channel.queue_delete(name)


def ways_to(world: World, what: str) -> list[Proxy]:
    return [service.database if what == DATABASE else service.broker for service in world.services.values()]


async def take_away(proxy: Proxy, how: str) -> None:
    """Refused: nobody listens. Silent: connections are accepted, and nothing ever comes back."""
    if how == REFUSED:
        await proxy.refuse()
    else:
        proxy.stall()


async def give_back(proxy: Proxy, how: str) -> None:
    if how == REFUSED:
        await proxy.accept()
    else:
        proxy.resume()


async def all_lack(world: World, missing: Sequence[str]) -> None:
    services = world.services.items()
    await asyncio.gather(*(service.lacking(_lacks(name, missing)) for name, service in services))
    assert all(await asyncio.gather(*(service.is_healthy() for _, service in services)))


def _lacks(name: str, missing: Sequence[str]) -> set[str]:
    return set().union(*(LACKS[name][what] for what in missing))


FIRST_PREAUTH = ("preauth", "sync", "admin_api", "audit")
FIRST_AUDIT = ("audit", "admin_api", "sync", "preauth")
FIRST_SYNC = ("sync", "preauth", "audit", "admin_api")
FIRST_ADMIN_API = ("admin_api", "audit", "preauth", "sync")


@pytest.mark.parametrize(
    ("order", "missing", "how", "again"),
    [
        pytest.param(FIRST_AUDIT, (BROKER, DATABASE), REFUSED, True, id="audit first, all missing"),
        pytest.param(FIRST_PREAUTH, (DATABASE, BROKER), SILENT, False, id="preauth first, all silent"),
        *(
            pytest.param(*case, True, id=name, marks=pytest.mark.full)
            for name, case in {
                "preauth first, all missing": (FIRST_PREAUTH, (DATABASE, BROKER), REFUSED),
                "sync first, without a broker": (FIRST_SYNC, (BROKER,), REFUSED),
                "admin_api first, without a database": (FIRST_ADMIN_API, (DATABASE,), REFUSED),
                "admin_api first, all silent": (FIRST_ADMIN_API, (BROKER, DATABASE), SILENT),
            }.items()
        ),
    ],
)
async def test_services_start_in_any_order_and_without_what_they_need(
    fresh: World, billing: Billing, order: Sequence[str], missing: Sequence[str], how: str, *, again: bool
) -> None:
    """Each lives, its readiness names what is missing, the hook lets taps through, and then all of them work, `again`
    after both servers went away from services that run, and came back.
    """
    for what in missing:
        for proxy in ways_to(fresh, what):
            await take_away(proxy, how)
    for name in order:
        await fresh.services[name].start()
        await until(fresh.services[name].is_healthy, within_s=60)
    await all_lack(fresh, missing)
    answers = await fresh.taps.many(50)
    # What is named first comes back first.
    for number, what in enumerate(missing, 1):
        for proxy in ways_to(fresh, what):
            await give_back(proxy, how)
        answers += await fresh.taps.during(all_lack(fresh, missing[number:]))
    await check_that_all_work(fresh, billing, again=again)
    healthy = await fresh.taps.many(50)
    await fresh.settled()
    check_answers(answers, healthy)
    await fresh.check_journal([*answers, *healthy])


async def check_that_all_work(world: World, billing: Billing, *, again: bool) -> None:
    """A card is linked through admin_api; sync bills its session, audit records it, and admin_api reads that."""
    async with signed_in(world) as console:
        await console.until_known(CARD)
        await console.link(CARD, CUSTOMER, SUBSCRIPTION, billing.subscribed_at)
        sessions = [billing.charge(ENERGY_WH)]
        entries = await console.entries_of("transaction.counted", 1)
        if again:
            await do(world.postgres.kill, world.rabbitmq.stop)
            await do(world.postgres.start, world.rabbitmq.start)
            await all_lack(world, ())
            sessions.append(billing.charge(ENERGY_WH, f"{CHARGER}-2"))
            entries = await console.entries_of("transaction.counted", len(sessions))
    assert sorted(entry["data"]["session"] for entry in entries) == sorted(sessions)
    assert billing.counted == (len(sessions) * ENERGY_WH, len(sessions))
