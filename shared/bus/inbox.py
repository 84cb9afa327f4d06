"""The inbox: each event is handled once by each consumer, in one transaction, and acknowledged after it.

A failure is retried from the retry queue; when that does not help, or nothing ever could (a malformed message), the
message is parked with the reason, for an operator to see and replay. It is never dropped and never loops.
"""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar
from uuid import UUID

import sqlalchemy as sa
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import AMQPError, ChannelInvalidStateError
from faststream import AckPolicy
from faststream.rabbit import Channel, RabbitBroker, RabbitQueue
from faststream.rabbit.annotations import RabbitMessage
from faststream.rabbit.schemas.queue import QueueType
from opentelemetry import trace
from prometheus_client import CollectorRegistry, Counter
from sqlalchemy.dialects.postgresql import insert

from shared.bus.parking import parked_message
from shared.bus.publisher import CONFIRM_TIMEOUT_S, Publisher, on_loss, watch
from shared.bus.topology import MAX_ATTEMPTS, Topology, events_queue, hears, parked_queue
from shared.contracts.event import Envelope, Event, MalformedMessageError, open_envelope, open_event
from shared.database.engine import Database, Write, is_unavailable
from shared.runtime.log import get_logger, mask
from shared.runtime.tracing import from_traceparent, span

log = get_logger(__name__)

E = TypeVar("E", bound=Event)
Handler = Callable[[Write, Any, Envelope], Awaitable[None]]
AnyHandler = Callable[[Write, Envelope, Event | None, bytes], Awaitable[None]]

PREFETCH: Final = 50
GRACEFUL_S: Final = 10.0
_LINK_DOWN: Final = (AMQPError, ChannelInvalidStateError, OSError, TimeoutError, asyncio.InvalidStateError)
DATABASE_RETRY_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0)


class NeverSettledError(Exception):
    """A message came back again and again from consumers that neither handled nor refused it."""

    def __init__(self, times: int) -> None:
        super().__init__(f"taken {times} times and never settled; the service may have died of it each time")


def _any_one(_: Event) -> bool:
    return True


class Consumer:
    """Handles a service's events; restarted by its supervisor when the broker goes away."""

    name = "consumer"

    def __init__(
        self,
        database: Database,
        amqp_url: str,
        *,
        service: str,
        metadata: sa.MetaData,
        topology: Topology,
        registry: CollectorRegistry,
    ) -> None:
        self._database, self._url, self._service, self._topology = database, amqp_url, service, topology
        self._inbox = metadata.tables[f"{metadata.schema}.inbox"]
        self._queue = events_queue(service)
        # Declared with the topology already, with arguments that this class does not know.
        self._work = RabbitQueue(self._queue, durable=True, queue_type=QueueType.QUORUM, declare=False)
        self._handlers: dict[type[Event], list[tuple[Callable[[Any], bool], Handler]]] = {}
        self._any: list[AnyHandler] = []
        self._publisher: Publisher | None = None
        self._broken = asyncio.Event()
        self.connected = False
        self._counted = Counter(
            "inbox_messages_total", "Messages by outcome", labelnames=("outcome",), registry=registry
        )

    def on(
        self,
        event: type[E],
        handler: Callable[[Write, E, Envelope], Awaitable[None]],
        *,
        where: Callable[[E], bool] = _any_one,
    ) -> None:
        """Call `handler` for each such event, inside the transaction that marks it as handled.

        :param where: those of them that concern it. The others cost no transaction.
        :raises ValueError: for an event that never comes here: `SUBSCRIPTIONS` has to name it.
        """
        if not hears(self._service, event.type):
            raise ValueError(f"{self._service} does not listen to {event.type}")
        self._handlers.setdefault(event, []).append((where, handler))

    def handlers(self, event: Event) -> list[Handler]:
        """Those that have to do with this event."""
        return [handler for where, handler in self._handlers.get(type(event), ()) if where(event)]

    def on_any(self, handler: AnyHandler) -> None:
        """Call `handler` for every event, also of types and versions this program does not know (event is None)."""
        self._any.append(handler)

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop`, then finish what is in hand."""
        self._broken = asyncio.Event()
        async with Publisher(self._url, name=f"{self._service}.parking", topology=self._topology) as publisher:
            self._publisher = publisher
            broker = self._broker()
            connection: AbstractConnection | None = None
            finish_s = 0.0
            try:
                async with asyncio.timeout(10):
                    connection = await broker.connect()
                    # The channel that is consumed on. Left alone, it would look for a deleted queue for ever.
                    await on_loss((await broker.declare_queue(self._work)).channel, self._broken)
                    await broker.start()
                self.connected = True
                # Not FastStream's ping: it looks at a flag, which stays set while the broker is silent.
                await watch(connection, self._broken, stop)
                finish_s = GRACEFUL_S
            finally:
                self.connected = False
                await self._take_down(broker, connection, finish_s=finish_s)

    @staticmethod
    async def _take_down(broker: RabbitBroker, connection: AbstractConnection | None, *, finish_s: float) -> None:
        """Stop consuming and finish what is in hand, within `finish_s` seconds; then cut the connection.

        FastStream waits for the broker's word that it sends no more, for ever and against being cancelled: a silent
        broker would keep this consumer down until its heartbeats were missed, and the service from stopping.
        """
        stopping = asyncio.create_task(broker.stop())
        try:
            await asyncio.wait([stopping], timeout=finish_s)
        finally:
            if not stopping.done() and connection is not None:
                await connection.close()
            await asyncio.gather(stopping, return_exceptions=True)

    def _broker(self) -> RabbitBroker:
        async def as_it_is(message: RabbitMessage) -> RabbitMessage:
            # The handler decides about the body and the acknowledgement itself, so it gets the message and not a
            # decoded body: a decoder that raised would have FastStream reject the message.
            return message

        broker = RabbitBroker(
            self._url,
            default_channel=Channel(prefetch_count=PREFETCH),
            decoder=as_it_is,
            apply_types=False,
            graceful_timeout=GRACEFUL_S,
            fail_fast=True,
            on_close=[lambda *_: self._broken.set()],
            logger=None,
        )
        broker.subscriber(self._work, ack_policy=AckPolicy.MANUAL)(self._handle)
        return broker

    async def _handle(self, message: RabbitMessage) -> None:
        """Settle a message, whatever comes: what is raised from here, nobody hears of, and the message stays taken.

        As many such messages as are taken at once would stop the queue for good, with every probe green.
        """
        try:
            await self._settle(message)
        except _LINK_DOWN as error:
            # Unacknowledged, it comes back with the next connection.
            log.warning("Settling a message failed; it stays.", action="inbox.settling_failed", error=repr(error))
            self._broken.set()
        except Exception as error:
            log.exception("A message was beyond the consumer.", action="inbox.unforeseen", event_id=message.message_id)
            await self._park(message, f"the consumer cannot cope with it: {error!r}")

    async def _settle(self, message: RabbitMessage) -> None:
        body = bytes(message.body)
        if is_to_rest(message.headers, body, queue=self._queue, limit=self._topology.delivery_limit):
            await self._refuse(message, NeverSettledError(unsettled(message.headers)))
            return
        try:
            envelope = open_envelope(body)
            event = open_event(envelope)
        except MalformedMessageError as error:
            await self._park(message, error.reason)
            return
        handlers = self.handlers(event) if event is not None else []
        if not handlers and not self._any:
            await self._finish(message, "ignored")
            return
        context = from_traceparent(message.headers.get("traceparent"))
        with span(f"handle {envelope.type}", context=context, kind=trace.SpanKind.CONSUMER):
            try:
                outcome = await self._handle_once(envelope, event, body, handlers)
            except Exception as error:  # noqa: BLE001 - any failure: retried, then parked with what it said
                await self._refuse(message, error)
                return
        await self._finish(message, outcome)

    async def _handle_once(
        self, envelope: Envelope, event: Event | None, body: bytes, handlers: Sequence[Handler]
    ) -> str:
        """One transaction: inbox row, state, outbox rows. While the database is away, wait for it here: the message
        is not at fault and must not come closer to being parked.
        """
        pauses = iter(DATABASE_RETRY_S)
        while True:
            try:
                async with self._database.write() as tx:
                    if not await self._first_time(tx, envelope.id):
                        return "repeated"
                    for any_handler in self._any:
                        await any_handler(tx, envelope, event, body)
                    for handler in handlers:
                        await handler(tx, event, envelope)
            except Exception as error:
                if not is_unavailable(error):
                    raise
                pause = next(pauses, DATABASE_RETRY_S[-1])
                log.warning("The database is away; the message waits.", action="inbox.waits", error=repr(error))
                await asyncio.sleep(pause)
            else:
                return "handled"

    async def _first_time(self, tx: Write, event_id: UUID) -> bool:
        statement = insert(self._inbox).values(consumer=self._service, event_id=event_id).on_conflict_do_nothing()
        return (await tx.execute(statement.returning(self._inbox.c.event_id))).first() is not None

    async def _finish(self, message: RabbitMessage, outcome: str) -> None:
        await message.ack()
        self._counted.labels(outcome).inc()

    async def _refuse(self, message: RabbitMessage, error: Exception) -> None:
        attempts = failed_attempts(message.headers, self._queue) + 1
        log.error(
            "Handling an event failed.",
            action="inbox.failed",
            event_id=message.message_id,
            event_type=message.raw_message.type,
            attempts=attempts,
            exc_info=error,
        )
        if attempts >= MAX_ATTEMPTS:
            await self._park(message, f"{attempts} attempts failed, the last with {error!r}")
            return
        await message.reject(requeue=False)
        self._counted.labels("retried").inc()

    async def _park(self, message: RabbitMessage, reason: str) -> None:
        """Move the message aside, with the reason; only then acknowledge it."""
        # An error's words may hold what was to be written; they stay until somebody replays the message.
        reason = str(mask(reason))
        log.error("A message was parked.", action="inbox.parked", event_id=message.message_id, reason=reason)
        assert self._publisher is not None  # noqa: S101 - nothing is consumed before run() set it
        try:
            async with asyncio.timeout(CONFIRM_TIMEOUT_S):
                await self._publisher.publish(
                    parked_message(message.raw_message, queue=self._queue, reason=reason),
                    exchange="",
                    routing_key=parked_queue(self._queue),
                )
        except _LINK_DOWN as error:
            # Unacknowledged, it comes back with the next connection.
            log.warning("Parking failed; the message stays.", action="inbox.parking_failed", error=repr(error))
            self._broken.set()
            return
        await self._finish(message, "parked")


def failed_attempts(headers: dict[str, Any], queue: str) -> int:
    """How often a message died in `queue` before, as RabbitMQ counts it in `x-death`."""
    deaths = headers.get("x-death") or []
    try:
        return sum(int(death.get("count", 0)) for death in deaths if death.get("queue") == queue)
    except (AttributeError, TypeError, ValueError):
        # Not the broker's own: it could not go on counting in there, and the message would be retried for ever.
        return MAX_ATTEMPTS


def unsettled(headers: dict[str, Any]) -> int:
    """How often a message was taken since it came into its queue, by a consumer that died or lost its channel."""
    count = headers.get("x-delivery-count")
    return count if isinstance(count, int) else 0


def is_to_rest(headers: dict[str, Any], body: bytes, *, queue: str, limit: int) -> bool:
    """Whether a message is to be refused unhandled. At its `limit` the broker would move it to the retry queue itself,
    and from there it lets nothing back that nobody refused: it would lie there for ever, counted nowhere.

    What was taken together comes back together, and one of them may end the process before the others are handled. So
    half of them wait longer before they rest, each time another half, and meet without the one that kills.
    """
    late = zlib.crc32(body) >> failed_attempts(headers, queue) & 1
    return unsettled(headers) >= limit * (2 + late) // 5
