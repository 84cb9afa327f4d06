"""Database access: one pool a service, reading and writing as different types, commits in one place."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, Final, NewType

import psycopg
import sqlalchemy as sa
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

Read = NewType("Read", AsyncConnection)
"""A connection inside a read-only transaction, or any Write."""
Write = NewType("Write", Read)
"""A connection inside a read-write transaction, which `Database.write` commits; nobody else does."""

CONNECT_TIMEOUT_S: Final = 3
WAIT_FOR_CONNECTION_S: Final = 5.0
STATEMENT_TIMEOUT_MS: Final = 30_000
LOCK_TIMEOUT_MS: Final = 10_000
IDLE_IN_TRANSACTION_MS: Final = 60_000

_AFTER_COMMIT = "expressync.after_commit"


def conninfo(url: str) -> str:
    """A libpq address from an SQLAlchemy one (`postgresql+psycopg://` or `postgresql://`)."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def is_unavailable(error: BaseException) -> bool:
    """Whether the database could not be reached, or gave up on this connection: the same work may succeed later."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_unavailable(one) for one in error.exceptions)
    if isinstance(error, DBAPIError):
        original = error.orig
        return error.connection_invalidated or (original is not None and is_unavailable(original))
    if isinstance(error, PoolTimeout | PoolClosed):
        return True
    if isinstance(error, psycopg.OperationalError):
        # No sqlstate: the connection broke. 08 connection, 53 resources, 57P shutdown, 25P03 idle too long.
        state = error.sqlstate
        return state is None or state[:2] in {"08", "53"} or state.startswith("57P") or state == "25P03"
    return False


def is_busy(error: BaseException) -> bool:
    """Whether the database gave this work up for the sake of other work, in whose way it was for too long: the same
    may succeed later. Work that is too slow by itself looks alike.
    """
    original = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(
        original,
        psycopg.errors.LockNotAvailable
        | psycopg.errors.QueryCanceled
        | psycopg.errors.DeadlockDetected
        | psycopg.errors.SerializationFailure,
    )


async def _as_new(connection: "_Lent") -> None:
    """A read that was cancelled gives its connection back read-only, and the next write would fail."""
    await connection.set_read_only(None)


class _Lent(psycopg.AsyncConnection[Any]):
    """A connection that `Database` lends to SQLAlchemy: whoever lent it gives it back, whatever SQLAlchemy thinks."""

    lent = False

    async def close(self) -> None:
        if not self.lent:
            await super().close()


_lending: ContextVar[_Lent] = ContextVar("_lending")


async def _what_is_lent() -> _Lent:
    return _lending.get()


class Database:
    """One service's tables. `read()` and `write()` are the only ways in; a write commits when its block ends well."""

    def __init__(self, url: str, *, application: str, schema: str, pool_size: int = 8) -> None:
        self.schema = schema
        self.pool: AsyncConnectionPool[_Lent] = AsyncConnectionPool(
            conninfo(url),
            connection_class=_Lent,
            min_size=1,
            max_size=pool_size,
            open=False,
            timeout=WAIT_FOR_CONNECTION_S,
            reconnect_timeout=5.0,
            check=AsyncConnectionPool.check_connection,
            reset=_as_new,
            name=application,
            kwargs={
                "connect_timeout": CONNECT_TIMEOUT_S,
                "options": (
                    f"-c application_name={application} -c TimeZone=UTC -c search_path={schema}"
                    f" -c statement_timeout={STATEMENT_TIMEOUT_MS} -c lock_timeout={LOCK_TIMEOUT_MS}"
                    f" -c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_MS}"
                    # A plan that is kept was made when the tables were empty, and reads all of them when they no longer
                    # are: 8 s for 500 sessions, where a plan of its own takes 50 ms and costs 3.
                    " -c plan_cache_mode=force_custom_plan"
                ),
            },
        )
        self._engine = create_async_engine(
            "postgresql+psycopg://",
            poolclass=NullPool,
            async_creator=_what_is_lent,
            # An error's text goes into logs; what was to be written (hashes, names) does not.
            hide_parameters=True,
        )

    async def open(self) -> None:
        """Start connecting in the background; a database that is down is no reason not to start."""
        await self.pool.open(wait=False)

    async def close(self) -> None:
        await self._engine.dispose()
        await self.pool.close()

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[AsyncConnection]:
        """An SQLAlchemy connection over one of the pool's.

        The pool's own context manager takes and gives back: SQLAlchemy, cancelled while it took or gave one, forgot it,
        and after a few of those nobody got any more, until the process was restarted.
        """
        async with self.pool.connection() as lent:
            lent.lent = True
            token = _lending.set(lent)
            try:
                async with self._engine.connect() as connection:
                    yield connection
            finally:
                _lending.reset(token)
                lent.lent = False

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Read]:
        async with self._connect() as connection:
            await connection.execution_options(postgresql_readonly=True)
            yield Read(connection)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Write]:
        async with self._connect() as connection:
            async with connection.begin():
                yield Write(Read(connection))
            for callback in connection.info.pop(_AFTER_COMMIT, ()):
                callback()

    async def ready(self) -> None:
        """Ask the database for an answer.

        :raises Exception: whatever keeps it from answering.
        """
        async with self.read() as tx:
            await tx.execute(sa.text("SELECT 1"))


def after_commit(tx: Write, callback: Callable[[], None]) -> None:
    """Run `callback`, once, when this transaction has been committed; never when it was rolled back."""
    callbacks: list[Callable[[], None]] = tx.info.setdefault(_AFTER_COMMIT, [])
    if callback not in callbacks:
        callbacks.append(callback)
