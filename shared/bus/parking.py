"""Parked messages: visible with their reason, and replayable, one or all. Never lost on the way."""

import asyncio
import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import aio_pika
from aio_pika.abc import AbstractIncomingMessage, AbstractMessage

from shared.bus.publisher import CONFIRM_TIMEOUT_S, Publisher, connect
from shared.bus.topology import SUBSCRIPTIONS, Topology, events_queue, parked_queue

REASON: Final = "x-parked-reason"
PARKED_AT: Final = "x-parked-at"
PARKED_FROM: Final = "x-parked-from"
SHOWN: Final = 200
_OURS: Final = (REASON, PARKED_AT, PARKED_FROM)
_BROKERS: Final = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-acquired-count")


@dataclass(frozen=True, slots=True)
class Parked:
    """A parked message as an operator sees it. `body` is text, or base64 where it is not UTF-8.

    `number` is its place in the queue, counted from 1: it moves up as those before it are replayed.
    """

    queue: str
    number: int
    message_id: str | None
    type: str | None
    reason: str
    parked_at: str | None
    body: str


@dataclass(frozen=True, slots=True)
class Shelf:
    """What is parked from one work queue: how many messages, and the oldest of them."""

    queue: str
    count: int
    messages: list[Parked]


class UnknownQueueError(Exception):
    """Nothing is ever parked from a queue of that name."""

    def __init__(self, queue: str) -> None:
        super().__init__(queue)
        self.queue = queue


def _copy(message: AbstractMessage, headers: Mapping[str, Any]) -> aio_pika.Message:
    return aio_pika.Message(
        message.body,
        content_type=message.content_type,
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=message.message_id,
        type=message.type,
        headers={name: _sendable(value) for name, value in headers.items()},
    )


def _sendable(value: Any) -> Any:  # noqa: ANN401 - any header's value
    """A text that is not UTF-8 is received as bytes, which the library does not send; as a byte array it does."""
    if isinstance(value, bytes):
        return bytearray(value)
    if isinstance(value, list):
        return [_sendable(item) for item in value]
    if isinstance(value, dict):
        return {name: _sendable(item) for name, item in value.items()}
    return value


def parked_message(message: AbstractMessage, *, queue: str, reason: str) -> aio_pika.Message:
    """The message as it goes into the parking queue: as it was, with where it comes from, why and since when.

    Of its properties id, type and content type are kept, which are all that an event has.
    """
    kept = {k: v for k, v in message.headers.items() if not k.startswith(_BROKERS)}
    # A header travels in a frame of limited size; a reason is a sentence, not a dump.
    marks = {REASON: reason[:2000], PARKED_AT: datetime.now(UTC).isoformat(), PARKED_FROM: queue}
    return _copy(message, {**kept, **marks})


def _describe(queue: str, number: int, message: AbstractIncomingMessage) -> Parked:
    try:
        body = message.body.decode()
    except UnicodeDecodeError:
        body = "base64:" + base64.b64encode(message.body).decode()
    return Parked(
        queue=queue,
        number=number,
        message_id=message.message_id,
        type=message.type,
        reason=str(message.headers.get(REASON, "unknown")),
        parked_at=str(message.headers.get(PARKED_AT)) if PARKED_AT in message.headers else None,
        body=body,
    )


def queues() -> list[str]:
    """The work queues that can have parked messages."""
    return [events_queue(service) for service in SUBSCRIPTIONS]


async def list_parked(
    amqp_url: str, *, queue: str | None = None, limit: int = SHOWN, topology: Topology | None = None
) -> list[Shelf]:
    """Look at what is parked in each queue, oldest first, and put it back as it was. Empty queues are left out.

    :param limit: of the messages of each queue; `count` says how many there are.
    :raises UnknownQueueError: for a queue that is none.
    """
    found: list[Shelf] = []
    # Closing the channel returns everything that was taken and not acknowledged.
    async with await connect(amqp_url, "parked.list") as connection, connection.channel() as channel:
        await (topology or Topology()).declare(channel)
        for name in _chosen(queue):
            parked = await channel.declare_queue(parked_queue(name), passive=True)
            shelf = Shelf(name, parked.declaration_result.message_count or 0, [])
            while len(shelf.messages) < limit:
                message = await parked.get(no_ack=False, fail=False)
                if message is None:
                    break
                shelf.messages.append(_describe(name, len(shelf.messages) + 1, message))
            if shelf.messages:
                found.append(shelf)
    return found


async def replay(
    amqp_url: str,
    *,
    queue: str | None = None,
    message_id: str | None = None,
    number: int | None = None,
    topology: Topology | None = None,
) -> list[Parked]:
    """Send parked messages back to the queue they were parked from; returns those that were sent.

    A message leaves the parking queue after the broker confirmed its copy: a crash in between leaves two, and the
    inbox handles one. Each message is taken at most once, so that one that fails again does not loop here.

    :param number: which one of `queue`, as `list_parked` counts: ids need not be unique, nor be there at all.
    :raises UnknownQueueError: for a queue that is none.
    """
    if number is not None and queue is None:
        raise ValueError("a number counts within a queue")
    sent: list[Parked] = []
    async with (
        Publisher(amqp_url, name="parked.replay", topology=topology or Topology()) as publisher,
        await connect(amqp_url, "parked.replay") as connection,
        connection.channel() as channel,
    ):
        for name in _chosen(queue):
            parked = await channel.declare_queue(parked_queue(name), passive=True)
            for place in range(1, (parked.declaration_result.message_count or 0) + 1):
                message = await parked.get(no_ack=False, fail=False)
                if message is None:
                    break
                if number not in {None, place} or (message_id is not None and message.message_id != message_id):
                    continue
                kept = {k: v for k, v in message.headers.items() if k not in _OURS and not k.startswith(_BROKERS)}
                async with asyncio.timeout(CONFIRM_TIMEOUT_S):
                    await publisher.publish(_copy(message, kept), exchange="", routing_key=name)
                await message.ack()
                sent.append(_describe(name, place, message))
                if number is not None:
                    break
    return sent


def _chosen(queue: str | None) -> list[str]:
    if queue is None:
        return queues()
    if queue not in queues():
        raise UnknownQueueError(queue)
    return [queue]
