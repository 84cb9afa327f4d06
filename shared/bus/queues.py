"""Our queues in a broker: their names, who uses them, and their end."""

import asyncio
import contextlib
from typing import Final

from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import ChannelNotFoundEntity
from pamqp.commands import Queue

from shared.bus.publisher import connect
from shared.bus.topology import OWNERS, SUBSCRIPTIONS, events_queue, parked_queue, requests_queue, retry_queue

# A broker may be silent: frozen, or behind a tunnel that is dead.
MOST_S: Final = 20.0
PAUSES_S: Final = (0.1, 0.5, 2.0)


def names() -> list[str]:
    found = [requests_queue(owner) for owner in OWNERS]
    for service in SUBSCRIPTIONS:
        queue = events_queue(service)
        found += [queue, retry_queue(queue), parked_queue(queue)]
    return found


async def remove(url: str) -> None:
    """Delete our queues, with what is in them. :raises TimeoutError: the broker is silent."""
    async with asyncio.timeout(MOST_S), await connect(url, "queues") as connection:
        for name in names():
            await _remove(connection, name)


async def _remove(connection: AbstractConnection, name: str) -> None:
    """A queue whose deletion is under way is not known any more and not yet gone: RabbitMQ says then that its node is
    down. It costs the channel.
    """
    for pause_s in (*PAUSES_S, None):
        channel = await connection.channel()
        try:
            await channel.queue_delete(name)
        except ChannelNotFoundEntity:
            if pause_s is None:
                raise
            await asyncio.sleep(pause_s)
        else:
            await channel.close()
            return


async def remove_idle(url: str) -> list[str]:
    """Delete our queues, unless somebody listens to any of them: then none is, and the answer says to which."""
    listened_to = [name for name, state in (await _states(url)).items() if state.consumer_count]
    if not listened_to:
        await remove(url)
    return listened_to


async def in_use(url: str) -> list[str]:
    """Our queues that somebody listens to, or that hold messages, each with how many: an installation's."""
    return [
        f"{name} ({state.consumer_count} consumers, {state.message_count} messages)"
        for name, state in (await _states(url)).items()
        if state.consumer_count or state.message_count
    ]


async def _states(url: str) -> dict[str, Queue.DeclareOk]:
    found = {}
    async with asyncio.timeout(MOST_S), await connect(url, "queues") as connection:
        for name in names():
            # A queue that does not exist costs the channel.
            channel = await connection.channel()
            with contextlib.suppress(ChannelNotFoundEntity):
                found[name] = (await channel.declare_queue(name, passive=True)).declaration_result
    return found
