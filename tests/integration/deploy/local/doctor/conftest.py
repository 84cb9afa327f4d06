"""Servers of the doctor's tests: their own, since roles and passwords are a whole server's, and faults everybody's."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from deploy.local.doctor.result import Result
from deploy.local.doctor.target import Target
from deploy.local.environment import AMQP, DATABASE_ADMIN, owners
from deploy.local.home import Home
from deploy.local.infra.server import Server
from shared.database.migrations import upgrade
from tests.infra import provided

# Recognisable wherever it appears.
SECRET = "hunter2-0123456789abcdef-recognisable"


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Server]]:
    """A PostgreSQL and a RabbitMQ of the doctor's own, each started when first asked for."""
    with provided(tmp_path_factory.mktemp("doctor"), given=False) as own:
        yield lambda name: own.postgres if name == "postgres" else own.rabbitmq


@pytest.fixture
def target(tmp_path: Path) -> Callable[..., Target]:
    """Makes an installation to look at, with a home of this test's own."""

    def make(**given: str) -> Target:
        return Target(Home(tmp_path / "home", "live"), None, given)

    return make


@pytest.fixture(scope="session")
def template(servers: Callable[[str], Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of a migrated database, of which a copy needs passwords only."""
    with fresh_database(servers("postgres").url) as url:
        upgrade(url, owners(Home(tmp_path_factory.mktemp("template"), "live"), {}))
        yield urlsplit(url).path[1:]


@pytest.fixture
def database(servers: Callable[[str], Server], target: Callable[..., Target]) -> Iterator[Target]:
    """An installation whose database was given and is empty."""
    with fresh_database(servers("postgres").url) as url:
        yield target(**{DATABASE_ADMIN: url})


@pytest.fixture
def migrated(servers: Callable[[str], Server], template: str, target: Callable[..., Target]) -> Iterator[Target]:
    """An installation whose database is ready."""
    with fresh_database(servers("postgres").url, template) as url:
        installation = target(**{DATABASE_ADMIN: url})
        upgrade(url, owners(installation.home, {}))
        yield installation


@pytest.fixture
def broker(servers: Callable[[str], Server], target: Callable[..., Target]) -> Target:
    """An installation whose broker was given."""
    return target(**{AMQP: servers("rabbitmq").url})


@contextmanager
def fresh_database(server_url: str, template: str = "template1") -> Iterator[str]:
    name = f"doctor_{uuid4().hex[:12]}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        connection.execute(create.format(sql.Identifier(name), sql.Identifier(template)))
    yield urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def by_id(results: list[Result]) -> Mapping[str, Result]:
    return {one.id: one for one in results}


def answers(results: list[Result]) -> dict[str, str]:
    return {one.id.partition(".")[2]: one.answer for one in results}
