"""PostgreSQL and RabbitMQ for the test-suite: given URLs, local binaries, Docker, or a failure; never a skip.

`EXPRESSYNC_TEST_DATABASE_URL` (a superuser's) and `EXPRESSYNC_TEST_AMQP_URL` name servers that are there already.
Otherwise each pytest session has a cluster and a node of its own in a temporary folder, started when a test first asks
for them. Only the unpacked RabbitMQ packages are shared, in `.local/packages` of the checkout.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from deploy.local.infra.broker import provide_broker
from deploy.local.infra.errors import InfraError
from deploy.local.infra.external import external_postgres
from deploy.local.infra.postgres import Postgres, binaries
from tests.containers import postgres_in_container, rabbitmq_in_container

if TYPE_CHECKING:
    from deploy.local.infra.server import Server

DATABASE_URL = "EXPRESSYNC_TEST_DATABASE_URL"
AMQP_URL = "EXPRESSYNC_TEST_AMQP_URL"
PACKAGES = Path(__file__).parents[1] / ".local" / "packages"

LOCAL = "local"
CONTAINERS = "containers"
WAYS = (LOCAL, CONTAINERS)


class Infra:
    """A PostgreSQL and a RabbitMQ, each started when first asked for, both gone after `close()`.

    `infra.postgres.url` is `postgresql://...` of a superuser, `infra.rabbitmq.url` is `amqp://...`; both have the
    verbs of `deploy.local.infra.server.Server`: kill, restart, freeze, thaw, stop, start. They block.
    """

    def __init__(self, folder: Path, *, given: bool = True, ways: tuple[str, ...] = WAYS) -> None:
        self._folder = folder
        self._given = given
        self._ways = ways
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
                self._rabbitmq = provide_broker(self._folder / "rabbitmq", PACKAGES, url=url)
            else:
                self._rabbitmq = self._first("RabbitMQ", self._rabbitmq_by)
            self._rabbitmq.start()
        return self._rabbitmq

    def close(self) -> None:
        for server in (self._rabbitmq, self._postgres):
            if server is not None:
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
            return Postgres(self._folder / "postgres")
        return postgres_in_container()

    def _rabbitmq_by(self, way: str) -> Server:
        if way == LOCAL:
            return provide_broker(self._folder / "rabbitmq", PACKAGES, ways=("installed", "unpacked"))
        return rabbitmq_in_container()


@contextlib.contextmanager
def provided(folder: Path, *, given: bool = True, ways: tuple[str, ...] = WAYS) -> Iterator[Infra]:
    infra = Infra(folder, given=given, ways=ways)
    try:
        yield infra
    finally:
        infra.close()


@pytest.fixture(scope="session")
def infra(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Infra]:
    """The session's PostgreSQL and RabbitMQ: shared, so no test may stop or break them."""
    with provided(tmp_path_factory.mktemp("infra")) as shared:
        yield shared


@pytest.fixture
def own_infra(tmp_path: Path) -> Iterator[Infra]:
    """A PostgreSQL and a RabbitMQ for one test, which may kill, freeze and restart them."""
    with provided(tmp_path / "infra", given=False) as own:
        yield own
