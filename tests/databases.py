"""A migrated database for a test: its own, in the session's PostgreSQL."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
from psycopg import sql

from shared.database.migrations import Owner, upgrade

SERVICES = ("preauth", "sync", "audit", "admin_api")
# Roles belong to the whole server. These are the same, with the same passwords, in every test that has a database from
# here, and are not those of an installation. Tests that need those, or other passwords, have a server of their own.
OWNERS = {name: Owner(name, schema=name, role=f"test_{name}", password=f"{name}-pw") for name in SERVICES}
NOTHING = sql.SQL("")


@dataclass(frozen=True)
class TestDatabase:
    """`admin_url` may do anything; `url(service)` is what a service gets."""

    __test__ = False
    admin_url: str

    def url(self, service: str) -> str:
        owner = OWNERS[service]
        parts = urlsplit(self.admin_url)
        place = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{owner.role}:{owner.password}@{place}"))


@contextmanager
def fresh_database(server_url: str, services: Sequence[str] = ()) -> Iterator[TestDatabase]:
    """Create a database, migrate `services` in it, drop it afterwards."""
    with _created(server_url) as url:
        upgrade(url, [OWNERS[service] for service in services])
        yield TestDatabase(url)


@contextmanager
def copied_database(template: TestDatabase) -> Iterator[TestDatabase]:
    """A copy of a database that nobody is connected to, which is quicker than to migrate one; dropped afterwards."""
    original = sql.Identifier(urlsplit(template.admin_url).path.removeprefix("/"))
    server_url = urlunsplit(urlsplit(template.admin_url)._replace(path="/postgres"))
    with _created(server_url, sql.SQL("TEMPLATE {}").format(original)) as url:
        yield TestDatabase(url)


@asynccontextmanager
async def locked(database: TestDatabase, table: bytes, mode: bytes = b"SHARE") -> AsyncIterator[None]:
    """Nobody can write `table` until the end of the block.

    It waits without holding up the loop: a transaction of a service in that loop, which is in the lock's way, must end.
    """
    async with await psycopg.AsyncConnection.connect(database.admin_url) as holding:
        await holding.execute(b"LOCK TABLE %b IN %b MODE" % (table, mode))
        yield


@contextmanager
def _created(server_url: str, like: sql.Composable = NOTHING) -> Iterator[str]:
    name = f"test_{uuid4().hex[:12]}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} {}").format(sql.Identifier(name), like))
    try:
        yield urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
    finally:
        with psycopg.connect(server_url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
