"""Servers that somebody gives to the tests by their URL: used, left as they were, and refused where they are in use."""

import asyncio
import io
import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from unittest.mock import AsyncMock, Mock, patch
from urllib.parse import urlsplit

import aio_pika
import psycopg
import pytest
from rich.console import Console

from deploy.local import demo
from deploy.local.demo import Demo
from deploy.local.environment import AMQP
from deploy.local.infra.errors import InfraError
from shared.bus import publisher, queues
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


@pytest.fixture
def demo_beside(given: Infra, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Infra:
    """Where a demo would use the given broker."""
    monkeypatch.setenv("EXPRESSYNC_HOME", str(tmp_path / "home"))
    monkeypatch.setenv(AMQP, given.rabbitmq.url)
    return given


@pytest.mark.parametrize("listening", [True, False])
async def test_the_demo_leaves_the_broker_of_an_installation_alone(demo_beside: Infra, *, listening: bool) -> None:
    """It would take its events: it is refused, and ends without having touched one of them."""
    async with declared(demo_beside.rabbitmq.url) as channel:
        audit = await channel.get_queue(AUDIT)
        if listening:
            await audit.consume(AsyncMock())
        else:
            for number in range(42):
                await channel.default_exchange.publish(aio_pika.Message(b"%d" % number), AUDIT)
        with pytest.raises(InfraError, match="in use"):
            await asyncio.to_thread(refused_demo)
        left = (await channel.declare_queue(AUDIT, passive=True)).declaration_result
        assert (left.consumer_count, left.message_count) == ((1, 0) if listening else (0, 42))


def test_a_broker_that_is_silent_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the connection and says nothing: the demo does not wait for it for ever."""
    monkeypatch.setattr(publisher, "CONNECT_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(InfraError, match="could not be asked"):
        demo.refuse_in_use(f"amqp://u:p@127.0.0.1:{silent.getsockname()[1]}/")


async def test_a_demo_whose_broker_cannot_be_asked_leaves_it_alone(
    demo_beside: Infra, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows whether that one is in use: a wrong password is no leave to share it."""
    parts = urlsplit(demo_beside.rabbitmq.url)
    monkeypatch.setenv(AMQP, parts._replace(netloc=f"demo:hunter2@{parts.hostname}:{parts.port}").geturl())
    with pytest.raises(InfraError, match="could not be asked") as refused:
        await asyncio.to_thread(refused_demo)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("others", [True, False])
async def test_a_demo_takes_its_queues_along_unless_others_have_come_to_them(
    demo_beside: Infra, *, others: bool
) -> None:
    """An installation that comes later must not find its events, and one that came meanwhile keeps its own."""
    url = demo_beside.rabbitmq.url
    page = io.StringIO()
    ending = Demo(Console(file=page, width=200))

    def begin() -> None:
        with pytest.raises(InterruptedError):
            ending.start()

    # As far as the demo goes before it starts anything.
    ending.stack.choose_ports = Mock(side_effect=InterruptedError)  # type: ignore[method-assign]
    await asyncio.to_thread(begin)
    async with declared(url) as channel:
        await channel.default_exchange.publish(aio_pika.Message(b"of the demo"), AUDIT)
        if others:
            await (await channel.get_queue(events_queue("sync"))).consume(AsyncMock())
        await asyncio.to_thread(ending.stop)
        assert await exists(url, AUDIT) is others
        assert await exists(url, "somebody.elses")
    assert ("others have come to sync.events" in page.getvalue()) is others


def refused_demo() -> None:
    # Signals belong to a program's first thread, which has the loop of this test; its loggers go on to the next test.
    unheard = patch.object(demo, "until_told", lambda: nullcontext(threading.Event()))
    with unheard, patch.object(demo, "silence"):
        demo.run_demo(once=True)


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
    files = ["shared/test_relay.py", "shared/test_tracing.py"]
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
