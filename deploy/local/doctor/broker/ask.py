"""Asks RabbitMQ. Declares nothing: every queue is asked for passively, and an empty one for a message too.

What answers for a queue's existence is not its leader: a queue that has lost that still says that it is there and
empty, and answers for no message.
"""

import asyncio
from typing import Final

from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import AMQPError, ChannelNotFoundEntity

from deploy.local.doctor import place
from deploy.local.doctor.broker import rules
from deploy.local.doctor.broker.rules import Found
from deploy.local.doctor.place import Place
from deploy.local.doctor.result import Result
from deploy.local.doctor.target import Target
from deploy.local.infra.external import rabbitmq_answers
from shared.bus.publisher import connect
from shared.bus.topology import (
    AUDIT,
    EVENTS,
    OWNERS,
    REQUESTS,
    SUBSCRIPTIONS,
    events_queue,
    parked_queue,
    requests_queue,
    retry_queue,
)

STEP_S: Final = 6.0
LEADER_S: Final = 2.0


async def check(target: Target) -> list[Result]:
    where = await asyncio.to_thread(place.broker, target)
    return rules.judge(await ask(where))


async def ask(where: Place) -> Found:
    """What RabbitMQ says; nothing is raised for what it does not."""
    if where.running is False or where.url is None:
        return Found(where.way, where.shown, running=False, start=where.start)
    try:
        answers = await asyncio.to_thread(rabbitmq_answers, where.url)
    except ValueError:
        return Found(where.way, "", readable=False)
    if not answers:
        return Found(where.way, where.shown, start=where.start)
    try:
        async with await connect(where.url, "expressync-doctor") as connection:
            version = _version(connection)
            async with asyncio.timeout(STEP_S):
                missing, parked, leaderless = await _topology(connection)
    except TimeoutError:
        return Found(where.way, where.shown, answers=True, refusal="it did not go on in time")
    except (AMQPError, OSError) as error:
        return Found(where.way, where.shown, answers=True, refusal=_words(error))
    return Found(
        where.way,
        where.shown,
        start=where.start,
        answers=True,
        version=version,
        missing=tuple(missing),
        parked=parked,
        leaderless=leaderless,
    )


async def _topology(connection: AbstractConnection) -> tuple[list[str], dict[str, int], str | None]:
    """Exchanges and queues that are missing, what is parked in each queue, and the first queue without a leader.

    Behind that one nothing is asked: the connection answers late now.
    """
    missing: list[str] = []
    parked: dict[str, int] = {}
    for exchange in (EVENTS, AUDIT, REQUESTS):
        try:
            async with connection.channel() as channel:
                await channel.get_exchange(exchange)
        except ChannelNotFoundEntity:
            missing.append(f"exchange {exchange}")
    works = [events_queue(service) for service in SUBSCRIPTIONS]
    aside = [parked_queue(name) for name in works]
    requests = [requests_queue(service) for service in OWNERS]
    for queue in [*works, *map(retry_queue, works), *aside, *requests]:
        try:
            # Asking for what is not there closes the channel.
            async with connection.channel() as channel:
                found = await channel.declare_queue(queue, passive=True)
        except ChannelNotFoundEntity:
            missing.append(f"queue {queue}")
        else:
            count = found.declaration_result.message_count or 0
            if queue in aside:
                parked[queue] = count
            if count == 0 and queue not in requests and not await _is_led(connection, queue):
                return missing, parked, queue
    return missing, parked, None


async def _is_led(connection: AbstractConnection, queue: str) -> bool:
    """Whether somebody answers for an empty queue."""
    channel = await connection.channel(publisher_confirms=False)
    try:
        async with asyncio.timeout(LEADER_S):
            message = await (await channel.get_queue(queue, ensure=False)).get(fail=False)
    except TimeoutError:
        # Not closed: that would wait for the same answer.
        return False
    if message is not None:
        # It came just now, and goes to whom it is for.
        await message.nack(requeue=True)
    await channel.close()
    return True


def _version(connection: AbstractConnection) -> str:
    transport = connection.transport
    properties = transport.connection.server_properties if transport is not None else {}
    version = properties.get("version", "")
    return version.decode() if isinstance(version, bytes) else str(version)


def _words(error: BaseException) -> str:
    """What the broker says, without the class names that a client library puts around it."""
    text = str(error).strip().rstrip(".")
    return text or type(error).__name__
