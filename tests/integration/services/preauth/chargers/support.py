"""An observer that writes, what passes a gateway, and a sync that answers for chargers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from services.preauth.chargers.jobs import Readiness
from services.preauth.chargers.observer import Observer
from services.preauth.chargers.seen import Booted, Connected, Disconnected, StatusReported
from services.preauth.tables import metadata
from shared.bus.outbox import Outbox
from shared.bus.requests import NoAnswerError
from shared.contracts.events.sync import TransactionStarted
from shared.contracts.identity import Actor
from shared.contracts.requests.sync import OperateCharger, OperationOutcome, OperationResult
from shared.database.engine import Database
from shared.runtime.clock import utc_now, uuid7
from tests.databases import TestDatabase
from tests.integration.services.preauth.world import MovableClock
from tests.waiting import until as waited


@dataclass
class Socket:
    """A charger's connection, as the gateway knows it."""

    charge_box_id: str
    connection_id: UUID = field(default_factory=uuid4)
    subprotocol: str = "ocpp1.6"
    seen_at: datetime = field(default_factory=utc_now)
    heartbeat_at: datetime | None = None

    def came(self, at: datetime | None = None) -> Connected:
        return Connected(
            charge_box_id=self.charge_box_id,
            at=at or self.seen_at,
            connection_id=self.connection_id,
            subprotocol=self.subprotocol,
        )

    def went(self) -> Disconnected:
        return Disconnected(
            charge_box_id=self.charge_box_id, at=utc_now(), connection_id=self.connection_id, code=1000, reason=""
        )


def booted(charge_box_id: str, at: datetime) -> Booted:
    return Booted(
        charge_box_id=charge_box_id,
        at=at,
        registration="Accepted",
        vendor=None,
        model=None,
        serial_number=None,
        firmware_version=None,
    )


def reported(charge_box_id: str, status: str, at: datetime) -> StatusReported:
    return StatusReported(
        charge_box_id=charge_box_id,
        at=at,
        connector_id=1,
        status=status,
        error_code="NoError",
        vendor_error_code=None,
        info=None,
        reported_at=None,
    )


@dataclass
class Writing:
    """A running observer of one replica."""

    observer: Observer
    database: Database
    clock: MovableClock

    async def rows(self, sql: str) -> list[dict[str, Any]]:
        async with self.database.read() as tx:
            return [dict(row) for row in (await tx.exec_driver_sql(sql)).mappings()]

    async def told(self, event_type: str) -> int:
        return len(await self.rows(f"SELECT FROM outbox WHERE routing_key = '{event_type}'"))


@asynccontextmanager
async def writing(at: TestDatabase) -> AsyncIterator[Writing]:
    clock = MovableClock()
    database = Database(at.url("preauth"), application="test", schema="preauth")
    await database.open()
    observer = Observer(
        database, Outbox(metadata, clock=clock, new_id=uuid7), instance=uuid4(), clock=clock, new_id=uuid7
    )
    stop = asyncio.Event()
    task = asyncio.create_task(observer.run(stop))
    try:
        yield Writing(observer, database, clock)
    finally:
        stop.set()
        await task
        await database.close()


@dataclass
class Sync:
    """Answers `operate_charger` as the test says, and counts."""

    outcome: OperationOutcome = "accepted"
    configuration: list[dict[str, Any]] = field(default_factory=list)
    answers: bool = True
    connected: bool = True
    asked: list[OperateCharger] = field(default_factory=list)
    hang: asyncio.Event | None = None

    async def ask(
        self, request: OperateCharger, *, actor: Actor, correlation_id: UUID, deadline_s: float, key: str
    ) -> OperationResult:
        assert actor.kind == "system"
        assert key
        self.asked.append(request)
        if self.hang is not None:
            await self.hang.wait()
        if not self.answers:
            raise NoAnswerError(request.name, request.owner, f"no reply within {deadline_s} s, of {correlation_id}")
        return OperationResult(
            charge_box_id=request.charge_box_id,
            operation=request.operation,
            outcome=self.outcome,
            response={"configurationKeys": self.configuration} if self.outcome == "accepted" else {},
            asked_at=utc_now(),
        )


def readiness_of(one: Writing, sync: Sync) -> Readiness:
    outbox = Outbox(metadata, clock=one.clock, new_id=uuid7)
    return Readiness(one.database, outbox, sync, clock=one.clock, new_id=uuid7)


def pre_authorize(value: str) -> list[dict[str, Any]]:
    return [{"key": "LocalPreAuthorize", "value": value, "readonly": False}]


async def connect(one: Writing, *names: str) -> None:
    for name in names:
        one.observer.saw(Socket(name).came())
    await waited(lambda: one.rows(f"SELECT FROM charger_connection HAVING count(*) = {len(names)}"))


def started_event(charge_box_id: str, transaction_id: int, at: datetime) -> TransactionStarted:
    return TransactionStarted(
        session=f"steve:{transaction_id}",
        charge_box_id=charge_box_id,
        id_tag="A",
        connector_id=1,
        started_at=at,
        start_wh=0,
    )
