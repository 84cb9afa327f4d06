"""The fault proxy before the real PostgreSQL and RabbitMQ: it stops the world exactly where a test says."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import aio_pika
import aiormq
import psycopg
import pytest

from tests.faults.proxy import DOWN, UP, in_front_of
from tests.faults.wire import BASIC_ACK, BASIC_PUBLISH, calls, commits, says_sql
from tests.infra import Infra

TABLE = "proxy_outbox"
QUEUE = "proxy-test"


async def becomes(wanted: object, ask: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(10):
        while await ask() != wanted:  # noqa: ASYNC110 - the other side of a network sets no event
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def connected(url: str, *, autocommit: bool = False) -> AsyncIterator[psycopg.AsyncConnection]:
    connection = await psycopg.AsyncConnection.connect(url, autocommit=autocommit)
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture
async def direct(infra: Infra) -> AsyncIterator[psycopg.AsyncConnection]:
    """A connection past the proxy, with a fresh table: what has truly happened."""
    url = await asyncio.to_thread(lambda: infra.postgres.url)
    async with connected(url, autocommit=True) as connection:
        await connection.execute(f"create table {TABLE} (id int)".encode())
        yield connection
        await connection.execute(f"drop table {TABLE}".encode())


async def rows(direct: psycopg.AsyncConnection) -> list[int]:
    cursor = await direct.execute(f"select id from {TABLE} order by id".encode())
    return [row[0] for row in await cursor.fetchall()]


async def backends_of(direct: psycopg.AsyncConnection, name: str) -> int:
    cursor = await direct.execute("select count(*) from pg_stat_activity where application_name = %s", (name,))
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def insert(connection: psycopg.AsyncConnection, value: int) -> None:
    await connection.execute(f"insert into {TABLE} values (%s)".encode(), (value,))


async def test_a_transaction_cut_before_its_commit_never_happened(
    infra: Infra, direct: psycopg.AsyncConnection
) -> None:
    """Held at the COMMIT of this table's transaction and then cut, PostgreSQL rolls back; another COMMIT passed."""
    async with in_front_of(infra.postgres.url) as (proxy, url):
        trap = proxy.stall_when(UP, commits(b"insert into", TABLE.encode()))
        async with connected(f"{url}?application_name=proxied") as connection:
            await connection.execute("select 1")
            await connection.commit()
            await insert(connection, 1)
            committing = asyncio.create_task(connection.commit())
            await trap.reached()
            assert await rows(direct) == []
            assert await backends_of(direct, "proxied") == 1
            await proxy.cut()
            with pytest.raises(psycopg.OperationalError):
                await committing
        await becomes(0, lambda: backends_of(direct, "proxied"))
        assert await rows(direct) == []


async def test_a_commit_whose_answer_was_lost_has_happened(infra: Infra, direct: psycopg.AsyncConnection) -> None:
    """With the answer held, the row is committed while its writer sees a broken connection."""
    async with in_front_of(infra.postgres.url) as (proxy, url), connected(url) as connection:
        trap = proxy.stall_when(UP, commits(TABLE.encode()), hold=DOWN)
        await insert(connection, 1)
        committing = asyncio.create_task(connection.commit())
        await trap.reached()
        await becomes([1], lambda: rows(direct))
        assert not committing.done()
        await proxy.cut()
        with pytest.raises(psycopg.OperationalError):
            await committing


async def test_a_held_commit_goes_on_after_resume(infra: Infra, direct: psycopg.AsyncConnection) -> None:
    """Nothing is lost by holding: after resume the same COMMIT succeeds."""
    async with in_front_of(infra.postgres.url) as (proxy, url), connected(url) as connection:
        trap = proxy.stall_when(UP, commits())
        await insert(connection, 1)
        committing = asyncio.create_task(connection.commit())
        await trap.reached()
        proxy.resume()
        await committing
        assert await rows(direct) == [1]


@pytest.mark.parametrize("prepared", [False, True])
async def test_a_delete_is_caught_also_when_it_was_prepared(
    infra: Infra, direct: psycopg.AsyncConnection, *, prepared: bool
) -> None:
    """The DELETE of an outbox row is held, whether its text is sent again or only the name it was prepared under."""
    delete = f"delete from {TABLE} where id = %s".encode()
    async with in_front_of(infra.postgres.url) as (proxy, url), connected(url, autocommit=True) as connection:
        await insert(connection, 1)
        if prepared:
            for _ in range(3):
                await connection.execute(delete, (0,), prepare=True)
        trap = proxy.stall_when(UP, says_sql(b"delete from", TABLE.encode()))
        deleting = asyncio.create_task(connection.execute(delete, (1,), prepare=prepared))
        message = await trap.reached()
        # Once prepared, its text no longer travels.
        assert (b"delete from" in message.raw) is not prepared
        assert await rows(direct) == [1]
        proxy.resume()
        await deleting
        assert await rows(direct) == []


@contextlib.asynccontextmanager
async def channel_of(url: str) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
    connection = await aio_pika.connect(url)
    try:
        yield await connection.channel()
    finally:
        with contextlib.suppress(aiormq.exceptions.AMQPError, ConnectionError):
            await connection.close()


@pytest.fixture
async def queue(infra: Infra) -> AsyncIterator[aio_pika.abc.AbstractQueue]:
    """A queue, seen past the proxy."""
    url = await asyncio.to_thread(lambda: infra.rabbitmq.url)
    async with channel_of(url) as channel:
        declared = await channel.declare_queue(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
        yield declared
        await declared.delete(if_unused=False, if_empty=False)


async def publish(channel: aio_pika.abc.AbstractChannel, body: bytes) -> None:
    await channel.default_exchange.publish(aio_pika.Message(body), QUEUE, timeout=20)


async def count(queue: aio_pika.abc.AbstractQueue) -> int:
    result = (await queue.channel.declare_queue(QUEUE, passive=True)).declaration_result
    assert result.message_count is not None
    return result.message_count


async def arrived(queue: aio_pika.abc.AbstractQueue, number: int) -> None:
    await becomes(number, lambda: count(queue))


async def test_a_publish_cut_before_the_broker_never_arrived(infra: Infra, queue: aio_pika.abc.AbstractQueue) -> None:
    """Held at its Basic.Publish and then cut, a message never reaches its queue; the one before it did."""
    async with in_front_of(infra.rabbitmq.url) as (proxy, url), channel_of(url) as channel:
        await publish(channel, b"first")
        trap = proxy.stall_when(UP, calls(BASIC_PUBLISH, QUEUE.encode()))
        publishing = asyncio.create_task(publish(channel, b"second"))
        await trap.reached()
        await proxy.cut()
        with pytest.raises((aiormq.exceptions.AMQPError, ConnectionError, asyncio.CancelledError)):
            await publishing
        await arrived(queue, 1)
        message = await queue.get(timeout=10)
        assert message.body == b"first"
        await message.ack()


async def test_a_confirm_that_was_lost_leaves_the_message_there(
    infra: Infra, queue: aio_pika.abc.AbstractQueue
) -> None:
    """With the confirm held, the message is in its queue while its publisher still waits."""
    async with in_front_of(infra.rabbitmq.url) as (proxy, url), channel_of(url) as channel:
        trap = proxy.stall_when(DOWN, calls(BASIC_ACK))
        publishing = asyncio.create_task(publish(channel, b"only"))
        await trap.reached()
        await arrived(queue, 1)
        assert not publishing.done()
        proxy.resume()
        await publishing


async def test_a_message_whose_ack_was_cut_is_delivered_again(infra: Infra, queue: aio_pika.abc.AbstractQueue) -> None:
    """Held at its Basic.Ack and then cut, a handled message comes back, marked as redelivered."""
    async with in_front_of(infra.rabbitmq.url) as (proxy, url), channel_of(url) as channel:
        await publish(channel, b"once")
        trap = proxy.stall_when(UP, calls(BASIC_ACK))
        behind = await channel.get_queue(QUEUE, ensure=False)
        message = await behind.get(timeout=10)
        # An ack is sent and not answered: it returns although it is held.
        await message.ack()
        await trap.reached()
        assert await count(queue) == 0
        await proxy.cut()
        await arrived(queue, 1)
        again = await queue.get(timeout=10)
        assert (again.body, again.redelivered) == (b"once", True)
        await again.ack()


async def test_a_stalled_broker_is_noticed_by_nobody_until_it_flows(
    infra: Infra, queue: aio_pika.abc.AbstractQueue
) -> None:
    """A publisher waits through a stall of both directions and is confirmed after it."""
    async with in_front_of(infra.rabbitmq.url) as (proxy, url), channel_of(url) as channel:
        proxy.stall()
        publishing = asyncio.create_task(publish(channel, b"patient"))
        await asyncio.sleep(0.2)
        assert (publishing.done(), await count(queue)) == (False, 0)
        proxy.resume()
        await publishing
        await arrived(queue, 1)
