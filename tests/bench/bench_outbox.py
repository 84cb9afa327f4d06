"""The outbox's relay against raw publishing of the same bodies to the same quorum queue.

Both publish persistent messages with confirms, mandatory, with as many in flight. The relay also claims the rows and
deletes them, durably. A round measures both, one after the other, and the next round the other way round; the ratio is
the median of the rounds'. Beside it stands the relay as preauth and sync run it: resting, to leave the machine to taps.
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aio_pika
import sqlalchemy as sa
import uvloop
from prometheus_client import CollectorRegistry

from services.preauth.main import RELAY_REST
from shared.bus.outbox import Outbox
from shared.bus.relay import BATCH, CONCURRENT_BATCHES, Relay
from shared.bus.topology import EVENTS, Topology, events_queue
from shared.contracts.event import CONTENT_TYPE
from shared.contracts.events.preauth import TapDecided
from shared.contracts.identity import Actor, Cause
from shared.database.engine import Database
from shared.database.tables import service_metadata
from shared.runtime.clock import utc_now, uuid7
from tests.bench.figures import median, quantile
from tests.databases import fresh_database
from tests.infra import provided
from tests.integration.shared.conftest import create_toy_schema

EVENTS_A_ROUND = 10_000
ROUNDS = 5
STEADY_PER_S = 100
STEADY_S = 20
CAUSE = Cause(actor=Actor(kind="charger", id="CP-7"), correlation_id=uuid4())
QUEUE = events_queue("audit")
IN_FLIGHT = BATCH * CONCURRENT_BATCHES


def tap() -> TapDecided:
    return TapDecided(
        tap_id=uuid7(),
        charge_box_id="CP-7",
        connector_id=1,
        id_tag="04A1B2C3D4E5F6",
        kind="authorize",
        decision="pass",
        reason="nothing_armed",
        told="passed",
        in_time=True,
        duration_us=2400,
        via="hook",
        tapped_at=utc_now(),
    )


async def fill(database: Database, outbox: Outbox, count: int) -> None:
    for _ in range(0, count, 500):
        async with database.write() as tx:
            await outbox.add_all(tx, [tap() for _ in range(500)], CAUSE)


async def raw(amqp_url: str, bodies: list[tuple[UUID, bytes]]) -> float:
    """Seconds to publish the bodies, IN_FLIGHT confirms under way."""
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        exchange = await channel.get_exchange(EVENTS, ensure=False)
        waiting = iter(bodies)

        async def lane() -> None:
            for event_id, body in waiting:
                message = aio_pika.Message(
                    body,
                    content_type=CONTENT_TYPE,
                    delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                    message_id=str(event_id),
                    type="tap.decided",
                )
                await exchange.publish(message, "tap.decided", mandatory=True)

        started = time.perf_counter()
        await asyncio.gather(*(lane() for _ in range(IN_FLIGHT)))
        return time.perf_counter() - started


@asynccontextmanager
async def relaying(relay: Relay) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(relay.run(stop))
    try:
        yield
    finally:
        stop.set()
        await task


async def relayed(database: Database, relay: Relay) -> float:
    """Seconds from the relay's first claim until nothing waits; connecting is not counted."""
    started = 0.0
    async with relaying(relay):
        while not relay.connected:  # noqa: ASYNC110 - polled as any outsider would
            await asyncio.sleep(0.001)
        started = time.perf_counter()
        while await some_left(database):  # noqa: ASYNC110 - the same
            await asyncio.sleep(0.02)
        return time.perf_counter() - started


async def some_left(database: Database) -> bool:
    async with database.pool.connection() as connection:
        cursor = await connection.execute("SELECT EXISTS (SELECT FROM toy.outbox)")
        row = await cursor.fetchone()
        return bool(row and row[0])


async def purge(amqp_url: str) -> None:
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        await Topology().declare(channel)
        for service in ("audit", "preauth", "sync"):
            await (await channel.get_queue(events_queue(service), ensure=False)).purge()


async def steady(database: Database, outbox: Outbox, relay: Relay, amqp_url: str) -> list[float]:
    """Milliseconds from each commit until a consumer has the event, at a steady rate."""
    committed: dict[str, float] = {}
    consumed: dict[str, float] = {}

    async def receive(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        consumed[str(message.message_id)] = time.perf_counter()
        await message.ack()

    async with await aio_pika.connect(amqp_url) as connection, relaying(relay):
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=100)
        await (await channel.get_queue(QUEUE)).consume(receive)
        count = STEADY_PER_S * STEADY_S
        start = time.perf_counter()
        for number in range(count):
            await asyncio.sleep(max(0.0, start + number / STEADY_PER_S - time.perf_counter()))
            async with database.write() as tx:
                event_id = await outbox.add(tx, tap(), CAUSE)
            committed[str(event_id)] = time.perf_counter()
        for _ in range(200):
            if len(consumed) == count:
                break
            await asyncio.sleep(0.05)
    return [(consumed[event_id] - at) * 1000 for event_id, at in committed.items()]


def new_relay(database: Database, amqp_url: str, *, rest: float = 0.0) -> Relay:
    return Relay(database, amqp_url, service="bench", topology=Topology(), registry=CollectorRegistry(), rest=rest)


async def waiting(database: Database, table: sa.Table) -> list[tuple[UUID, bytes]]:
    async with database.read() as tx:
        rows = await tx.execute(sa.select(table.c.event_id, table.c.body).order_by(table.c.id))
        return [(row.event_id, bytes(row.body)) for row in rows]


def ratio(raws: list[float], relays: list[float]) -> float:
    """The median over rounds of what raw publishing took, to what the relay took."""
    return round(median([raw_s / relay_s for raw_s, relay_s in zip(raws, relays, strict=True)]), 3)


async def measure(database_url: str, amqp_url: str) -> dict[str, Any]:
    metadata = service_metadata("toy")
    database = Database(database_url, application="bench", schema="toy")
    await database.open()
    relay = new_relay(database, amqp_url)
    outbox = Outbox(metadata, clock=utc_now, new_id=uuid7, wake=relay.wake)
    raws: list[float] = []
    relays: list[float] = []
    resting: list[float] = []
    bodies: list[tuple[UUID, bytes]] = []
    await purge(amqp_url)
    for number in range(ROUNDS):
        await fill(database, outbox, EVENTS_A_ROUND)
        bodies = await waiting(database, metadata.tables["toy.outbox"])
        for raw_now in (number % 2 == 0, number % 2 == 1):
            if raw_now:
                raws.append(await raw(amqp_url, bodies))
            else:
                relays.append(await relayed(database, relay))
            await purge(amqp_url)
        await fill(database, outbox, EVENTS_A_ROUND)
        resting.append(await relayed(database, new_relay(database, amqp_url, rest=RELAY_REST)))
        await purge(amqp_url)
    # As preauth and sync have it, which publish nearly everything.
    rested = new_relay(database, amqp_url, rest=RELAY_REST)
    waking = Outbox(metadata, clock=utc_now, new_id=uuid7, wake=rested.wake)
    latencies = await steady(database, waking, rested, amqp_url)
    await database.close()
    return {
        "ratio_to_raw_publish": ratio(raws, relays),
        "ratio_to_raw_publish_resting": ratio(raws, resting),
        "relayed_events_per_s": round(EVENTS_A_ROUND / median(relays)),
        "raw_events_per_s": round(EVENTS_A_ROUND / median(raws)),
        "relayed_events_per_s_resting": round(EVENTS_A_ROUND / median(resting)),
        "body_bytes": len(bodies[0][1]),
        "confirms_in_flight": IN_FLIGHT,
        "commit_to_consumed_p50_ms": round(quantile(latencies, 0.5), 2),
        "commit_to_consumed_p99_ms": round(quantile(latencies, 0.99), 2),
        "steady_events_per_s": STEADY_PER_S,
    }


def main() -> dict[str, Any]:
    with (
        tempfile.TemporaryDirectory() as folder,
        provided(Path(folder)) as infra,
        fresh_database(infra.postgres.url) as database,
    ):
        create_toy_schema(database.admin_url)
        return uvloop.run(measure(database.admin_url, infra.rabbitmq.url))
