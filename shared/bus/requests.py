"""Asking: one request, one reply or none. Outside the outbox, on a connection of its own: a request is no fact."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final, TypeVar
from uuid import UUID, uuid4

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractExchange, AbstractIncomingMessage
from pydantic import BaseModel, ValidationError

from shared.bus.publisher import connect, on_loss, watch
from shared.bus.topology import REQUESTS, Topology, requests_queue
from shared.contracts.identity import Actor
from shared.contracts.problem import RemoteProblem
from shared.contracts.request import ReplyEnvelope, Request, RequestEnvelope
from shared.runtime.clock import Clock
from shared.runtime.log import get_logger
from shared.runtime.tracing import continued, current_traceparent

log = get_logger(__name__)

R = TypeVar("R", bound=BaseModel)

DEFAULT_DEADLINE_S: Final = 5.0


class NoAnswerError(Exception):
    """Nobody answered in time: the outcome is unknown. A command may be repeated with the same key."""

    def __init__(self, request: str, owner: str, why: str) -> None:
        super().__init__(f"{owner} did not answer {request}: {why}")
        self.request, self.owner, self.why = request, owner, why


class Requester:
    """Sends requests and waits for their replies. A supervised part; `ask` works while it runs."""

    name = "requester"

    def __init__(self, amqp_url: str, *, service: str, topology: Topology, clock: Clock) -> None:
        self._url, self._service, self._topology, self._clock = amqp_url, service, topology, clock
        self._waiting: dict[str, asyncio.Future[AbstractIncomingMessage]] = {}
        self._exchange: AbstractExchange | None = None
        self._replies = ""

    @property
    def connected(self) -> bool:
        return self._exchange is not None

    async def run(self, stop: asyncio.Event) -> None:
        closed = asyncio.Event()
        connection = await connect(self._url, f"{self._service}.requester")
        try:
            connection.close_callbacks.add(lambda *_: closed.set())
            # A request that no queue takes is dropped by the broker and times out here: unknown, as it should be.
            channel = await connection.channel(publisher_confirms=False)
            await on_loss(channel, closed)
            await self._topology.declare(channel)
            replies = await channel.declare_queue(exclusive=True, auto_delete=True)
            await replies.consume(self._receive, no_ack=True)
            self._replies = replies.name
            self._exchange = await channel.get_exchange(REQUESTS, ensure=False)
            await watch(connection, closed, stop)
        finally:
            self._exchange = None
            await connection.close()

    async def _receive(self, message: AbstractIncomingMessage) -> None:
        waiting = self._waiting.get(message.correlation_id or "")
        if waiting is not None and not waiting.done():
            waiting.set_result(message)

    async def ask(
        self,
        request: Request[R],
        *,
        actor: Actor,
        correlation_id: UUID | None = None,
        deadline_s: float = DEFAULT_DEADLINE_S,
        key: str | None = None,
        at_once: bool = False,
    ) -> R:
        """Ask the owner.

        :param key: a command's idempotency key; the same key gives the same result, executed once.
        :param at_once: do not wait for a connection to the broker where there is none.
        :raises NoAnswerError: no reply within `deadline_s` seconds: unknown.
        :raises RemoteProblem: the owner refused, and says why.
        """
        if request.command and key is None:
            raise ValueError(f"{request.name} is a command and needs an idempotency key")
        if at_once and not self.connected:
            raise NoAnswerError(request.name, request.owner, "there is no connection to the broker")
        envelope = RequestEnvelope(
            name=request.name,
            actor=actor,
            correlationid=correlation_id or uuid4(),
            deadline=self._clock() + timedelta(seconds=deadline_s),
            idempotency_key=key,
            data=request.model_dump(mode="json"),
        )
        try:
            async with asyncio.timeout(deadline_s):
                reply = await self._call(envelope, request.owner, deadline_s)
        except TimeoutError:
            raise NoAnswerError(request.name, request.owner, f"no reply within {deadline_s:g} s") from None
        except (aio_pika.exceptions.AMQPError, ConnectionError, RuntimeError) as error:
            raise NoAnswerError(request.name, request.owner, f"the broker is not reachable ({error!r})") from error
        return self._read(request, reply)

    async def _call(self, envelope: RequestEnvelope, owner: str, deadline_s: float) -> bytes:
        while self._exchange is None:  # noqa: ASYNC110 - a reconnect takes a moment; the caller's deadline bounds this
            await asyncio.sleep(0.02)
        call_id = str(uuid4())
        traceparent = current_traceparent()
        future: asyncio.Future[AbstractIncomingMessage] = asyncio.get_running_loop().create_future()
        self._waiting[call_id] = future
        try:
            await self._exchange.publish(
                aio_pika.Message(
                    envelope.model_dump_json().encode(),
                    content_type="application/json",
                    type=envelope.name,
                    reply_to=self._replies,
                    correlation_id=call_id,
                    expiration=deadline_s,
                    delivery_mode=aio_pika.DeliveryMode.NOT_PERSISTENT,
                    headers={"traceparent": traceparent} if traceparent else {},
                ),
                requests_queue(owner),
                mandatory=False,
            )
            return (await future).body
        finally:
            del self._waiting[call_id]

    @staticmethod
    def _read(request: Request[R], body: bytes) -> R:
        try:
            reply = ReplyEnvelope.model_validate_json(body)
            if reply.problem is not None:
                raise RemoteProblem(reply.problem)
            return request.reply.model_validate(reply.value)  # type: ignore[return-value]
        except ValidationError as error:
            why = f"its reply could not be read ({error.error_count()} errors)"
            raise NoAnswerError(request.name, request.owner, why) from error


Answer = Callable[[RequestEnvelope], Awaitable[ReplyEnvelope | None]]


class RequestServer:
    """Takes a service's requests off the queue. A supervised part.

    Each is acknowledged before it is worked on: it is executed at most once, and never comes back. One that still waits
    for its turn when the service stops is left to the broker, for the next who asks for it.
    """

    name = "requests"

    def __init__(
        self, amqp_url: str, *, service: str, topology: Topology, clock: Clock, answer: Answer, concurrency: int = 8
    ) -> None:
        self._url, self._service, self._topology, self._clock = amqp_url, service, topology, clock
        self._answer, self._concurrency = answer, concurrency
        self.connected = False

    async def run(self, stop: asyncio.Event) -> None:
        closed = asyncio.Event()
        connection = await connect(self._url, f"{self._service}.requests")
        at_work: set[asyncio.Task[None]] = set()
        free = asyncio.Semaphore(self._concurrency)
        over = False
        try:
            connection.close_callbacks.add(lambda *_: closed.set())
            channel = await connection.channel(publisher_confirms=False)
            await on_loss(channel, closed)
            await channel.set_qos(prefetch_count=self._concurrency)
            await self._topology.declare(channel)

            async def take(message: AbstractIncomingMessage) -> None:
                await free.acquire()
                if over:
                    free.release()
                    return
                task = asyncio.create_task(self._serve(channel, message))
                at_work.add(task)
                task.add_done_callback(at_work.discard)
                task.add_done_callback(lambda _: free.release())

            queue = await channel.declare_queue(requests_queue(self._service), passive=True)
            tag = await queue.consume(take)
            self.connected = True
            await watch(connection, closed, stop)
            over = True
            await queue.cancel(tag)
        finally:
            over = True
            self.connected = False
            if at_work:
                # What was begun is finished; its reply may find nobody, its result is kept under its key.
                await asyncio.wait(at_work, timeout=10)
            await connection.close()

    async def _serve(self, channel: AbstractChannel, message: AbstractIncomingMessage) -> None:
        try:
            await message.ack()
        except (aio_pika.exceptions.AMQPError, ConnectionError, RuntimeError) as error:
            # The connection went: the broker hands it out again.
            log.info("A request was left.", action="request.left", error=repr(error))
            return
        try:
            envelope = RequestEnvelope.model_validate_json(message.body)
        except ValidationError as error:
            log.warning("A request could not be read.", action="request.malformed", errors=error.error_count())
            return
        if envelope.deadline <= self._clock():
            log.info("A request came too late and was left.", action="request.expired", request=envelope.name)
            return
        traceparent = message.headers.get("traceparent")
        with continued(traceparent):
            reply = await self._answer(envelope)
        if reply is None or not message.reply_to or channel.is_closed:
            return
        try:
            await channel.default_exchange.publish(
                aio_pika.Message(
                    reply.model_dump_json().encode(),
                    content_type="application/json",
                    correlation_id=message.correlation_id,
                    delivery_mode=aio_pika.DeliveryMode.NOT_PERSISTENT,
                ),
                message.reply_to,
                mandatory=False,
            )
        except (aio_pika.exceptions.AMQPError, ConnectionError, RuntimeError) as error:
            log.warning("A reply was lost.", action="request.reply_lost", request=envelope.name, error=repr(error))
