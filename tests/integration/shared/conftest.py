"""A toy service on the real bus: what the foundation promises, tested without any service's own rules."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar
from uuid import uuid4

import aio_pika
import psycopg
import pytest
import sqlalchemy as sa
from pydantic import BaseModel

from shared.bus.topology import Topology, events_queue
from shared.contracts.event import Envelope
from shared.contracts.events.sync import CardDiscovered
from shared.contracts.identity import Actor, Cause
from shared.contracts.request import Request
from shared.database.engine import Write
from shared.database.tables import service_metadata
from shared.runtime.service import Service, assemble
from shared.runtime.settings import ServiceSettings
from tests.databases import Template, TestDatabase, fresh_database
from tests.infra import Infra
from tests.waiting import until

CAUSE = Cause(actor=Actor(kind="system", id="test"), correlation_id=uuid4())
TOPOLOGY = Topology(retry_after_ms=50)
# The toy takes preauth's place on the bus, which listens to card.* and is asked under "preauth".
NAME = "preauth"


class Toy(BaseModel):
    text: str


def misread() -> Toy:
    """What an owner's own mistake looks like: it reads something, which does not fit."""
    return Toy.model_validate({})


class Echo(Request[Toy]):
    name: ClassVar[str] = "echo"
    owner: ClassVar[str] = NAME
    reply = Toy
    text: str


class Write1(Request[Toy]):
    name: ClassVar[str] = "write_one"
    owner: ClassVar[str] = NAME
    command: ClassVar[bool] = True
    secret: ClassVar[frozenset[str]] = frozenset({"pin"})
    reply = Toy
    text: str
    pin: str | None = None


def card(number: int = 1) -> CardDiscovered:
    return CardDiscovered(id_tag=f"card-{number}", ocpp_tag_pk=number, parent_id_tag=None, blocked=False, expiry=None)


def toy_metadata() -> tuple[sa.MetaData, sa.Table]:
    metadata = service_metadata("toy")
    handled = sa.Table(
        "handled",
        metadata,
        sa.Column("number", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("event_id", sa.Uuid, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
    )
    return metadata, handled


@pytest.fixture(scope="package")
def toys(infra: Infra) -> Iterator[Template]:
    with fresh_database(infra.postgres.url) as original:
        create_toy_schema(original.admin_url)
        template = Template(original)
        yield template
        template.close()


@pytest.fixture
def database(toys: Template) -> Iterator[TestDatabase]:
    with toys.copy() as copy:
        yield copy


def create_toy_schema(admin_url: str) -> None:
    metadata, _ = toy_metadata()
    with psycopg.connect(admin_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA toy")
    engine = sa.create_engine(admin_url.replace("postgresql://", "postgresql+psycopg://"))
    metadata.create_all(engine)
    engine.dispose()


Handler = Callable[[Write, CardDiscovered, Envelope], Awaitable[None]]


class Running:
    """A running toy service."""

    def __init__(self, service: Service, handled: sa.Table) -> None:
        self.service, self.handled = service, handled

    async def publish(self, *numbers: int) -> list[Any]:
        async with self.service.database.write() as tx:
            return await self.service.outbox.add_all(tx, [card(number) for number in numbers], CAUSE)

    async def rows(self) -> list[Any]:
        async with self.service.database.read() as tx:
            return list(await tx.execute(sa.select(self.handled).order_by(self.handled.c.number)))

    async def scalar(self, statement: str) -> Any:  # noqa: ANN401 - whatever the statement selects
        async with self.service.database.read() as tx:
            return (await tx.execute(sa.text(statement))).scalar_one()


@asynccontextmanager
async def running(
    database_url: str,
    amqp_url: str,
    *,
    handler: Handler | None = None,
    where: Callable[[CardDiscovered], bool] = lambda _: True,
    wire: Callable[[Service], None] | None = None,
) -> AsyncIterator[Running]:
    """A toy service that writes each card.discovered into `toy.handled`, or does what `handler` does."""
    metadata, handled = toy_metadata()
    settings = ServiceSettings(
        database_url=database_url,
        port=0,
        ops_port=0,
        amqp_url=amqp_url,
    )
    service = assemble(NAME, settings, metadata, topology=TOPOLOGY)

    async def remember(tx: Write, event: CardDiscovered, envelope: Envelope) -> None:
        await tx.execute(handled.insert().values(event_id=envelope.id, subject=event.subject()))

    service.consumer.on(CardDiscovered, handler or remember, where=where)
    if wire is not None:
        wire(service)
    stop = asyncio.Event()
    task = asyncio.create_task(service.run(stop))

    async def up() -> bool:
        return service.consumer.connected and service.relay.connected and service.requester.connected

    try:
        await until(up, every_s=0.02)
        yield Running(service, handled)
    finally:
        stop.set()
        await task


async def parked_reasons(amqp_url: str, service: str = NAME) -> list[str]:
    from shared.bus.parking import list_parked  # noqa: PLC0415

    shelves = await list_parked(amqp_url, queue=events_queue(service), topology=TOPOLOGY)
    return [message.reason for shelf in shelves for message in shelf.messages]


async def depth(amqp_url: str, queue: str) -> int:
    """Messages that are ready in a queue."""
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        declared = await channel.declare_queue(queue, passive=True)
        return declared.declaration_result.message_count or 0
