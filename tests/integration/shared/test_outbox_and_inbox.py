from uuid import uuid4

import aio_pika
import pytest
import sqlalchemy as sa
from opentelemetry import trace

from shared.bus import inbox, parking
from shared.bus.topology import EVENTS, MAX_ATTEMPTS, events_queue, retry_queue
from shared.contracts.event import Envelope, open_envelope, seal
from shared.contracts.events.sync import CardDiscovered
from shared.database.engine import Write
from shared.runtime import tracing
from shared.runtime.clock import utc_now
from shared.runtime.tracing import tracer
from tests.databases import TestDatabase
from tests.integration.shared.conftest import CAUSE, NAME, TOPOLOGY, Running, card, depth, parked_reasons, running
from tests.waiting import until


@pytest.fixture(scope="module", autouse=True)
def _traced() -> None:
    tracing.configure("test")


async def send(
    amqp_url: str, body: bytes, *, key: str = "card.discovered", headers: aio_pika.abc.HeadersType | None = None
) -> None:
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(EVENTS)
        await exchange.publish(aio_pika.Message(body, message_id=str(uuid4()), headers=headers or {}), key)


async def test_a_committed_event_is_handled_and_leaves_the_outbox(database: TestDatabase, broker: str) -> None:
    """What a transaction wrote into the outbox reaches its handler, and the row goes once the broker has it."""
    async with running(database.admin_url, broker) as toy:
        (event_id,) = await toy.publish(1)
        rows = await until(toy.rows)
        assert [(row.event_id, row.subject) for row in rows] == [(event_id, "card/CARD-1")]
        await until(lambda: _empty(toy))


async def _empty(toy: Running) -> bool:
    return bool(await toy.scalar("SELECT count(*) = 0 FROM toy.outbox"))


async def test_an_event_travels_in_the_form_of_the_contract(database: TestDatabase, broker: str) -> None:
    """Persistent, typed, under its id, with its content type and the trace: what a subscriber's own queue gets."""
    async with await aio_pika.connect(broker) as connection, running(database.admin_url, broker) as toy:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(EVENTS, "card.*")
        with tracer().start_as_current_span("tap"):
            (event_id,) = await toy.publish(1)

        async def received() -> aio_pika.abc.AbstractIncomingMessage | None:
            return await queue.get(no_ack=True, fail=False)

        message = await until(received)
        assert message is not None
        assert message.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
        assert (message.message_id, message.type, message.routing_key) == (
            str(event_id),
            "card.discovered",
            "card.discovered",
        )
        assert message.content_type == "application/cloudevents+json"
        assert str(message.headers["traceparent"]).startswith("00-")
        assert message.exchange == EVENTS


async def test_looking_at_parked_messages_never_ends_them(database: TestDatabase, broker: str) -> None:
    """However often an operator looks, or replays another one, what is parked stays."""
    async with running(database.admin_url, broker):
        await send(broker, b"not json")

        async def parked() -> list[str]:
            return await parked_reasons(broker)

        await until(parked)
        for _ in range(25):
            assert len(await parked_reasons(broker)) == 1
            assert await parking.replay(broker, message_id="another", topology=TOPOLOGY) == []


async def test_a_rolled_back_event_is_never_published(database: TestDatabase, broker: str) -> None:
    """An event whose transaction failed never happened."""
    async with running(database.admin_url, broker) as toy:

        async def fail() -> None:
            async with toy.service.database.write() as tx:
                await toy.service.outbox.add(tx, card(1), CAUSE)
                raise RuntimeError("changed my mind")

        with pytest.raises(RuntimeError, match="changed my mind"):
            await fail()
        await toy.publish(2)
        rows = await until(toy.rows)
        assert [row.subject for row in rows] == ["card/CARD-2"]


async def test_the_subject_version_counts_up_per_subject(database: TestDatabase, broker: str) -> None:
    """A reader can tell which of two facts about one subject is the later one."""
    versions: list[tuple[str, int]] = []

    async def note(_: Write, event: CardDiscovered, envelope: Envelope) -> None:
        versions.append((event.subject(), envelope.subjectversion))

    async with running(database.admin_url, broker, handler=note) as toy:
        await toy.publish(1, 2, 1)
        await toy.publish(1)

        async def all_four() -> bool:
            return len(versions) == 4

        await until(all_four)
    assert sorted(versions) == [("card/CARD-1", 1), ("card/CARD-1", 2), ("card/CARD-1", 3), ("card/CARD-2", 1)]


async def test_an_event_that_concerns_nobody_costs_no_transaction(database: TestDatabase, broker: str) -> None:
    """A handler says which of its events it has to do with; the others leave the queue, and no row."""
    async with running(database.admin_url, broker, where=lambda event: event.ocpp_tag_pk % 2 == 0) as toy:
        await toy.publish(1, 2, 3, 4)
        await until(lambda: _handled(toy, 2))
        await until(lambda: _empty_queue(broker))
        assert {row.subject for row in await toy.rows()} == {"card/CARD-2", "card/CARD-4"}
        assert await toy.scalar("SELECT count(*) FROM toy.inbox") == 2


async def _empty_queue(broker: str) -> bool:
    return await depth(broker, events_queue(NAME)) == 0


async def test_a_repeated_message_is_handled_once(database: TestDatabase, broker: str) -> None:
    """The same event delivered three times changes the state once."""
    body = seal(card(1), event_id=uuid4(), subject_version=1, at=utc_now(), cause=CAUSE)
    async with running(database.admin_url, broker) as toy:
        for _ in range(3):
            await send(broker, body)
        await toy.publish(2)
        await until(lambda: _handled(toy, 2))
        assert [row.subject for row in await toy.rows()].count("card/CARD-1") == 1


async def _handled(toy: Running, count: int) -> bool:
    return len(await toy.rows()) >= count


async def test_an_event_no_queue_takes_waits_and_blocks_nobody(database: TestDatabase, broker: str) -> None:
    """An unroutable event stays in the outbox with the reason, is tried again later, and the others go."""
    async with running(database.admin_url, broker) as toy:
        async with toy.service.database.write() as tx:
            await toy.service.outbox.add(tx, card(1), CAUSE)
            await tx.execute(sa.text("UPDATE toy.outbox SET routing_key = 'nobody.listens'"))
            await tx.execute(sa.text("UPDATE toy.outbox SET exchange = 'expressync.requests'"))
        await toy.publish(2)
        rows = await until(toy.rows)
        assert [row.subject for row in rows] == ["card/CARD-2"]

        async def refused() -> bool:
            return bool(await toy.scalar("SELECT attempts > 0 AND last_error IS NOT NULL FROM toy.outbox"))

        await until(refused)


async def test_an_event_that_breaks_the_channel_is_put_off_and_the_others_go(
    database: TestDatabase, broker: str
) -> None:
    """A row that breaks the channel each time it is tried does not hold the others up for ever."""
    async with running(database.admin_url, broker) as toy:
        async with toy.service.database.write() as tx:
            await toy.service.outbox.add(tx, card(1), CAUSE)
            # A missing exchange closes the channel just as a body beyond the broker's 128 MiB does.
            await tx.execute(sa.text("UPDATE toy.outbox SET exchange = 'there.is.none'"))
        await toy.publish(*range(2, 12))
        await until(lambda: _handled(toy, 10), within_s=30)

        async def put_off() -> bool:
            return bool(await toy.scalar("SELECT attempts > 0 FROM toy.outbox"))

        await until(put_off, within_s=30)


async def test_a_failing_handler_is_retried_then_parked_then_replayed(database: TestDatabase, broker: str) -> None:
    """Ten failures, then the message lies aside with its reason; a replay after the mend handles it once."""
    tries: list[str] = []
    mended = False

    async def fail(tx: Write, event: CardDiscovered, envelope: Envelope) -> None:
        tries.append(event.id_tag)
        if not mended:
            raise ValueError("the handler is broken")
        await tx.execute(
            sa.text("INSERT INTO toy.handled (event_id, subject) VALUES (:id, :subject)"),
            {"id": envelope.id, "subject": event.subject()},
        )

    async with running(database.admin_url, broker, handler=fail) as toy:
        await toy.publish(1)

        async def parked() -> list[str]:
            return await parked_reasons(broker)

        (reason,) = await until(parked, within_s=30)
        assert "the handler is broken" in reason
        assert len(tries) == MAX_ATTEMPTS
        mended = True
        (sent,) = await parking.replay(broker, topology=TOPOLOGY)
        assert sent.reason == reason
        await until(toy.rows)
        assert await parked_reasons(broker) == []
        assert await depth(broker, retry_queue(events_queue(NAME))) == 0


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"not json", "not a CloudEvent"),
        (b"\xff\xfe", "not a CloudEvent"),
        (b"{}", "not a CloudEvent"),
        (b"[]", "not a CloudEvent"),
    ],
)
async def test_a_malformed_message_is_parked_with_its_reason(
    database: TestDatabase, broker: str, body: bytes, reason: str
) -> None:
    """What no retry can make readable is put aside at once, whole, and the queue goes on."""
    async with running(database.admin_url, broker) as toy:
        await send(broker, body)
        await toy.publish(2)

        async def parked() -> list[str]:
            return await parked_reasons(broker)

        assert reason in (await until(parked))[0]
        await until(toy.rows)


@pytest.mark.parametrize("foreign", [7, True, bytearray(b"00-1"), ["00-1"]])
async def test_a_strange_trace_is_no_reason_to_leave_a_message_unhandled(
    database: TestDatabase, broker: str, foreign: aio_pika.abc.FieldValue
) -> None:
    """A `traceparent` that is no text starts a new trace, and the event is handled."""
    body = seal(card(1), event_id=uuid4(), subject_version=1, at=utc_now(), cause=CAUSE)
    async with running(database.admin_url, broker) as toy:
        await send(broker, body, headers={"traceparent": foreign})
        assert [row.subject for row in await until(toy.rows)] == ["card/CARD-1"]


@pytest.mark.parametrize("foreign", [7, "often", ["often"], [{"queue": events_queue(NAME), "count": "often"}]])
async def test_what_fails_and_cannot_be_counted_is_parked_at_once(
    database: TestDatabase, broker: str, foreign: aio_pika.abc.FieldValue
) -> None:
    """An `x-death` that is not the broker's would never count up to the last attempt."""

    async def fail(_: Write, __: CardDiscovered, ___: Envelope) -> None:
        raise RuntimeError("no use: amqp://user:s3cret@host/")

    body = seal(card(1), event_id=uuid4(), subject_version=1, at=utc_now(), cause=CAUSE)
    async with running(database.admin_url, broker, handler=fail):
        await send(broker, body, headers={"x-death": foreign})
        [reason] = await until(lambda: parked_reasons(broker))
        assert "no use" in reason
        # It stays there until somebody replays it, for all who look.
        assert "s3cret" not in reason


async def test_what_nobody_foresaw_is_parked_and_blocks_nobody(
    database: TestDatabase, broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More such messages than are taken at once: each is parked with what it raised, and the queue goes on."""

    def open_or_burst(body: bytes) -> Envelope:
        if body.startswith(b"burst"):
            raise KeyError("burst")
        return open_envelope(body)

    monkeypatch.setattr("shared.bus.inbox.open_envelope", open_or_burst)
    async with running(database.admin_url, broker) as toy:
        for number in range(inbox.PREFETCH + 1):
            await send(broker, b"burst %d" % number)
        await toy.publish(2)
        await until(toy.rows)

        async def all_parked() -> bool:
            return len(await parked_reasons(broker)) == inbox.PREFETCH + 1

        await until(all_parked)
        assert "KeyError" in (await parked_reasons(broker))[0]


async def test_data_that_do_not_fit_their_type_are_parked(database: TestDatabase, broker: str) -> None:
    """A known type and version with wrong data is malformed, and the field is named."""
    body = seal(card(1), event_id=uuid4(), subject_version=1, at=utc_now(), cause=CAUSE)
    async with running(database.admin_url, broker):
        await send(broker, body.replace(b'"ocpp_tag_pk":1', b'"ocpp_tag_pk":"x"'))

        async def parked() -> list[str]:
            return await parked_reasons(broker)

        assert "ocpp_tag_pk" in (await until(parked))[0]


async def test_unknown_types_and_newer_versions_are_ignored_by_who_has_no_use_for_them(
    database: TestDatabase, broker: str
) -> None:
    """A service goes on past what it does not know: nothing is parked, nothing is handled."""
    body = seal(card(1), event_id=uuid4(), subject_version=1, at=utc_now(), cause=CAUSE)
    async with running(database.admin_url, broker) as toy:
        await send(broker, body.replace(b"card.discovered:1", b"card.discovered:9"))
        await send(broker, body.replace(b"card.discovered", b"card.teleported"), key="card.teleported")
        await toy.publish(2)
        await until(toy.rows)
        assert [row.subject for row in await toy.rows()] == ["card/CARD-2"]
        assert await parked_reasons(broker) == []


async def test_the_trace_goes_on_in_the_handler(database: TestDatabase, broker: str) -> None:
    """The handler's span belongs to the trace in which the event was written."""
    traces: list[int] = []

    async def note(_: Write, __: CardDiscovered, ___: Envelope) -> None:
        traces.append(trace.get_current_span().get_span_context().trace_id)

    async with running(database.admin_url, broker, handler=note) as toy:
        with tracer().start_as_current_span("tap") as span:
            await toy.publish(1)

        async def seen() -> bool:
            return bool(traces)

        await until(seen)
    assert traces == [span.get_span_context().trace_id]
    assert span.get_span_context().is_valid
