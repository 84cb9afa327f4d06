"""What truly happened, noted inside the database by triggers that no service knows of.

`faults.committed` has every event that any service committed (a row in the transaction that wrote the outbox row);
`faults.handled` has a row for each time audit's handler was run and committed. Neither table is unique: what is
done twice is there twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import aio_pika
import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from shared.bus.topology import SUBSCRIPTIONS, events_queue, parked_queue, retry_queue

NOTE_COMMITTED = """
CREATE SCHEMA faults;
CREATE TABLE faults.committed (event_id uuid, schema text, type text, body bytea);
CREATE TABLE faults.handled (event_id uuid);
CREATE FUNCTION faults.note_committed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
    INSERT INTO faults.committed VALUES (NEW.event_id, TG_TABLE_SCHEMA, NEW.routing_key, NEW.body);
    RETURN NULL;
END $$;
CREATE FUNCTION faults.note_handled() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
    INSERT INTO faults.handled VALUES (NEW.event_id);
    RETURN NEW;
END $$;
"""
WATCH_OUTBOX = """
CREATE TRIGGER faults_committed AFTER INSERT ON {}.outbox FOR EACH ROW EXECUTE FUNCTION faults.note_committed()
"""
# Before the insert: it also sees one that the unique constraint then quietly leaves out.
WATCH_ENTRIES = """
CREATE TRIGGER faults_handled BEFORE INSERT ON audit.entry FOR EACH ROW EXECUTE FUNCTION faults.note_handled()
"""

TABLES = {
    "committed": "faults.committed",
    "recorded": "audit.entry",
    "handled": "faults.handled",
    "inbox": "audit.inbox",
}


@dataclass(frozen=True)
class Account:
    """All events ever committed, against what became of them."""

    committed: Counter[UUID]
    recorded: Counter[UUID]
    handled: Counter[UUID]
    inbox: Counter[UUID]
    waiting: int
    """Rows in the services' outboxes."""

    @property
    def lost(self) -> set[UUID]:
        return set(self.committed) - set(self.recorded)

    @property
    def settled(self) -> bool:
        return not self.waiting and not self.lost

    def __str__(self) -> str:
        return (
            f"{len(self.committed)} events committed, {len(self.lost)} of them not recorded,"
            f" {self.waiting} in an outbox, {len(self.recorded)} recorded"
        )

    def check(self) -> None:
        """None lost, none invented, none processed twice; every trace agrees."""
        once = Counter(set(self.committed))
        assert self.committed == once, "an event was written twice"
        assert self.recorded == once, str(self)
        assert self.handled == once, f"handled again: {[event for event, n in self.handled.items() if n > 1]}"
        assert self.inbox == once, "the inbox disagrees with what was recorded"
        assert self.waiting == 0, str(self)


class Evidence:
    """Looks with the superuser's eyes, past every proxy, on a connection that it keeps."""

    def __init__(self, admin_url: str, services: Sequence[str]) -> None:
        self._url, self._services = admin_url, services
        self._kept: psycopg.AsyncConnection[dict[str, Any]] | None = None
        self._turn = asyncio.Lock()

    async def close(self) -> None:
        if self._kept is not None:
            await self._kept.close()
            self._kept = None

    def install(self) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(NOTE_COMMITTED)
            for service in self._services:
                connection.execute(sql.SQL(WATCH_OUTBOX).format(sql.Identifier(service)))
            connection.execute(WATCH_ENTRIES)

    async def rows(self, statement: str, *parameters: object) -> list[dict[str, Any]]:
        # Tests look ten times a second, and a connection takes ten times what a look does.
        async with self._turn:
            if self._kept is not None:
                with contextlib.suppress(psycopg.OperationalError):
                    return await (await self._kept.execute(statement.encode(), parameters)).fetchall()
                # The server that it led to was stopped.
                await self.close()
            self._kept = await psycopg.AsyncConnection.connect(
                self._url, autocommit=True, row_factory=dict_row, connect_timeout=10
            )
            return await (await self._kept.execute(statement.encode(), parameters)).fetchall()

    async def count(self, statement: str, *parameters: object) -> int:
        """How many rows there are in `statement`: a table, and a condition if need be."""
        (row,) = await self.rows(f"SELECT count(*) AS n FROM {statement}", *parameters)
        return int(row["n"])

    async def committed(self, event_type: str) -> list[dict[str, Any]]:
        """Events of a type, as they were committed, parsed."""
        rows = await self.rows("SELECT body FROM faults.committed WHERE type = %s", event_type)
        return [json.loads(row["body"]) for row in rows]

    async def account(self) -> Account:
        outboxes = " UNION ALL ".join(f"SELECT event_id FROM {service}.outbox" for service in self._services)
        found: dict[str, Counter[UUID]] = {name: Counter() for name in (*TABLES, "waiting")}
        parts = [f"SELECT '{name}' AS name, event_id FROM {table}" for name, table in TABLES.items()]
        # One statement, and so one snapshot: they change while they are read.
        for row in await self.rows(" UNION ALL ".join([*parts, f"SELECT 'waiting', event_id FROM ({outboxes}) o"])):
            found[row["name"]][row["event_id"]] += 1
        waiting = found.pop("waiting").total()
        return Account(**found, waiting=waiting)


async def depths(amqp_url: str, *queues: str) -> dict[str, int]:
    """Messages that wait in each queue and are in nobody's hands."""
    found = {}
    async with await aio_pika.connect(amqp_url, timeout=30) as connection:
        channel = await connection.channel()
        for queue in queues:
            declared = await channel.declare_queue(queue, passive=True)
            found[queue] = declared.declaration_result.message_count or 0
    return found


async def put_aside(amqp_url: str) -> dict[str, int]:
    """Messages that were refused or parked: a fault of the infrastructure must not make any."""
    queues = [events_queue(service) for service in SUBSCRIPTIONS]
    found = await depths(amqp_url, *(place(queue) for queue in queues for place in (retry_queue, parked_queue)))
    return {queue: count for queue, count in found.items() if count}
