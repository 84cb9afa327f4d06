"""Servers that somebody gives to the tests by their URL: used, left as they were, and refused where they are in use."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from unittest.mock import AsyncMock

import aio_pika
import psycopg
import pytest

from deploy.local.demo import refuse_in_use
from deploy.local.infra.errors import InfraError
from shared.bus import queues
from shared.bus.topology import Topology, events_queue
from tests.databases import fresh_database
from tests.infra import AMQP_URL, DATABASE_URL, Infra, provided

ROOT = Path(__file__).parents[3]
AUDIT = events_queue("audit")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Infra]:
    """Servers that are up, and not the tests' own."""
    with provided(tmp_path_factory.mktemp("given"), given=False) as running:
        yield running


@pytest.fixture
def given(servers: Infra, monkeypatch: pytest.MonkeyPatch) -> Infra:
    monkeypatch.setenv(DATABASE_URL, servers.postgres.url)
    monkeypatch.setenv(AMQP_URL, servers.rabbitmq.url)
    return servers


@asynccontextmanager
async def declared(url: str) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
    """An installation's queues, and one of somebody else; gone afterwards."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await Topology().declare(channel)
        await channel.declare_queue("somebody.elses", durable=True)
        yield channel
        await channel.queue_delete("somebody.elses")
    await queues.remove(url)


async def exists(url: str, queue: str) -> bool:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        try:
            await channel.declare_queue(queue, passive=True)
        except aio_pika.exceptions.ChannelNotFoundEntity:
            return False
        return True


async def test_given_servers_serve_and_are_left_as_they_were(given: Infra, tmp_path: Path) -> None:
    """Nothing is started; our idle queues go when the tests end, and those of others stay."""
    url = given.rabbitmq.url
    async with declared(url):
        with provided(tmp_path / "none") as infra:
            assert (infra.postgres.source, infra.rabbitmq.source) == ("url", "url")
            assert (infra.postgres.url, infra.rabbitmq.url) == (given.postgres.url, url)
        assert not await exists(url, AUDIT)
        assert await exists(url, "somebody.elses")
    assert not (tmp_path / "none").exists()
    assert given.postgres.running
    assert given.rabbitmq.running


async def test_a_broker_with_waiting_messages_is_refused(given: Infra, tmp_path: Path) -> None:
    """They would be lost: nothing is deleted, and it is said which queue it is, without the password."""
    url = given.rabbitmq.url
    async with declared(url) as channel:
        await channel.default_exchange.publish(aio_pika.Message(b"precious"), AUDIT)
        with provided(tmp_path) as infra, pytest.raises(InfraError, match="in use") as refused:
            _ = infra.rabbitmq
        assert f"{AUDIT} (0 consumers, 1 messages)" in refused.value.why
        assert (await (await channel.get_queue(AUDIT)).get(no_ack=True)).body == b"precious"


async def test_a_broker_with_consumers_is_refused(given: Infra, tmp_path: Path) -> None:
    """Somebody works with it, though nothing waits right now."""
    async with declared(given.rabbitmq.url) as channel:
        await (await channel.get_queue(AUDIT)).consume(AsyncMock())
        with provided(tmp_path) as infra, pytest.raises(InfraError, match="in use") as refused:
            _ = infra.rabbitmq
        assert f"{AUDIT} (1 consumers, 0 messages)" in refused.value.why


async def test_the_demo_leaves_the_broker_of_an_installation_alone(given: Infra) -> None:
    """It would take its events. A broker that nobody works with is fine."""
    url = given.rabbitmq.url
    await asyncio.to_thread(refuse_in_use, url)
    async with declared(url) as channel:
        await (await channel.get_queue(AUDIT)).consume(AsyncMock())
        with pytest.raises(InfraError, match="in use"):
            await asyncio.to_thread(refuse_in_use, url)


def test_roles_of_an_installation_keep_their_passwords(given: Infra, tmp_path: Path) -> None:
    """The database server may be one that ExpresSync works with: tests have roles of their own."""
    with psycopg.connect(given.postgres.url, autocommit=True) as connection:
        connection.execute("CREATE ROLE expressync_audit LOGIN PASSWORD 'secret'")
        kept = "SELECT rolpassword FROM pg_authid WHERE rolname = 'expressync_audit'"
        before = connection.execute(kept).fetchone()
        with provided(tmp_path) as infra, fresh_database(infra.postgres.url, ["audit"]) as database:
            psycopg.connect(database.url("audit")).close()
        assert connection.execute(kept).fetchone() == before
        connection.execute("DROP ROLE expressync_audit")


def test_the_tests_run_on_given_servers(given: Infra) -> None:
    """Files that use both servers, as `make test` would run them: in one process, and with nothing left in them."""
    files = ["services/audit/test_audit.py", "shared/test_tracing.py"]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-n", "2", "--dist", "loadfile", "-p", "no:cacheprovider"]
        + [f"tests/integration/{file}" for file in files],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    assert "[gw0]" in ended.stdout
    assert "[gw1]" not in ended.stdout
    with psycopg.connect(given.postgres.url) as connection:
        left = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'test%'").fetchall()
    assert left == []
