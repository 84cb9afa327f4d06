import asyncio
import time
from datetime import timedelta
from functools import partial
from typing import ClassVar
from uuid import uuid4

import aio_pika
import pytest
import sqlalchemy as sa

from shared.bus.requests import NoAnswerError, RequestServer
from shared.bus.topology import REQUESTS, Topology, events_queue, parked_queue, requests_queue
from shared.contracts.identity import Actor, Cause
from shared.contracts.problem import Conflict, RemoteProblem
from shared.contracts.request import ReplyEnvelope, RequestEnvelope
from shared.database.engine import Write
from shared.runtime.clock import utc_now
from shared.runtime.service import Service
from tests.databases import TestDatabase
from tests.integration.shared.conftest import CAUSE, NAME, Echo, Running, Toy, Write1, depth, misread, running
from tests.waiting import until

ACTOR = CAUSE.actor


class Taken(Conflict):
    code, title = "taken", "It is taken"


def answering(service: Service, executed: list[str] | None = None) -> None:
    """Echoes; writes one row; refuses the text "taken"; crashes on "crash" and "misread"; takes its time on "slow".

    Each execution leaves its text in `executed`, whatever becomes of it.
    """
    executed = [] if executed is None else executed

    async def echo(request: Echo, _: Cause) -> Toy:
        return misread() if request.text == "misread" else Toy(text=request.text)

    async def write(tx: Write, request: Write1, _: Cause) -> Toy:
        await tx.execute(
            sa.text("INSERT INTO toy.handled (event_id, subject) VALUES (:id, :subject)"),
            {"id": uuid4(), "subject": request.text},
        )
        if request.text == "taken":
            raise Taken("Somebody was faster. Choose another.")
        executed.append(request.text)
        if request.text == "crash":
            raise RuntimeError("a fault of ours")
        if request.text == "misread":
            return misread()
        if request.text == "slow":
            await asyncio.sleep(0.6)
        if request.text == "large":
            return Toy(text="x" * 300_000)
        return Toy(text=str(uuid4()))

    service.dispatcher.query(Echo, echo)
    service.dispatcher.command(Write1, write)


async def subjects(toy: Running) -> list[str]:
    return [row.subject for row in await toy.rows()]


async def test_a_query_is_answered(database: TestDatabase, broker: str) -> None:
    """Asking the owner brings its typed reply."""
    async with running(database.admin_url, broker, wire=answering) as toy:
        reply = await toy.service.requester.ask(Echo(text="hello"), actor=ACTOR)
        assert reply == Toy(text="hello")


async def test_a_dead_owner_is_unknown_within_the_deadline(database: TestDatabase, broker: str) -> None:
    """Nobody answers: the caller knows within its deadline that it knows nothing."""
    async with running(database.admin_url, broker) as toy:

        class AskAudit(Echo):
            owner: ClassVar[str] = "audit"

        started = time.monotonic()
        with pytest.raises(NoAnswerError, match="audit did not answer"):
            await toy.service.requester.ask(AskAudit(text="x"), actor=ACTOR, deadline_s=0.3)
        assert time.monotonic() - started < 1.5


async def test_a_dead_broker_is_unknown_within_the_deadline(database: TestDatabase) -> None:
    """Without a broker a question ends as unknown, on time, and at once for whom that is soon enough."""
    from shared.bus.requests import Requester  # noqa: PLC0415

    requester = Requester("amqp://nobody:x@127.0.0.1:1/", service="test", topology=Topology(), clock=utc_now)
    with pytest.raises(NoAnswerError):
        await requester.ask(Echo(text="x"), actor=ACTOR, deadline_s=0.2)
    started = time.monotonic()
    with pytest.raises(NoAnswerError, match="no connection"):
        await requester.ask(Echo(text="x"), actor=ACTOR, deadline_s=30, at_once=True)
    assert time.monotonic() - started < 1


async def test_an_expired_request_is_not_executed(database: TestDatabase, broker: str) -> None:
    """A command that comes after its deadline changes nothing."""
    async with running(database.admin_url, broker, wire=answering) as toy:
        await _send_raw(broker, "late", deadline=timedelta(seconds=-1))
        await _send_raw(broker, "in time", deadline=timedelta(seconds=5))

        async def executed() -> list[str]:
            return await subjects(toy)

        assert await until(executed) == ["in time"]


async def _send_raw(broker: str, text: str, *, deadline: timedelta) -> None:
    envelope = RequestEnvelope(
        name="write_one",
        actor=ACTOR,
        correlationid=uuid4(),
        deadline=utc_now() + deadline,
        idempotency_key=text,
        data={"text": text},
    )
    async with await aio_pika.connect(broker) as connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(REQUESTS)
        await exchange.publish(aio_pika.Message(envelope.model_dump_json().encode()), requests_queue(NAME))


async def test_a_command_that_ends_after_its_deadline_is_rolled_back(database: TestDatabase, broker: str) -> None:
    """The deadline is checked once more just before the commit; its key stays free for a repetition."""
    async with running(database.admin_url, broker, wire=answering) as toy:
        with pytest.raises(NoAnswerError):
            await toy.service.requester.ask(Write1(text="slow"), actor=ACTOR, key="k", deadline_s=0.3)
        await asyncio.sleep(0.6)
        assert await subjects(toy) == []
        await toy.service.requester.ask(Write1(text="slow"), actor=ACTOR, key="k", deadline_s=5)
        assert await subjects(toy) == ["slow"]


async def test_a_repeated_key_gives_the_same_result_executed_once(database: TestDatabase, broker: str) -> None:
    """Repeating a command, also at the same time, changes nothing and answers as the first time."""
    async with running(database.admin_url, broker, wire=answering) as toy:
        asks = [toy.service.requester.ask(Write1(text="a"), actor=ACTOR, key="k") for _ in range(5)]
        replies = await asyncio.gather(*asks)
        again = await toy.service.requester.ask(Write1(text="a"), actor=ACTOR, key="k")
        assert len({reply.text for reply in [*replies, again]}) == 1
        assert await subjects(toy) == ["a"]


async def test_a_key_used_for_another_request_is_refused(database: TestDatabase, broker: str) -> None:
    """A key stands for one request: reusing it for another is a mistake that is told."""
    async with running(database.admin_url, broker, wire=answering) as toy:
        await toy.service.requester.ask(Write1(text="a"), actor=ACTOR, key="k")
        with pytest.raises(RemoteProblem) as refused:
            await toy.service.requester.ask(Write1(text="b"), actor=ACTOR, key="k")
        assert refused.value.code == "idempotency_key_reused"
        assert await subjects(toy) == ["a"]


async def test_a_secret_leaves_no_trace_in_the_kept_results(database: TestDatabase, broker: str) -> None:
    """Who reads the kept results learns nothing about a PIN: not even a hash that a few thousand guesses would open."""
    kept = set()
    async with running(database.admin_url, broker, wire=answering) as toy:
        for key, pin in (("k1", "1234"), ("k2", "9876")):
            await toy.service.requester.ask(Write1(text="a", pin=pin), actor=ACTOR, key=key)
            kept.add(bytes(await toy.scalar(f"SELECT fingerprint FROM toy.request_result WHERE key LIKE '%/{key}'")))
    assert len(kept) == 1


async def test_a_key_belongs_to_the_caller_who_chose_it(database: TestDatabase, broker: str) -> None:
    """The same key of another caller is another key: nobody gets, or is answered with, somebody else's result."""
    async with running(database.admin_url, broker, wire=answering) as toy:
        other = Actor(kind="operator", id="maria")
        replies = [await toy.service.requester.ask(Write1(text="a"), actor=who, key="k") for who in (ACTOR, other)]
        assert replies[0] != replies[1]
        assert await subjects(toy) == ["a", "a"]


async def test_a_command_whose_answer_is_too_large_was_not_done(database: TestDatabase, broker: str) -> None:
    """What is refused for its size changed nothing either."""
    async with running(database.admin_url, broker, wire=answering) as toy:
        with pytest.raises(RemoteProblem) as refused:
            await toy.service.requester.ask(Write1(text="large"), actor=ACTOR, key="k")
        assert refused.value.code == "reply_too_large"
        assert await subjects(toy) == []


async def test_a_refusal_changes_nothing_and_is_repeated(database: TestDatabase, broker: str) -> None:
    """A refused command leaves no trace in the tables, and its key answers with the same refusal."""
    async with running(database.admin_url, broker, wire=answering) as toy:
        for _ in range(2):
            with pytest.raises(RemoteProblem, match="Somebody was faster") as refused:
                await toy.service.requester.ask(Write1(text="taken"), actor=ACTOR, key="k")
            assert (refused.value.status, refused.value.code) == (409, "taken")
        assert await subjects(toy) == []


async def test_a_crash_is_unknown_and_nothing_is_parked_or_retried(database: TestDatabase, broker: str) -> None:
    """A fault in the owner is no answer: unknown. The request is gone, and was executed at most once."""
    executed: list[str] = []
    async with running(database.admin_url, broker, wire=partial(answering, executed=executed)) as toy:
        with pytest.raises(NoAnswerError):
            await toy.service.requester.ask(Write1(text="crash"), actor=ACTOR, key="k", deadline_s=0.5)
        await _send_garbage(broker)
        assert await toy.service.requester.ask(Echo(text="alive"), actor=ACTOR) == Toy(text="alive")
        assert await subjects(toy) == []
        assert await depth(broker, requests_queue(NAME)) == 0
        assert await depth(broker, parked_queue(events_queue(NAME))) == 0
        assert executed == ["crash"]


async def test_what_the_owner_itself_gets_wrong_is_no_refusal(database: TestDatabase, broker: str) -> None:
    """A reply that does not fit its own form is a fault of ours: the caller, who asked rightly, is told nothing."""
    async with running(database.admin_url, broker, wire=answering) as toy:
        for request, key in ((Echo(text="misread"), None), (Write1(text="misread"), "k")):
            with pytest.raises(NoAnswerError):
                await toy.service.requester.ask(request, actor=ACTOR, key=key, deadline_s=0.5)
        assert await subjects(toy) == []
        assert await toy.scalar("SELECT count(*) FROM toy.request_result") == 0


async def _send_garbage(broker: str) -> None:
    async with await aio_pika.connect(broker) as connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(REQUESTS)
        await exchange.publish(aio_pika.Message(b"garbage"), requests_queue(NAME))


async def test_wrong_fields_are_refused_with_their_name(database: TestDatabase, broker: str) -> None:
    """A request that does not fit its form is a refusal that names the field."""
    async with running(database.admin_url, broker, wire=answering) as toy:

        class Wrong(Echo):
            text: int  # type: ignore[assignment]

        with pytest.raises(RemoteProblem, match="text"):
            await toy.service.requester.ask(Wrong(text=1), actor=ACTOR)


async def test_an_answer_too_large_is_refused(database: TestDatabase, broker: str) -> None:
    """A reply has at most 256 kB; beyond, the caller is told to ask for less."""
    async with running(database.admin_url, broker, wire=answering) as toy:
        with pytest.raises(RemoteProblem) as refused:
            await toy.service.requester.ask(Echo(text="x" * 300_000), actor=ACTOR)
        assert refused.value.code == "reply_too_large"


async def test_a_request_that_waits_for_its_turn_at_a_stop_is_left_to_the_next(broker: str) -> None:
    """What was begun is finished; what was not comes back, instead of being cut off with the connection."""
    begun: list[tuple[str, str]] = []
    finished: list[str] = []
    # The short one's end would be the third one's turn, which the long one's end would cut off.
    lasts = {"short": 0.6, "long": 1.0, "third": 0.8}

    def server(name: str) -> RequestServer:
        async def answer(envelope: RequestEnvelope) -> ReplyEnvelope:
            begun.append((name, envelope.data["text"]))
            await asyncio.sleep(lasts[envelope.data["text"]])
            finished.append(envelope.data["text"])
            return ReplyEnvelope(ok=True, value={})

        return RequestServer(broker, service=NAME, topology=Topology(), clock=utc_now, answer=answer, concurrency=2)

    async def two_begun() -> bool:
        return len(begun) == 2

    async def all_finished() -> bool:
        return len(finished) == 3

    async with asyncio.TaskGroup() as group:
        stop, stop_next = asyncio.Event(), asyncio.Event()
        first = server("first")
        stopping = group.create_task(first.run(stop))

        async def connected() -> bool:
            return first.connected

        await until(connected)
        for text in lasts:
            await _send_raw(broker, text, deadline=timedelta(seconds=20))
        await until(two_begun, every_s=0.01)
        # By then the third one was handed over, and waits.
        await asyncio.sleep(0.2)
        stop.set()
        await stopping
        assert finished == ["short", "long"]
        group.create_task(server("next").run(stop_next))
        await until(all_finished)
        stop_next.set()
    assert begun == [("first", "short"), ("first", "long"), ("next", "third")]


async def test_queues_that_are_deleted_under_a_service_are_made_and_listened_to_again(
    database: TestDatabase, broker: str
) -> None:
    """The broker ends what is consumed then, and closes nothing. The service comes to ask, answer and hear again."""
    async with running(database.admin_url, broker, wire=answering) as toy, await aio_pika.connect(broker) as connection:
        channel = await connection.channel()
        requester = toy.service.requester
        assert isinstance(requester._exchange, aio_pika.Exchange)
        await requester._exchange.channel.queue_delete(requester._replies)
        await channel.queue_delete(requests_queue(NAME))

        async def answered() -> bool:
            try:
                return await requester.ask(Echo(text="x"), actor=ACTOR, deadline_s=1) == Toy(text="x")
            except NoAnswerError:
                return False

        async def heard() -> bool:
            await toy.publish(1)
            return bool(await toy.rows())

        await until(answered)
        # Not before: whoever starts again declares all.
        await channel.queue_delete(events_queue(NAME))
        await until(heard, every_s=0.3)
        assert toy.service.consumer.connected
