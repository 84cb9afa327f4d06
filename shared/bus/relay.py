"""The relay: brings outbox rows to the broker. At least once, in order within a subject as far as one relay goes.

A batch is claimed (`FOR UPDATE SKIP LOCKED`), published concurrently, and deleted once confirmed, all in one
transaction: a crash at any point leaves the rows where they are. A second copy is the inbox's business.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import aio_pika
from aio_pika.abc import HeadersType
from aio_pika.exceptions import AMQPError, DeliveryError
from prometheus_client import CollectorRegistry, Counter, Gauge
from psycopg import sql

from shared.bus.publisher import CONFIRM_TIMEOUT_S, LINK_CHECK_S, Publisher
from shared.bus.topology import Topology
from shared.contracts.event import CONTENT_TYPE
from shared.database.engine import Database, is_unavailable
from shared.runtime.log import get_logger

log = get_logger(__name__)

BATCH: Final = 500
CONCURRENT_BATCHES: Final = 2
POLL_S: Final = 0.5
LONGEST_REST_S: Final = 1.0
FIRST_BACKOFF_S: Final = 1.0
LONGEST_BACKOFF_S: Final = 300.0
_LINK_DOWN: Final = (AMQPError, ConnectionError, OSError, TimeoutError, asyncio.InvalidStateError)


class _Row(NamedTuple):
    id: int
    event_id: UUID
    ordering_key: str
    routing_key: str
    exchange: str
    body: bytes
    traceparent: str | None
    attempts: int


@dataclass(slots=True)
class _Outcome:
    """What became of a batch: rows the broker has, rows it refused, and whether the connection broke."""

    confirmed: list[int]
    refused: list[tuple[int, int, str]]
    broken: BaseException | None = None


def backoff_s(attempts: int) -> float:
    """Seconds until a row that the broker refused is tried again: 1, 2, 4 … 300."""
    return float(min(FIRST_BACKOFF_S * 2.0 ** min(attempts, 12), LONGEST_BACKOFF_S))


class Relay:
    """Runs until it is stopped; survives the loss of the broker and of the database."""

    name = "relay"

    def __init__(
        self,
        database: Database,
        amqp_url: str,
        *,
        service: str,
        topology: Topology,
        registry: CollectorRegistry,
        rest: float = 0.0,
    ) -> None:
        """`rest`: how long it pauses after a pass, in multiples of the pass: its work shares the machine with work that
        somebody waits for. With 3 a backlog takes four times as long, and a quarter of what it would take per second.
        """
        self._database, self._url, self._service, self._topology = database, amqp_url, service, topology
        self._rest = rest
        self._wanted = asyncio.Event()
        # Rows to publish one at a time after a batch broke off, so that a row that breaks the channel (too large for
        # the broker) is found and put off, and does not take the others with it for ever.
        self._careful = 0
        self._lanes: dict[str, asyncio.Task[None]] = {}
        self._publisher: Publisher | None = None
        self._database_away = False
        schema = sql.Identifier(database.schema)
        self._claim = sql.SQL(
            "SELECT id, event_id, ordering_key, routing_key, exchange, body, traceparent, attempts FROM {}.outbox"
            " WHERE next_attempt_at <= now() ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED"
        ).format(schema)
        self._delete = sql.SQL("DELETE FROM {}.outbox WHERE id = ANY(%s)").format(schema)
        self._postpone = sql.SQL(
            "UPDATE {}.outbox SET attempts = attempts + 1, last_error = %s,"
            " next_attempt_at = now() + make_interval(secs => %s) WHERE id = %s"
        ).format(schema)
        self._state = sql.SQL("SELECT count(*), min(created_at) FROM {}.outbox").format(schema)
        self._published = Counter("outbox_published_total", "Events confirmed by the broker", registry=registry)
        self._refused = Counter("outbox_refused_total", "Publish attempts the broker refused", registry=registry)
        self._pending = Gauge("outbox_pending", "Events not confirmed yet", registry=registry)
        self._oldest = Gauge("outbox_oldest_seconds", "Age of the oldest event not confirmed", registry=registry)

    def wake(self) -> None:
        """There is something new; called after a commit."""
        self._wanted.set()

    @property
    def connected(self) -> bool:
        """Whether the broker is, whatever the database does."""
        return self._publisher is not None and self._publisher.usable

    async def run(self, stop: asyncio.Event) -> None:
        """Relay until `stop`; what is left then is tried once more before the connection closes."""
        async with Publisher(self._url, name=f"{self._service}.relay", topology=self._topology) as publisher:
            self._publisher = publisher
            try:
                loop = asyncio.get_running_loop()
                checked = loop.time()
                while publisher.usable:
                    stopping = stop.is_set()
                    self._wanted.clear()
                    began = loop.time()
                    more = await self._relay_unless_away(publisher)
                    if stopping and not more:
                        return
                    await self._give_way(stop, self._rest * (loop.time() - began))
                    if not more:
                        if loop.time() - checked > LINK_CHECK_S:
                            await publisher.check()
                            checked = loop.time()
                        await self._sleep(stop)
                raise ConnectionError("the broker closed the channel")
            finally:
                self._publisher = None

    async def _relay_unless_away(self, publisher: Publisher) -> bool:
        """As `_relay_what_waits`. Without a database nothing can be relayed, and the broker is not to blame for it:
        its connection is kept, and readiness goes on telling the two apart.
        """
        try:
            more = await self._relay_what_waits(publisher)
        except Exception as error:
            if not is_unavailable(error):
                raise
            if not self._database_away:
                log.warning("The database is away; events wait in it.", action="outbox.waits", error=repr(error))
            self._database_away = True
            return False
        self._database_away = False
        return more

    async def _give_way(self, stop: asyncio.Event, seconds: float) -> None:
        if seconds > 0 and not stop.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(min(seconds, LONGEST_REST_S)):
                    await stop.wait()

    async def _sleep(self, stop: asyncio.Event) -> None:
        if stop.is_set():
            return
        waits = [asyncio.ensure_future(self._wanted.wait()), asyncio.ensure_future(stop.wait())]
        try:
            await asyncio.wait(waits, timeout=POLL_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _relay_what_waits(self, publisher: Publisher) -> bool:
        """Relay a batch, or more while batches come full; returns whether there may be more at once."""
        if self._careful > 0:
            claimed = await self._relay_batch(publisher, 1)
            self._careful = self._careful - 1 if claimed else 0
            return claimed > 0
        if await self._relay_batch(publisher, BATCH) < BATCH:
            return False
        # A backlog: one batch is claimed and deleted while the other is on its way to the broker.
        async with asyncio.TaskGroup() as group:
            claims = [group.create_task(self._relay_batch(publisher, BATCH)) for _ in range(CONCURRENT_BATCHES)]
        return any(claim.result() == BATCH for claim in claims)

    async def _relay_batch(self, publisher: Publisher, size: int) -> int:
        """Claim, publish, delete; returns how many rows were claimed."""
        async with self._database.pool.connection() as connection:
            cursor = await connection.execute(self._claim, [size], binary=True)
            rows = [_Row(*row) for row in await cursor.fetchall()]
            if not rows:
                return 0
            outcome = await self._publish(publisher, rows)
            if outcome.confirmed:
                await connection.execute(self._delete, [outcome.confirmed])
            for row_id, attempts, error in outcome.refused:
                await connection.execute(self._postpone, [error, backoff_s(attempts), row_id])
        self._published.inc(len(outcome.confirmed))
        if outcome.refused:
            self._refused.inc(len(outcome.refused))
            log.warning(
                "The broker refused events; they are tried again.",
                action="outbox.refused",
                count=len(outcome.refused),
                error=outcome.refused[0][2],
            )
        if outcome.broken is not None:
            self._careful = len(rows) if len(rows) > 1 else self._careful
            why = await publisher.silence() if isinstance(outcome.broken, TimeoutError) else outcome.broken
            raise ConnectionError(f"publishing stopped: {why!r}") from outcome.broken
        return len(rows)

    async def _publish(self, publisher: Publisher, rows: list[_Row]) -> _Outcome:
        lanes: dict[str, list[_Row]] = {}
        for row in rows:
            lanes.setdefault(row.ordering_key, []).append(row)
        outcome = _Outcome([], [])
        try:
            async with asyncio.timeout(CONFIRM_TIMEOUT_S), asyncio.TaskGroup() as group:
                for key, lane in lanes.items():
                    # The other batch may hold earlier events of the same subject: they go first.
                    earlier = self._lanes.get(key)
                    work = self._publish_lane(publisher, lane, outcome, earlier, alone=len(rows) == 1)
                    self._lanes[key] = group.create_task(work)
        except TimeoutError as error:
            outcome.broken = error
        finally:
            for key in lanes:
                if (task := self._lanes.get(key)) is not None and task.done():
                    del self._lanes[key]
        return outcome

    async def _publish_lane(
        self,
        publisher: Publisher,
        lane: list[_Row],
        outcome: _Outcome,
        earlier: asyncio.Task[None] | None,
        *,
        alone: bool,
    ) -> None:
        if earlier is not None:
            await asyncio.wait([earlier])
        for row in lane:
            try:
                await publisher.publish(message(row), exchange=row.exchange, routing_key=row.routing_key)
            except DeliveryError as error:
                outcome.refused.append((row.id, row.attempts, f"no queue took it, or the broker refused it: {error!r}"))
            except _LINK_DOWN as error:
                outcome.broken = error
                if alone and not isinstance(error, ConnectionError | TimeoutError):
                    outcome.refused.append((row.id, row.attempts, f"the broker closed the channel: {error!r}"))
                return
            else:
                outcome.confirmed.append(row.id)

    async def measure(self) -> tuple[int, datetime | None]:
        """How many events wait, and since when; also sets the gauges."""
        async with self._database.pool.connection() as connection:
            row = await (await connection.execute(self._state)).fetchone()
        count, oldest = row if row is not None else (0, None)
        self._pending.set(count)
        self._oldest.set((datetime.now(UTC) - oldest).total_seconds() if oldest else 0)
        return count, oldest


def message(row: Any) -> aio_pika.Message:  # noqa: ANN401 - a row of any outbox
    """The AMQP form of an outbox row (contracts: Events)."""
    headers: HeadersType = {"traceparent": row.traceparent} if row.traceparent else {}
    return aio_pika.Message(
        row.body,
        content_type=CONTENT_TYPE,
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=str(row.event_id),
        type=row.routing_key,
        headers=headers,
    )
