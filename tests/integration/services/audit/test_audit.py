import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import aio_pika
import psycopg
import pytest

from services.audit.main import build
from services.audit.settings import AuditSettings
from shared.bus import queues
from shared.bus.parking import list_parked
from shared.bus.topology import EVENTS, events_queue, parked_queue
from shared.contracts.event import CONTENT_TYPE, seal
from shared.contracts.events.sync import CardDiscovered
from shared.contracts.identity import Actor, Cause
from shared.contracts.problem import RemoteProblem
from shared.contracts.requests.audit import EntryPage, EntryView, GetEntry, SearchEntries
from shared.runtime.service import Service
from tests.databases import TestDatabase, fresh_database
from tests.infra import Infra
from tests.waiting import until

AT = datetime(2026, 5, 1, 9, 30, tzinfo=UTC)
OPERATOR = Actor(kind="operator", id="maria")


class Auditing:
    """A running audit and the means to tell it something and to ask it."""

    def __init__(self, service: Service, database: TestDatabase, amqp_url: str) -> None:
        self._service, self._database, self.amqp_url = service, database, amqp_url
        self._told = 0

    async def forget(self) -> None:
        """What is on its way arrives first."""
        await until(self._all_settled)
        async with await psycopg.AsyncConnection.connect(self._database.admin_url, autocommit=True) as connection:
            await connection.execute("DELETE FROM audit.entry")
            await connection.execute("DELETE FROM audit.inbox")
        async with await aio_pika.connect(self.amqp_url) as broker:
            channel = await broker.channel()
            await (await channel.get_queue(parked_queue(events_queue("audit")))).purge()

    async def _all_settled(self) -> bool:
        settled = ("handled", "repeated", "parked")
        registry = self._service.registry
        done = [registry.get_sample_value("inbox_messages_total", {"outcome": outcome}) or 0 for outcome in settled]
        return sum(done) == self._told

    async def tell(self, body: bytes, *, key: str = "card.discovered") -> None:
        async with await aio_pika.connect(self.amqp_url) as connection:
            channel = await connection.channel()
            exchange = await channel.get_exchange(EVENTS)
            message = aio_pika.Message(body, message_id=str(uuid4()), content_type=CONTENT_TYPE)
            await exchange.publish(message, key)
        self._told += 1

    async def search(self, **filters: Any) -> EntryPage:  # noqa: ANN401 - whatever SearchEntries takes
        return await self._service.requester.ask(SearchEntries(**filters), actor=OPERATOR)

    async def get(self, event_id: UUID) -> Any:  # noqa: ANN401 - an EntryView
        return await self._service.requester.ask(GetEntry(event_id=event_id), actor=OPERATOR)

    async def has(self, count: int) -> list[Any]:
        async def enough() -> list[Any]:
            entries = (await self.search(limit=200)).entries
            return entries if len(entries) >= count else []

        return await until(enough)


@asynccontextmanager
async def auditing(infra: Infra, broker: str) -> AsyncIterator[Auditing]:
    with fresh_database(infra.postgres.url, ["audit"]) as database:
        settings = AuditSettings(database_url=database.url("audit"), amqp_url=broker, ops_port=0)
        service = build(settings)
        stop = asyncio.Event()
        task = asyncio.create_task(service.run(stop))

        async def up() -> bool:
            return service.consumer.connected and service.requester.connected

        await until(up)
        yield Auditing(service, database, broker)
        stop.set()
        await task


@pytest.fixture(scope="module")
async def running(infra: Infra) -> AsyncIterator[Auditing]:
    broker = (await asyncio.to_thread(lambda: infra.rabbitmq)).url
    await queues.remove(broker)
    async with auditing(infra, broker) as audit:
        yield audit
    await queues.remove(broker)


@pytest.fixture
async def audit(running: Auditing) -> Auditing:
    """The same for all, which has recorded nothing yet."""
    await running.forget()
    return running


def event(number: int, *, at: datetime = AT, actor: Actor = OPERATOR, correlation_id: UUID | None = None) -> bytes:
    fact = CardDiscovered(id_tag=f"c{number}", ocpp_tag_pk=number, parent_id_tag=None, blocked=False, expiry=None)
    cause = Cause(actor=actor, correlation_id=correlation_id or uuid4(), causation_id=uuid4())
    return seal(fact, event_id=uuid4(), subject_version=1, at=at, cause=cause)


async def test_an_event_is_recorded_as_it_was_told(audit: Auditing) -> None:
    """Everything the envelope says can be read back, with when it was recorded and its position."""
    body = event(1)
    await audit.tell(body)
    (entry,) = await audit.has(1)
    raw = json.loads(body)
    assert (str(entry.event_id), entry.type, entry.subject, entry.source) == (
        raw["id"],
        "card.discovered",
        "card/C1",
        "expressync/sync",
    )
    assert (entry.time, entry.actor_kind, entry.actor_id) == (AT, "operator", "maria")
    assert (str(entry.correlation_id), str(entry.causation_id)) == (raw["correlationid"], raw["causationid"])
    assert (entry.data, entry.data_schema, entry.known) == (raw["data"], raw["dataschema"], True)
    assert await audit.get(entry.event_id) == entry


async def test_a_repeated_event_is_one_entry(audit: Auditing) -> None:
    """The same event told three times happened once."""
    body = event(1)
    for _ in range(3):
        await audit.tell(body)
    await audit.tell(event(2))
    await audit.has(2)
    assert sorted(entry.subject for entry in await audit.has(2)) == ["card/C1", "card/C2"]


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        (b"card.discovered", b"card.teleported", "card.teleported"),
        (b"card.discovered:1", b"card.discovered:2", "card.discovered"),
        (b"urn:expressync:card.discovered:1", b"https://example.com/other", "card.discovered"),
    ],
)
async def test_what_this_program_does_not_know_is_recorded_too(
    audit: Auditing, old: bytes, new: bytes, key: str
) -> None:
    """An unknown type, a newer version or a foreign schema becomes an entry that says it was not known."""
    body = event(1).replace(old, new)
    await audit.tell(body, key=key)
    (entry,) = await audit.has(1)
    assert not entry.known
    assert entry.data == json.loads(body)["data"]
    assert await list_parked(audit.amqp_url) == []


async def test_a_malformed_message_is_parked_and_the_next_one_recorded(audit: Auditing) -> None:
    """What cannot be an entry lies aside with its reason; nothing waits behind it."""
    await audit.tell(b'{"specversion":"1.0"}')
    await audit.tell(event(1))
    await audit.has(1)

    async def parked() -> list[str]:
        return [one.reason for shelf in await list_parked(audit.amqp_url) for one in shelf.messages]

    assert "not a CloudEvent" in (await until(parked))[0]


async def test_each_filter_narrows_the_search(audit: Auditing) -> None:
    """Subject, type, actor, chain and time each select, alone and together."""
    chain = uuid4()
    await audit.tell(event(1, at=AT))
    await audit.tell(event(2, at=AT + timedelta(hours=1), actor=Actor(kind="charger", id="CP-7")))
    await audit.tell(event(3, at=AT + timedelta(hours=2), correlation_id=chain))
    await audit.has(3)

    async def found(**filters: Any) -> list[str]:  # noqa: ANN401 - the same
        return [entry.subject for entry in (await audit.search(**filters)).entries]

    assert await found(subject="card/C2") == ["card/C2"]
    assert await found(type="card.changed") == []
    assert await found(actor_kind="charger") == ["card/C2"]
    assert await found(actor_kind="charger", actor_id="CP-8") == []
    assert await found(correlation_id=chain) == ["card/C3"]
    assert sorted(await found(since=AT + timedelta(hours=1))) == ["card/C2", "card/C3"]
    assert sorted(await found(until=AT + timedelta(hours=1))) == ["card/C1"]
    assert await found(since=AT, until=AT + timedelta(minutes=1), actor_kind="operator") == ["card/C1"]


async def test_pages_cover_everything_once_newest_first(audit: Auditing) -> None:
    """Following the cursors shows each entry once, also when new ones come in between."""
    for number in range(7):
        await audit.tell(event(number))
    await audit.has(7)
    seen: list[int] = []
    cursor: str | None = None
    while True:
        page = await audit.search(limit=3, cursor=cursor)
        seen += [entry.position for entry in page.entries]
        if cursor is None:
            await audit.tell(event(99))
            await audit.has(8)
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == sorted(seen, reverse=True)
    assert len(set(seen)) == len(seen) == 7


async def test_a_page_ends_where_one_reply_could_carry_no_more(audit: Auditing) -> None:
    """Large entries come on more pages, each once; one that no reply could carry is shown without its data."""
    large = event(1).replace(b"card.discovered", b"card.described")
    for size in (100_000, 100_000, 300_000, 100_000, 10):
        text = b'"id_tag":"%s"' % (b"x" * size)
        body = large.replace(b'"id_tag":"C1"', text).replace(b'"id":"', b'"id":"%s","was":"' % str(uuid4()).encode(), 1)
        await audit.tell(body, key="card.described")

    async def five() -> bool:
        return len(await _pages(audit)) == 5

    await until(five)
    sizes = [len(entry.data.get("id_tag", "")) for entry in await _pages(audit)]
    assert sorted(sizes) == [0, 10, 100_000, 100_000, 100_000]
    (omitted,) = [entry for entry in await _pages(audit) if "omitted" in entry.data]
    assert (await audit.get(omitted.event_id)).data == omitted.data


async def _pages(audit: Auditing) -> list[EntryView]:
    entries: list[EntryView] = []
    page = await audit.search(limit=200)
    while page.entries:
        entries += page.entries
        if page.next_cursor is None:
            break
        page = await audit.search(limit=200, cursor=page.next_cursor)
    assert len({entry.event_id for entry in entries}) == len(entries)
    return entries


async def test_a_foreign_cursor_and_an_unknown_event_are_refused_in_words(audit: Auditing) -> None:
    """A made-up cursor is invalid, an event that is not recorded is not found; both say what to do."""
    for made_up in ("abc", "²", "9" * 20):
        with pytest.raises(RemoteProblem, match="start again without one") as invalid:
            await audit.search(cursor=made_up)
        assert invalid.value.status == 422
    with pytest.raises(RemoteProblem, match="still be on its way") as missing:
        await audit.get(uuid4())
    assert missing.value.status == 404
