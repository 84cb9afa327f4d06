"""Listens to the events as anyone downstream would: a queue of its own, bound to expressync.events."""

import asyncio
import json
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import aio_pika
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage

Event = dict[str, Any]


class Watch:
    """Collects events; `seen` waits for one. Use as an async context manager."""

    def __init__(self, amqp_url: str, on_event: Callable[[Event], None]) -> None:
        self._url, self._on_event = amqp_url, on_event
        self._connection: AbstractConnection | None = None
        self._news = asyncio.Condition()
        self._keeps = True
        self.events: list[Event] = []

    async def __aenter__(self) -> Self:
        self._connection = await aio_pika.connect_robust(self._url)
        channel = await self._connection.channel()
        exchange = await channel.get_exchange("expressync.events")
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(exchange, "#")
        await queue.consume(self._receive)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            await self._connection.close()

    def only_show(self) -> None:
        """Keep no event from here on: nobody asks for one any more, and a demo may run for days."""
        self._keeps = False
        self.events.clear()

    async def _receive(self, message: AbstractIncomingMessage) -> None:
        event: Event = json.loads(message.body)
        await message.ack()
        async with self._news:
            if self._keeps:
                self.events.append(event)
            self._news.notify_all()
        self._on_event(event)

    async def seen(self, kind: str, *, within_s: float = 20, **data: object) -> Event | None:
        """The first event of that type whose data have these values; None when none came in time."""

        def match() -> Event | None:
            for event in self.events:
                fits = all(event["data"].get(key) == value for key, value in data.items())
                if event["type"] == kind and fits:
                    return event
            return None

        try:
            async with asyncio.timeout(within_s), self._news:
                return await self._news.wait_for(match)
        except TimeoutError:
            return None
