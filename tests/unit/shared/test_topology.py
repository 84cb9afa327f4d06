import asyncio

import pytest

from shared.bus.topology import OWNERS, SUBSCRIPTIONS, Topology, events_queue, hears


class Declared:
    """Stands in for a channel and keeps what was declared."""

    def __init__(self) -> None:
        self.queues: dict[str, dict[str, object]] = {}
        self.bindings: list[tuple[str, str]] = []

    async def declare_exchange(self, name: str, *_: object, **__: object) -> str:
        return name

    async def declare_queue(self, name: str, *, durable: bool, arguments: dict[str, object]) -> "Queue":
        assert durable
        self.queues[name] = arguments
        return Queue(self, name)


class Queue:
    def __init__(self, channel: Declared, name: str) -> None:
        self._channel, self._name = channel, name

    async def bind(self, _: str, key: str) -> None:
        self._channel.bindings.append((self._name, key))


@pytest.fixture
def declared() -> Declared:
    channel = Declared()
    asyncio.run(Topology().declare(channel))  # type: ignore[arg-type]
    return channel


def test_nothing_that_is_refused_or_dead_is_dropped(declared: Declared) -> None:
    """Work and retry queues hand each other what they give up, at least once, and refuse rather than drop."""
    for service in SUBSCRIPTIONS:
        work = events_queue(service)
        there, back = declared.queues[work], declared.queues[f"{work}.retry"]
        for arguments in (there, back):
            assert arguments["x-queue-type"] == "quorum"
            assert arguments["x-dead-letter-strategy"] == "at-least-once"
            # Without it, at-least-once silently becomes at-most-once (RabbitMQ, quorum queues).
            assert arguments["x-overflow"] == "reject-publish"
            assert arguments["x-dead-letter-exchange"] == ""
        assert there["x-dead-letter-routing-key"] == f"{work}.retry"
        assert back["x-dead-letter-routing-key"] == work
        assert int(str(there["x-delivery-limit"])) >= 20


def test_a_parked_message_may_be_looked_at_for_ever(declared: Declared) -> None:
    """RabbitMQ 4.x drops at a limit of 20 where none is set, and looking counts."""
    for service in SUBSCRIPTIONS:
        parked = declared.queues[f"{events_queue(service)}.parked"]
        assert parked["x-queue-type"] == "quorum"
        assert int(str(parked["x-delivery-limit"])) >= 1_000_000
        assert "x-message-ttl" not in parked


def test_requests_are_neither_dead_lettered_nor_kept(declared: Declared) -> None:
    """A request is no fact: a classic queue without any second life."""
    for owner in OWNERS:
        assert declared.queues[f"{owner}.requests"] == {"x-queue-type": "classic"}


def test_audit_hears_everything(declared: Declared) -> None:
    """Each service's queue is bound to what it listens to."""
    assert ("audit.events", "#") in declared.bindings


@pytest.mark.parametrize(
    ("service", "event_type", "comes"),
    [
        ("preauth", "card.changed", True),
        ("preauth", "charger.operation_requested", True),
        ("preauth", "charger.connected", False),
        ("preauth", "card", False),
        ("sync", "tap.decided", True),
        ("sync", "card.changed", False),
        ("audit", "anything.at.all", True),
    ],
)
def test_what_comes_to_a_service(service: str, event_type: str, comes: bool) -> None:  # noqa: FBT001
    """As the broker matches routing keys: a star is one word, a hash is all of them."""
    assert hears(service, event_type) is comes
