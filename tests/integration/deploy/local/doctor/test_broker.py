import asyncio
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import aio_pika
import pytest

from deploy.local.doctor.broker.ask import check
from deploy.local.doctor.target import Target
from deploy.local.environment import AMQP
from deploy.local.infra.folder import Folder
from deploy.local.infra.server import Server
from shared.bus.publisher import LEADERLESS, Publisher, connect
from shared.bus.topology import Topology, parked_queue
from tests.infra import provided
from tests.integration.deploy.local.doctor.conftest import SECRET, answers
from tests.waiting import until


async def declared(url: str) -> None:
    async with await connect(url, "test") as connection, connection.channel() as channel:
        await Topology().declare(channel)


async def test_what_is_declared_and_what_is_parked_is_told(broker: Target) -> None:
    """Queues that are missing are named and not made; then all is fine; a parked message is counted, and left alone."""
    url = broker.given[AMQP]
    results = await check(broker)
    assert answers(results) == {"reachable": "yes", "credentials": "yes", "topology": "no", "parked": "yes"}
    assert "given by its URL" in results[0].why
    assert "exchange expressync.events" in results[2].why
    assert answers(await check(broker))["topology"] == "no"

    await declared(url)
    assert set(answers(await check(broker)).values()) == {"yes"}

    async with await connect(url, "test") as connection, connection.channel() as channel:
        name = parked_queue("audit.events")
        message = aio_pika.Message(b"{}", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, name)

        async def counted() -> bool:
            return answers(await check(broker))["parked"] == "no"

        await until(counted)
        found = (await check(broker))[3]
        assert "1 message" in found.why
        assert f"{name} 1" in found.why
        assert "expressync parked list" in (found.remedy or "")
        queue = await channel.get_queue(name, ensure=False)
        left = await queue.get(no_ack=True)
        assert left is not None
        assert left.body == b"{}"


@pytest.mark.parametrize("change", [{"password": SECRET}, {"user": "nobody"}, {"path": "/elsewhere"}])
async def test_credentials_that_are_refused_are_told_apart_from_a_broker_that_is_away(
    broker: Target, change: dict[str, str]
) -> None:
    """A wrong password, user or virtual host is a finding about credentials; the broker itself answers."""
    parts = urlsplit(broker.given[AMQP])
    netloc = f"{change.get('user', parts.username)}:{change.get('password', parts.password)}@127.0.0.1:{parts.port}"
    url = urlunsplit(parts._replace(netloc=netloc, path=change.get("path", "")))
    results = await check(Target(broker.home, None, {AMQP: url}))
    assert answers(results) == {"reachable": "yes", "credentials": "no", "topology": "unknown", "parked": "unknown"}
    assert SECRET not in str(results)


@pytest.mark.parametrize("url", ["amqp://u:{}@127.0.0.1:1/", "amqp://u:{}@h:port/", "amqps://u:{}@127.0.0.1:1/"])
async def test_an_address_where_nobody_is_or_that_is_none_is_told(target: Callable[..., Target], url: str) -> None:
    """A closed port and a malformed URL end in a finding and not in an error."""
    results = await check(target(**{AMQP: url.format(SECRET)}))
    assert answers(results)["reachable"] == "no"
    assert SECRET not in str(results)


async def test_a_private_broker_is_told_to_be_down_and_is_not_started(target: Callable[..., Target]) -> None:
    """Where the stack does not run, the remedy is to start it; the doctor leaves no trace."""
    installation = target()
    results = await check(installation)
    assert (results[0].answer, results[0].remedy) == ("no", "Start it with `expressync up`.")
    assert not installation.home.base.exists()


async def test_a_private_broker_that_runs_is_found_by_its_folder(
    servers: Callable[[str], Server], target: Callable[..., Target]
) -> None:
    """Without a URL, the node of this home is asked, with its own port and password, while its folder is locked."""
    node = urlsplit(servers("rabbitmq").url)
    folder = Folder(target().home.folder / "rabbitmq")
    folder.write("port", str(node.port))
    folder.write("password", str(node.password))
    fd = folder.lock("RabbitMQ")
    try:
        results = await check(target())
    finally:
        folder.unlock()
    assert fd > 0
    assert answers(results)["credentials"] == "yes"
    assert "private node" in results[0].why


# It makes such a queue by two starts of a broker of its own.
@pytest.mark.full
async def test_a_queue_without_a_leader_is_named_and_its_remedy_helps(
    tmp_path: Path, target: Callable[..., Target]
) -> None:
    """A broker that is killed right after a queue's declaration loses it halfway: it is named, and deleting helps."""
    name = parked_queue("audit.events")
    with provided(tmp_path / "own", given=False) as own:
        rabbitmq = own.rabbitmq
        await declared(rabbitmq.url)
        async with await connect(rabbitmq.url, "test") as connection:
            channel = await connection.channel()
            await channel.queue_delete(name)
            queue = await channel.declare_queue(name, durable=True, arguments=Topology().parked_arguments())
            # With a confirm: the broker has promised to keep it.
            await channel.default_exchange.publish(aio_pika.Message(b"{}"), queue.name)
            await asyncio.to_thread(rabbitmq.kill)
        await asyncio.to_thread(rabbitmq.start)
        installation = target(**{AMQP: rabbitmq.url})
        results = await check(installation)
        assert answers(results) == {"reachable": "yes", "credentials": "yes", "topology": "no", "parked": "unknown"}
        assert name in results[2].why
        assert f"rabbitmqctl delete_queue {name}" in (results[2].remedy or "")
        async with Publisher(rabbitmq.url, name="test", topology=Topology()) as publisher:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(3):
                    await publisher.publish(aio_pika.Message(b"{}"), exchange="", routing_key=name)
            assert str(await publisher.silence()) == LEADERLESS
        async with await connect(rabbitmq.url, "test") as connection, connection.channel() as channel:
            await channel.queue_delete(name)
        await declared(rabbitmq.url)
        assert set(answers(await check(installation)).values()) == {"yes"}
