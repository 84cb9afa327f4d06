"""PostgreSQL and RabbitMQ for the test-suite: given URLs, local binaries, Docker, or a failure; never a skip.

`EXPRESSYNC_TEST_DATABASE_URL` (a superuser's) and `EXPRESSYNC_TEST_AMQP_URL` name servers that are there already: in
the one, databases and roles named after tests come and go; in the other, ExpresSync's queues do, so a broker where they
are in use is refused. A given server serves one process of tests; `-n` is overruled.
Otherwise each process of tests has a cluster and a node of its own in a temporary folder, started when a test first
asks for them. Only the unpacked RabbitMQ packages are shared, in `.local/packages` of the checkout.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from deploy.local.infra.broker import provide_broker
from deploy.local.infra.errors import InfraError
from deploy.local.infra.external import external_postgres, without_password
from deploy.local.infra.postgres import Postgres, binaries
from shared.bus import queues
from tests.containers import postgres_in_container, rabbitmq_in_container

if TYPE_CHECKING:
    from deploy.local.infra.server import Server

DATABASE_URL = "EXPRESSYNC_TEST_DATABASE_URL"
AMQP_URL = "EXPRESSYNC_TEST_AMQP_URL"
T = TypeVar("T")
PACKAGES = Path(__file__).parents[1] / ".local" / "packages"

# Each connection would compute its proof of a password for 3 ms, thousands of times, to keep guesses of it dear.
CHEAP = {"scram_iterations": "1"}

LOCAL = "local"
CONTAINERS = "containers"
WAYS = (LOCAL, CONTAINERS)


class Infra:
    """A PostgreSQL and a RabbitMQ, each started when first asked for, both gone after `close()`.

    `infra.postgres.url` is `postgresql://...` of a superuser, `infra.rabbitmq.url` is `amqp://...`; both have the
    verbs of `deploy.local.infra.server.Server`: kill, restart, freeze, thaw, stop, start. They block.
    """

    def __init__(self, folder: Path, *, given: bool = True, ways: tuple[str, ...] = WAYS, fsync: bool = True) -> None:
        self._folder = folder
        self._given = given
        self._ways = ways
        self._fsync = fsync
        self._postgres: Server | None = None
        self._rabbitmq: Server | None = None

    @property
    def postgres(self) -> Server:
        if self._postgres is None:
            url = os.environ.get(DATABASE_URL) if self._given else None
            self._postgres = external_postgres(url) if url else self._first("PostgreSQL", self._postgres_by)
            self._postgres.start()
        return self._postgres

    @property
    def rabbitmq(self) -> Server:
        if self._rabbitmq is None:
            url = os.environ.get(AMQP_URL) if self._given else None
            if url:
                self._rabbitmq = _given_broker(url)
            else:
                self._rabbitmq = self._first("RabbitMQ", self._rabbitmq_by)
                self._rabbitmq.start()
        return self._rabbitmq

    def close(self) -> None:
        if self._rabbitmq is not None and self._rabbitmq.source == "url":
            url = self._rabbitmq.url
            _at_once(lambda: queues.remove(url))
        for server in (self._rabbitmq, self._postgres):
            if server is not None:
                if server is self._rabbitmq and server.source not in {"url", "docker"}:
                    # Its data go anyway, and it takes a second to write them down. A PostgreSQL that is killed leaves
                    # shared memory behind, and is quick.
                    server.kill()
                server.remove()
        self._postgres = self._rabbitmq = None

    def _first(self, name: str, by: Callable[[str], Server]) -> Server:
        refusals = []
        for way in self._ways:
            try:
                return by(way)
            except InfraError as error:
                refusals.append(f"{way}: {error.what} {error.why}")
        raise InfraError(
            f"The tests have no {name}.",
            "\n".join(refusals),
            f"Run `make setup`, start Docker, or set {DATABASE_URL} and {AMQP_URL}.",
        )

    def _postgres_by(self, way: str) -> Server:
        if way == LOCAL:
            # Asks only whether there are any.
            binaries()
            return Postgres(self._folder / "postgres", fsync=self._fsync, settings=CHEAP)
        return postgres_in_container()

    def _rabbitmq_by(self, way: str) -> Server:
        if way == LOCAL:
            return provide_broker(self._folder / "rabbitmq", PACKAGES, ways=("installed", "unpacked"))
        return rabbitmq_in_container()


def _given_broker(url: str) -> Server:
    """:raises InfraError: when it does not answer, or is one that services work with."""
    broker = provide_broker(PACKAGES, PACKAGES, url=url)
    broker.start()
    found = _at_once(lambda: queues.in_use(url))
    if found:
        raise InfraError(
            f"The tests would delete queues that are in use at {without_password(url)}.",
            f"There is {', '.join(found)}.",
            f"Give a broker, or a virtual host, of the tests' own in {AMQP_URL}, or leave it out.",
        )
    return broker


def _at_once(ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
    # In a thread: a fixture's caller may have an event loop running.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(ask())).result()


# Before pytest-xdist, which starts its processes here.
@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """One process has a given server to itself: queues have fixed names, and roles belong to the whole server."""
    given = os.environ.get(DATABASE_URL) or os.environ.get(AMQP_URL)
    if given and config.getoption("numprocesses", None):
        config.option.numprocesses = 1


def pytest_configure() -> None:
    # A shell lets what it runs in the background ignore SIGINT, and with it every program that the tests start.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def provided(folder: Path, *, given: bool = True, ways: tuple[str, ...] = WAYS, fsync: bool = True) -> Iterator[Infra]:
    """Without `fsync` a commit survives the death of any process, and not that of the machine, which no test kills."""
    infra = Infra(folder, given=given, ways=ways, fsync=fsync)
    try:
        yield infra
    finally:
        infra.close()


@pytest.fixture(scope="session")
def infra(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Infra]:
    """The session's PostgreSQL and RabbitMQ: shared, so no test may stop or break them."""
    with provided(tmp_path_factory.mktemp("infra"), fsync=False) as shared:
        yield shared


@pytest.fixture
async def broker(infra: Infra) -> AsyncIterator[str]:
    """The URL of the session's broker with none of our queues in it, before and after."""
    url = (await asyncio.to_thread(lambda: infra.rabbitmq)).url
    await queues.remove(url)
    yield url
    await queues.remove(url)


@pytest.fixture
def own_infra(tmp_path: Path) -> Iterator[Infra]:
    """A PostgreSQL and a RabbitMQ for one test, which may kill, freeze and restart them."""
    with provided(tmp_path / "infra", given=False, fsync=False) as own:
        yield own
