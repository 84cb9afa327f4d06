"""Commands that do something outside the database: done once, however late, and never again by the same key."""

import asyncio
from typing import ClassVar

import psycopg
import pytest
import sqlalchemy as sa

from shared.bus.effects import Effect
from shared.bus.requests import NoAnswerError
from shared.contracts.identity import Actor, Cause
from shared.contracts.problem import Conflict, RemoteProblem
from shared.contracts.request import Request
from shared.database.engine import Write
from shared.runtime.service import Service
from tests.databases import TestDatabase
from tests.integration.shared.conftest import CAUSE, NAME, Running, Toy, misread, running
from tests.waiting import until

ADA = CAUSE.actor


class Ring(Request[Toy]):
    name: ClassVar[str] = "ring"
    owner: ClassVar[str] = NAME
    command: ClassVar[bool] = True
    reply = Toy
    text: str = ""


class Deaf(Conflict):
    code, title = "deaf", "Nobody hears it"


class Bell:
    """The world outside: rings are counted, and take as long as they are told to."""

    def __init__(self) -> None:
        self.rings: list[str] = []
        self.takes_s = 0.0
        self.waits_s = 0.0

    def wire(self, service: Service) -> None:
        service.dispatcher.effect(Ring, self.ring)

    async def ring(self, tx: Write, request: Ring, _: Cause, effect: Effect) -> Toy:
        if request.text == "refused before":
            raise Deaf("It was not rung.")
        await asyncio.sleep(self.waits_s)
        if request.text == "falls before":
            raise RuntimeError("a fault of ours before it")

        async def note(beside: Write) -> None:
            await _write(beside, "asked")

        await effect.begin(note)
        self.rings.append(effect.key)
        await asyncio.sleep(self.takes_s)
        if request.text == "falls after":
            raise RuntimeError("a fault of ours after it")
        if request.text == "misread after":
            return misread()
        await _write(tx, "rung")
        if request.text == "refused after":
            raise Deaf("It was rung.")
        return Toy(text=f"ring {len(self.rings)}" + ("x" * 300_000 if request.text == "large" else ""))


async def _write(tx: Write, subject: str) -> None:
    statement = "INSERT INTO toy.handled (event_id, subject) VALUES (gen_random_uuid(), :subject)"
    await tx.execute(sa.text(statement), {"subject": subject})


async def ask(toy: Running, text: str = "", *, actor: Actor = ADA, deadline_s: float = 5.0) -> Toy:
    return await toy.service.requester.ask(Ring(text=text), actor=actor, key="k", deadline_s=deadline_s)


async def subjects(toy: Running) -> list[str]:
    return [row.subject for row in await toy.rows()]


async def code(toy: Running, text: str = "") -> str:
    with pytest.raises(RemoteProblem) as refused:
        await ask(toy, text)
    return refused.value.code


@pytest.fixture
def bell() -> Bell:
    return Bell()


async def test_an_effect_that_ends_after_the_deadline_is_recorded_and_not_repeated(
    database: TestDatabase, broker: str, bell: Bell
) -> None:
    """The caller has gone; what was done outside is in the tables all the same, and its key answers with it."""
    bell.takes_s = 0.5
    async with running(database.admin_url, broker, wire=bell.wire) as toy:
        with pytest.raises(NoAnswerError):
            await ask(toy, deadline_s=0.2)

        async def recorded() -> bool:
            return await subjects(toy) == ["asked", "rung"]

        await until(recorded)
        assert await ask(toy) == Toy(text="ring 1")
        assert bell.rings == ["system/test/k"]


async def test_a_repetition_meanwhile_is_told_so(database: TestDatabase, broker: str, bell: Bell) -> None:
    """While it is being done, the same key learns that, and afterwards the result; nothing is done twice."""
    bell.takes_s = 0.6
    async with running(database.admin_url, broker, wire=bell.wire) as toy:
        first = asyncio.create_task(ask(toy))

        async def begun() -> bool:
            return await subjects(toy) == ["asked"]

        await until(begun)
        assert await code(toy) == "still_running"
        assert await first == await ask(toy) == Toy(text="ring 1")
        assert len(bell.rings) == 1


async def test_many_at_once_do_it_once(database: TestDatabase, broker: str, bell: Bell) -> None:
    """Of five askers with one key one has it done; the others get its result, or hear that it runs."""
    bell.takes_s = 0.2
    async with running(database.admin_url, broker, wire=bell.wire) as toy:
        answers = await asyncio.gather(*(ask(toy) for _ in range(5)), return_exceptions=True)
        done = [answer for answer in answers if isinstance(answer, Toy)]
        others = [answer.code for answer in answers if isinstance(answer, RemoteProblem)]
        assert len(done) + len(others) == 5
        assert done
        assert set(others) <= {"still_running"}
        assert len(bell.rings) == 1


def _lose_the_connection(database: TestDatabase) -> None:
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'expressync-preauth' AND datname = current_database()"
        )


@pytest.mark.parametrize("text", ["falls after", "misread after", "connection lost"])
async def test_without_an_outcome_it_is_unknown_and_not_done_again(
    database: TestDatabase, broker: str, bell: Bell, text: str
) -> None:
    """When we fall between the effect and its record, the key says that nobody knows, for its 7 days."""
    bell.takes_s = 0.3
    async with running(database.admin_url, broker, wire=bell.wire) as toy:
        asking = asyncio.create_task(ask(toy, text, deadline_s=1))

        async def begun() -> bool:
            return bool(bell.rings)

        await until(begun)
        if text == "connection lost":
            await asyncio.to_thread(_lose_the_connection, database)
        with pytest.raises(NoAnswerError):
            await asking
        assert [await code(toy, text) for _ in range(2)] == ["effect_unknown", "effect_unknown"]
        assert len(bell.rings) == 1
        assert await subjects(toy) == ["asked"]


async def test_what_falls_before_the_effect_leaves_the_key_free(
    database: TestDatabase, broker: str, bell: Bell
) -> None:
    """Nothing was begun, so the same key may try again."""
    async with running(database.admin_url, broker, wire=bell.wire) as toy:
        with pytest.raises(NoAnswerError):
            await ask(toy, "falls before", deadline_s=0.5)
        assert await toy.scalar("SELECT count(*) FROM toy.request_result") == 0
        assert await ask(toy) == Toy(text="ring 1")


async def test_an_effect_does_not_begin_after_the_deadline(database: TestDatabase, broker: str, bell: Bell) -> None:
    """Who waited too long for a lock or an answer begins nothing any more; the key stays free."""
    bell.waits_s = 0.5
    async with running(database.admin_url, broker, wire=bell.wire) as toy:
        with pytest.raises(NoAnswerError):
            await ask(toy, deadline_s=0.2)
        await asyncio.sleep(0.6)
        assert (bell.rings, await subjects(toy)) == ([], [])
        bell.waits_s = 0
        assert await ask(toy) == Toy(text="ring 1")


@pytest.mark.parametrize(
    ("text", "refusal", "left"),
    [
        ("refused before", "deaf", []),
        ("refused after", "deaf", ["asked"]),
        ("large", "reply_too_large", ["asked", "rung"]),
    ],
)
async def test_a_refusal_is_the_result_of_its_key(  # noqa: PLR0917 - two fixtures and a case
    database: TestDatabase, broker: str, bell: Bell, text: str, refusal: str, left: list[str]
) -> None:
    """Before the effect and after it, a refusal is kept and repeated, and what was noted before stays."""
    async with running(database.admin_url, broker, wire=bell.wire) as toy:
        assert [await code(toy, text) for _ in range(2)] == [refusal, refusal]
        assert len(bell.rings) == (0 if text == "refused before" else 1)
        assert await subjects(toy) == left


@pytest.mark.parametrize("other", ["another text", "another caller"])
async def test_a_key_stands_for_one_request_of_one_caller(
    database: TestDatabase, broker: str, bell: Bell, other: str
) -> None:
    """Another content under the key is refused; another caller's key is another one."""
    async with running(database.admin_url, broker, wire=bell.wire) as toy:
        await ask(toy)
        if other == "another text":
            assert await code(toy, "other") == "idempotency_key_reused"
            assert len(bell.rings) == 1
        else:
            await ask(toy, actor=Actor(kind="operator", id="maria"))
            assert bell.rings == ["system/test/k", "operator/maria/k"]
