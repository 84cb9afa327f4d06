"""Services start in any order, whatever is missing: they live, say what they lack, and work once it is there."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import aio_pika
import pytest

from shared.bus.topology import SUBSCRIPTIONS, events_queue, parked_queue, requests_queue, retry_queue
from tests.faults.conftest import Worlds
from tests.faults.proxy import Proxy
from tests.faults.taps import check_answers
from tests.faults.world import World, new_world
from tests.infra import Infra
from tests.waiting import until

DATABASE, BROKER = "database", "broker"
# What each service says that it lacks, by what is missing.
LISTENS_AND_ANSWERS = {"broker", "events", "requests"}
LACKS = {
    "preauth": {DATABASE: {"database", "taps"}, BROKER: LISTENS_AND_ANSWERS},
    "sync": {DATABASE: {"database"}, BROKER: LISTENS_AND_ANSWERS},
    "audit": {DATABASE: {"database"}, BROKER: LISTENS_AND_ANSWERS},
    "admin_api": {DATABASE: {"database"}, BROKER: {"broker"}},
}


@pytest.fixture
async def fresh(worlds: Worlds, breakable: Infra, tmp_path: Path, order: Sequence[str]) -> AsyncIterator[World]:
    """Services that were never started, and a broker that has never seen them."""
    await worlds.leave()
    async with new_world(breakable, tmp_path, order) as world:
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


async def all_lack(world: World, missing: Sequence[str]) -> None:
    for name, service in world.services.items():
        await service.lacking(set().union(*(LACKS[name][what] for what in missing)))
        assert await service.is_healthy()


@pytest.mark.parametrize(
    ("order", "missing"),
    [
        pytest.param(("preauth", "sync", "admin_api", "audit"), (DATABASE, BROKER), id="preauth first, all missing"),
        pytest.param(("audit", "admin_api", "sync", "preauth"), (BROKER, DATABASE), id="audit first, all missing"),
        pytest.param(("preauth", "audit"), (BROKER,), id="preauth first, without a broker"),
        pytest.param(("audit", "preauth"), (DATABASE,), id="audit first, without a database"),
    ],
)
async def test_services_start_in_any_order_and_without_what_they_need(
    fresh: World, order: Sequence[str], missing: Sequence[str]
) -> None:
    """Each lives, its readiness names what is missing, the hook lets taps through, and nothing of it is lost."""
    for what in missing:
        for proxy in ways_to(fresh, what):
            await proxy.refuse()
    for name in order:
        await fresh.services[name].start()
        await until(fresh.services[name].is_healthy, within_s=60)
    await all_lack(fresh, missing)
    answers = await fresh.taps.many(30)
    assert {answer.override for answer in answers} == {None}
    check_answers(answers)
    # What is named first comes back first.
    for number, what in enumerate(missing, 1):
        for proxy in ways_to(fresh, what):
            await proxy.accept()
        await all_lack(fresh, missing[number:])
        answers += await fresh.taps.many(10)
    await fresh.settled()
    check_answers(answers)
    await fresh.check_journal(answers)
