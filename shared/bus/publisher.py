"""The one module that publishes facts: one connection, confirms, nothing unroutable goes unnoticed."""

import asyncio
from types import TracebackType
from typing import Final, Self, cast

import aio_pika
import aiormq
from aio_pika.abc import AbstractChannel, AbstractConnection

from shared.bus.topology import Topology

CONFIRM_TIMEOUT_S: Final = 10.0
CONNECT_TIMEOUT_S: Final = 5.0
HEARTBEAT_S: Final = 10
LINK_CHECK_S: Final = 2.0
LINK_TIMEOUT_S: Final = 5.0
# RabbitMQ can lose the leader of a quorum queue: most of its nodes are down, or it was killed within seconds of the
# queue's declaration. What is published to the queue then gets no confirm, and everything else an answer.
LEADERLESS: Final = (
    "the broker answers, but not for a queue, which may have lost its leader: `expressync doctor` says which, and what"
    " to do"
)


async def connect(amqp_url: str, name: str) -> AbstractConnection:
    """A plain connection: whoever uses it replaces it when it breaks, and knows that it did."""
    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        return await aio_pika.connect(amqp_url, client_properties={"connection_name": name}, heartbeat=HEARTBEAT_S)


async def on_loss(channel: AbstractChannel, lost: asyncio.Event) -> None:
    """Set `lost` when the channel closes, or the broker ends what is consumed on it: the queue was deleted, or went
    with a node of the cluster. Nothing closes then, and nothing comes any more.
    """
    channel.close_callbacks.add(lambda *_: lost.set())
    underlay = cast("aiormq.Channel", await channel.get_underlay_channel())
    underlay.on_consumer_cancel_callbacks.add(lambda _: lost.set())


async def watch(connection: AbstractConnection, closed: asyncio.Event, stop: asyncio.Event) -> None:
    """Return at `stop`. A broker that falls silent is noticed here within seconds; heartbeats take half a minute.

    :raises ConnectionError: when `closed` is set, or the broker does not answer any more.
    """
    waits = [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(closed.wait())]
    try:
        while True:
            await asyncio.wait(waits, timeout=LINK_CHECK_S, return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set():
                return
            if closed.is_set():
                raise ConnectionError("the broker went away, or a queue did")
            await check(connection)
    finally:
        for wait in waits:
            wait.cancel()


async def check(connection: AbstractConnection) -> None:
    """Ask the broker for an answer: it opens a channel for us.

    :raises ConnectionError: there is none in time.
    """
    try:
        async with asyncio.timeout(LINK_TIMEOUT_S), connection.channel(publisher_confirms=False):
            return
    except (TimeoutError, aio_pika.exceptions.AMQPError, OSError, RuntimeError) as error:
        raise ConnectionError("the broker does not answer") from error


class Publisher:
    """A connected publisher; use as an async context manager and throw it away after an error.

    The topology is declared on entry.
    """

    def __init__(self, amqp_url: str, *, name: str, topology: Topology) -> None:
        self._url, self._name, self._topology = amqp_url, name, topology
        self._connection: AbstractConnection | None = None
        # The channel below aio-pika's: that one waits for the socket before the next message may leave.
        self._channel: aiormq.Channel | None = None

    async def __aenter__(self) -> Self:
        self._connection = await connect(self._url, self._name)
        try:
            async with asyncio.timeout(CONFIRM_TIMEOUT_S):
                # on_return_raises: an unroutable message is an error, not a silent success.
                channel = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
                await self._topology.declare(channel)
                self._channel = cast("aiormq.Channel", await channel.get_underlay_channel())
        except TimeoutError as error:
            silence = await self.silence()
            await self._connection.close()
            raise silence from error
        except BaseException:
            await self._connection.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            await self._connection.close()

    @property
    def usable(self) -> bool:
        """Whether the next publish has a chance."""
        return self._channel is not None and not self._channel.is_closed

    async def check(self) -> None:
        """Ask the broker for an answer.

        :raises ConnectionError: there is none in time.
        """
        if self._connection is None:
            raise ConnectionError("the publisher is not connected")
        await check(self._connection)

    async def silence(self) -> ConnectionError:
        """What it means that an answer did not come: the broker gives none at all, or none for a queue."""
        try:
            await self.check()
        except ConnectionError as error:
            return error
        return ConnectionError(LEADERLESS)

    async def publish(self, message: aio_pika.Message, *, exchange: str, routing_key: str) -> None:
        """Publish one persistent message and wait until the broker has it; the caller bounds the time.

        Messages of one task leave in order. Nothing waits until the socket has taken each one (`wait=False`): the
        confirm says more than that, and the caller bounds how many are in flight.

        :raises aio_pika.exceptions.DeliveryError: refused by the broker, or no queue takes it.
        :raises ConnectionError: the connection broke; it may have been stored.
        """
        if self._channel is None:
            raise ConnectionError("the publisher is not connected")
        try:
            await self._channel.basic_publish(
                message.body,
                exchange=exchange,
                routing_key=routing_key,
                properties=message.properties,
                mandatory=True,
                wait=False,
            )
        except asyncio.CancelledError as error:
            # The library cancels what waits for a confirm when the connection dies. Told apart from being cancelled
            # ourselves, which must go through.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise ConnectionError("the connection broke while a confirm was awaited") from error
