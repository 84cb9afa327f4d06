"""What becomes of messages whose consumers die of them."""

import asyncio
import zlib
from uuid import uuid4

import aio_pika
import pytest
import sqlalchemy as sa
from prometheus_client import CollectorRegistry

from shared.bus import inbox, parking
from shared.bus.inbox import Consumer
from shared.bus.publisher import Publisher
from shared.bus.topology import EVENTS, Topology
from shared.contracts.event import Envelope, seal
from shared.contracts.events.sync import CardDiscovered
from shared.database.engine import Database, Write
from shared.runtime.clock import utc_now
from tests.databases import TestDatabase
from tests.integration.shared.conftest import CAUSE, NAME, card, toy_metadata
from tests.waiting import until

SHORT = Topology(retry_after_ms=500, delivery_limit=5)
ATTEMPTS = 3
DEADLY = 1


def event(number: int, halves: int) -> bytes:
    """A message that belongs to these halves, one bit a rest."""
    while True:
        body = seal(card(number), event_id=uuid4(), subject_version=1, at=utc_now(), cause=CAUSE)
        if zlib.crc32(body) & 0b111 == halves:
            return body


async def test_a_message_that_kills_its_consumer_ends_parked_and_the_others_are_handled(
    database: TestDatabase, broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that were taken together with it each time, and that no consumer lived long enough to handle."""
    monkeypatch.setattr(inbox, "MAX_ATTEMPTS", ATTEMPTS)
    metadata, handled = toy_metadata()
    toy = Database(database.admin_url, application="toy", schema="toy", pool_size=8)
    consumer = Consumer(toy, broker, service=NAME, metadata=metadata, topology=SHORT, registry=CollectorRegistry())
    dead = asyncio.Event()

    async def handle(tx: Write, event: CardDiscovered, envelope: Envelope) -> None:
        if event.ocpp_tag_pk == DEADLY:
            dead.set()
        else:
            await asyncio.sleep(0.05)
            await tx.execute(handled.insert().values(event_id=envelope.id, subject=event.subject()))
        if dead.is_set():
            await asyncio.Event().wait()

    consumer.on(CardDiscovered, handle)
    await toy.open()

    async def over() -> str:
        async with toy.read() as tx:
            subjects = list((await tx.execute(sa.select(handled.c.subject).order_by(handled.c.subject))).scalars())
        shelves = await parking.list_parked(broker, topology=SHORT)
        reasons = [message.reason for shelf in shelves for message in shelf.messages]
        return reasons[0] if subjects == ["card/CARD-2", "card/CARD-3", "card/CARD-4"] and len(reasons) == 1 else ""

    async with Publisher(broker, name="test", topology=SHORT) as publisher:
        for body in (event(2, 0b001), event(3, 0b010), event(DEADLY, 0b000), event(4, 0b100)):
            await publisher.publish(aio_pika.Message(body), exchange=EVENTS, routing_key="card.discovered")
    ending = asyncio.create_task(until(over, within_s=60, every_s=0.3))
    deaths = 0
    while not ending.done():
        dead.clear()
        life, death = asyncio.create_task(consumer.run(asyncio.Event())), asyncio.create_task(dead.wait())
        await asyncio.wait([ending, death, life], return_when=asyncio.FIRST_COMPLETED)
        deaths += death.done()
        life.cancel()
        death.cancel()
        await asyncio.gather(life, death, return_exceptions=True)
    await toy.close()
    assert "never settled" in await ending
    assert deaths <= ATTEMPTS * SHORT.delivery_limit
