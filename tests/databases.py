"""A migrated database for a test: its own, in the session's PostgreSQL."""

import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final, LiteralString
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
# Bytes of dead rows in a database that may still be used again.
MOST_LEFT: Final = 4 << 20
LEFT_WITHIN_S: Final = 1.0


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


class Template:
    """A migrated database to make copies of, which is quicker than to migrate one.

    To make a copy and drop it still takes a tenth of a second of a core, so a copy that a test leaves in its shape is
    emptied for the next one.
    """

    def __init__(self, original: TestDatabase) -> None:
        self._original = original
        self._spare: list[TestDatabase] = []
        self._made = ExitStack()
        with psycopg.connect(original.admin_url) as connection:
            self._shape = _shape(connection)
            self._size: int = _one(connection, "SELECT pg_database_size(current_database())")
            self._reset = _reset(connection)

    @contextmanager
    def copy(self) -> Iterator[TestDatabase]:
        """A copy that nobody else has."""
        database = self._spare.pop() if self._spare else self._new()
        yield database
        if self._emptied(database):
            self._spare.append(database)

    def close(self) -> None:
        self._made.close()

    def _new(self) -> TestDatabase:
        name = sql.Identifier(urlsplit(self._original.admin_url).path.removeprefix("/"))
        server_url = urlunsplit(urlsplit(self._original.admin_url)._replace(path="/postgres"))
        return TestDatabase(self._made.enter_context(_created(server_url, sql.SQL("TEMPLATE {}").format(name))))

    def _emptied(self, database: TestDatabase) -> bool:
        """Make it as it was; False where it is too large or too different for that, or still in use."""
        with psycopg.connect(database.admin_url, autocommit=True) as connection:
            if not _left_alone(connection) or _shape(connection) != self._shape:
                return False
            if _one(connection, "SELECT pg_database_size(current_database())") > self._size + MOST_LEFT:
                return False
            connection.execute(self._reset)
        return True


@contextmanager
def template_database(server_url: str, services: Sequence[str]) -> Iterator[Template]:
    with fresh_database(server_url, services) as original:
        template = Template(original)
        try:
            yield template
        finally:
            template.close()


@asynccontextmanager
async def locked(database: TestDatabase, table: bytes, mode: bytes = b"SHARE") -> AsyncIterator[None]:
    """Nobody can write `table` until the end of the block.

    It waits without holding up the loop: a transaction of a service in that loop, which is in the lock's way, must end.
    """
    async with await psycopg.AsyncConnection.connect(database.admin_url) as holding:
        await holding.execute(b"LOCK TABLE %b IN %b MODE" % (table, mode))
        yield


@contextmanager
def refusing(database: TestDatabase) -> Iterator[None]:
    """Nobody is connected to the database, nor gets a connection, until the end of the block: as if it was stopped."""
    parts = urlsplit(database.admin_url)
    name = sql.Identifier(parts.path.removeprefix("/"))
    with psycopg.connect(urlunsplit(parts._replace(path="/postgres")), autocommit=True) as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
        try:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                (parts.path.removeprefix("/"),),
            )
            yield
        finally:
            connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))


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


def _one(connection: psycopg.Connection[Any], query: LiteralString | sql.Composed) -> Any:  # noqa: ANN401 - whatever is asked for
    row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


def _left_alone(connection: psycopg.Connection[Any]) -> bool:
    """Whether all others are gone; a server notices that a moment after they are."""
    deadline = time.monotonic() + LEFT_WITHIN_S
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    while _one(connection, others):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _shape(connection: psycopg.Connection[Any]) -> str:
    """What a migration could have changed. A partition is no change: the service makes each month's by itself."""
    return str(
        _one(
            connection,
            """
            WITH ours AS (
                SELECT c.* FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND NOT c.relispartition
            )
            SELECT md5(concat(
                (SELECT string_agg(concat(oid, relname, relkind, relacl, relowner), ',' ORDER BY oid) FROM ours),
                (SELECT string_agg(concat(nspname, nspacl), ',' ORDER BY oid)
                 FROM pg_namespace WHERE nspname !~ '^pg_'),
                (SELECT string_agg(concat(attrelid, attname, atttypid, attnotnull, attacl), ','
                                   ORDER BY attrelid, attnum)
                 FROM pg_attribute WHERE attrelid IN (SELECT oid FROM ours)),
                (SELECT string_agg(concat(oid, md5(adbin::text)), ',' ORDER BY oid)
                 FROM pg_attrdef WHERE adrelid IN (SELECT oid FROM ours)),
                (SELECT string_agg(concat(indexrelid, indisvalid, indisready), ',' ORDER BY indexrelid)
                 FROM pg_index WHERE indrelid IN (SELECT oid FROM ours)),
                (SELECT string_agg(concat(oid, conname), ',' ORDER BY oid)
                 FROM pg_constraint WHERE conrelid IN (SELECT oid FROM ours)),
                (SELECT string_agg(concat(oid, tgenabled), ',' ORDER BY oid)
                 FROM pg_trigger WHERE tgrelid IN (SELECT oid FROM ours)),
                (SELECT string_agg(concat(p.oid, md5(prosrc)), ',' ORDER BY p.oid)
                 FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
                 WHERE n.nspname NOT IN ('pg_catalog', 'information_schema'))
            ))
            """,
        )
    )


def _reset(connection: psycopg.Connection[Any]) -> sql.Composed:
    """What empties a copy: no trigger holds it up, what the migrations put in is put in again, numbers begin anew."""
    tables = connection.execute("""
        SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
        AND n.nspname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2
    """).fetchall()
    statements: list[sql.Composable] = [sql.SQL("SET LOCAL session_replication_role = replica")]
    for table in tables:
        name = sql.Identifier(*table)
        statements.append(sql.SQL("DELETE FROM {}").format(name))
        rows = _one(connection, sql.SQL("SELECT json_agg(t) FROM {} t").format(name))
        if rows:
            again = sql.SQL("INSERT INTO {0} SELECT * FROM json_populate_recordset(NULL::{0}, {1})")
            statements.append(again.format(name, json.dumps(rows)))
    sequences = connection.execute("""
        SELECT schemaname, sequencename, COALESCE(last_value, start_value), last_value IS NOT NULL
        FROM pg_sequences WHERE schemaname NOT IN ('pg_catalog', 'information_schema')
    """).fetchall()
    for schema, sequence, value, used in sequences:
        place = sql.Identifier(schema, sequence).as_string(connection)
        statements.append(sql.SQL("SELECT setval({}, {}, {})").format(place, value, used))
    return sql.SQL("BEGIN; {}; COMMIT").format(sql.SQL("; ").join(statements))
