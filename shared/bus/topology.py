"""Exchanges and queues. Every service declares them all at start, so that no event comes before its queues."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel

EVENTS: Final = "expressync.events"
AUDIT: Final = "expressync.audit"
REQUESTS: Final = "expressync.requests"

# Who listens to what. A routing key is an event's type.
SUBSCRIPTIONS: Final[Mapping[str, Sequence[str]]] = {
    "preauth": ("card.*", "transaction.*", "charger.operation_requested", "charger.operation_finished"),
    "sync": ("charger.session_started", "charger.session_stopped", "tap.decided"),
    "audit": ("#",),
}
OWNERS: Final = ("preauth", "sync", "audit")

# So often the broker takes a message back and hands it out again; then it gives the message up for good. The consumer
# refuses a message long before (`is_to_rest`). RabbitMQ 3.10 has no default, 4.x has 20.
DELIVERY_LIMIT: Final = 50
# Looking at a parked message counts as a delivery, and 4.x drops at its limit: so often nobody looks.
PARKED_DELIVERY_LIMIT: Final = 1_000_000_000
RETRY_AFTER_MS: Final = 5_000
# After this many failed handlings a message is parked; with RETRY_AFTER_MS that is about a minute.
MAX_ATTEMPTS: Final = 10


@dataclass(frozen=True, slots=True)
class Topology:
    """Names, times and limits of the queues. Tests shorten them.

    A queue keeps the arguments that it was made with: where it is declared with others, the broker refuses that (406).
    A key that is taken out of SUBSCRIPTIONS stays bound until somebody unbinds it.
    """

    retry_after_ms: int = RETRY_AFTER_MS
    delivery_limit: int = DELIVERY_LIMIT

    def work_arguments(self, queue: str) -> dict[str, Any]:
        """A work queue: quorum; what is refused goes to the retry queue, and nothing is ever dropped."""
        return {
            "x-queue-type": "quorum",
            "x-delivery-limit": self.delivery_limit,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": retry_queue(queue),
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }

    def retry_arguments(self, queue: str) -> dict[str, Any]:
        """Where a refused message waits before it comes back."""
        return {
            "x-queue-type": "quorum",
            "x-message-ttl": self.retry_after_ms,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": queue,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }

    def parked_arguments(self) -> dict[str, Any]:
        """Where a message lies until an operator replays it; nothing ends it but that."""
        return {"x-queue-type": "quorum", "x-delivery-limit": PARKED_DELIVERY_LIMIT}

    async def declare(self, channel: AbstractChannel) -> None:
        """Create whatever is missing. Safe to repeat."""
        events = await channel.declare_exchange(EVENTS, ExchangeType.TOPIC, durable=True)
        await channel.declare_exchange(AUDIT, ExchangeType.TOPIC, durable=True)
        requests = await channel.declare_exchange(REQUESTS, ExchangeType.DIRECT, durable=True)
        for service, keys in SUBSCRIPTIONS.items():
            name = events_queue(service)
            queue = await channel.declare_queue(name, durable=True, arguments=self.work_arguments(name))
            await channel.declare_queue(retry_queue(name), durable=True, arguments=self.retry_arguments(name))
            await channel.declare_queue(parked_queue(name), durable=True, arguments=self.parked_arguments())
            for key in keys:
                await queue.bind(events, key)
        for service in OWNERS:
            name = requests_queue(service)
            queue = await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "classic"})
            await queue.bind(requests, name)


def hears(service: str, event_type: str) -> bool:
    """Whether events of this type come to the service's queue."""
    words = event_type.split(".")
    patterns = [key.split(".") for key in SUBSCRIPTIONS[service]]
    return ["#"] in patterns or any(
        len(pattern) == len(words) and all(mine in ("*", word) for mine, word in zip(pattern, words, strict=True))
        for pattern in patterns
    )


def events_queue(service: str) -> str:
    return f"{service}.events"


def requests_queue(service: str) -> str:
    return f"{service}.requests"


def retry_queue(queue: str) -> str:
    return f"{queue}.retry"


def parked_queue(queue: str) -> str:
    return f"{queue}.parked"
