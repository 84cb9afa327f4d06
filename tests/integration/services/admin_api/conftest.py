"""The real admin_api on real PostgreSQL and RabbitMQ; the services that it asks are stubs on the real bus."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage
from argon2 import PasswordHasher

from services.admin_api import main, upstreams
from services.admin_api.access import store
from services.admin_api.access.operators import Operators
from services.admin_api.access.passwords import Passwords
from services.admin_api.settings import AdminApiSettings
from shared.bus import queues
from shared.bus.topology import EVENTS
from shared.contracts.identity import Actor, Cause
from shared.runtime.service import Service
from shared.web.server import HttpServer
from tests.databases import TestDatabase, fresh_database
from tests.infra import Infra
from tests.integration.services.admin_api.commands import Cli
from tests.integration.services.admin_api.stubs import Owners
from tests.integration.services.admin_api.support import OWN_PASSWORD, EventLog, House, change
from tests.waiting import until

# Real Argon2id, with parameters that cost nothing.
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
OWN_HASH = CHEAP.hash(OWN_PASSWORD)
CAUSE = Cause(actor=Actor(kind="system", id="test"), correlation_id=uuid4())


class Clock:
    """The time, which a test may move on."""

    def __init__(self) -> None:
        self._ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def pass_by(self, **how_long: float) -> None:
        self._ahead += timedelta(**how_long)

    def reset(self) -> None:
        self._ahead = timedelta()


@pytest.fixture(scope="package", autouse=True)
def asks_often() -> Iterator[None]:
    """It asks on and on how SteVe and Lago stand: tests wait for the next time, and its stop for the end of one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(main, "ASK_EVERY_S", 0.5)
        patch.setattr(upstreams, "ASK_DEADLINE_S", 1.0)
        yield


@pytest.fixture(scope="package")
def database(infra: Infra) -> Iterator[TestDatabase]:
    with fresh_database(infra.postgres.url, ["admin_api"]) as fresh:
        yield fresh


@pytest.fixture(scope="package")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="package")
async def owners(infra: Infra, clock: Clock) -> AsyncIterator[Owners]:
    """Stubs of preauth, sync and audit, which answer what a test tells them to."""
    await queues.remove(infra.rabbitmq.url)
    owners = Owners(infra.rabbitmq.url, clock)
    async with owners.running():
        yield owners


@asynccontextmanager
async def running(service: Service) -> AsyncIterator[int]:
    """Run the service; yields the port of its HTTP server."""
    stop = asyncio.Event()
    task = asyncio.create_task(service.run(stop))
    http = next(part for part in service.parts if isinstance(part, HttpServer) and part.name == "http")

    async def up() -> bool:
        return service.requester.connected and service.relay.connected

    try:
        await until(up)
        yield http.port
    finally:
        stop.set()
        await task


@pytest.fixture(scope="package")
async def service(infra: Infra, database: TestDatabase, owners: Owners, clock: Clock) -> AsyncIterator[House]:
    settings = AdminApiSettings(
        database_url=database.url("admin_api"),
        amqp_url=infra.rabbitmq.url,
        port=0,
        ops_port=0,
        ask_deadline_s=0.6,
        change_deadline_s=1.5,
    )
    built = main.build(settings, clock=clock, passwords=Passwords(CHEAP))
    async with running(built) as port:
        operators = Operators(built.database, built.outbox, Passwords(CHEAP), one_time=timedelta(hours=72), clock=clock)
        url = f"http://127.0.0.1:{port}"
        yield House(url=url, service=built, owners=owners, database=database, clock=clock, operators=operators)


@pytest.fixture
async def house(service: House) -> AsyncIterator[House]:
    """The running service with empty tables, its first operator, and owners who know nothing yet."""
    service.owners.reset()
    await service.empty()
    made = await service.operators.first(CAUSE)
    assert made is not None
    service.one_time_password = str(made.password)
    try:
        yield service
    finally:
        service.clock.reset()
        await service.close_clients()


@pytest.fixture
async def admin(house: House) -> House:
    """The same, where the first operator has chosen a password."""
    async with house.service.database.write() as tx:
        await store.set_password(tx, "admin", OWN_HASH, one_time_until=None)
    return house


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("EXPRESSYNC_") and "TEST" not in name]:
        monkeypatch.delenv(name)


@pytest.fixture
async def told(house: House, infra: Infra) -> AsyncIterator[EventLog]:
    """Every event from now on, as a subscriber downstream gets it."""
    log = EventLog()

    async def take(message: AbstractIncomingMessage) -> None:
        log.bodies.append(message.body)

    async with await aio_pika.connect(infra.rabbitmq.url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(EVENTS, "#")
        await queue.consume(take, no_ack=True)
        yield log


@pytest.fixture
async def cli(admin: House, tmp_path: Path) -> Cli:
    made = await change(await admin.as_admin(), "/tokens", {"name": "cli", "role": "admin"})
    return Cli(admin, tmp_path, made["token"])
