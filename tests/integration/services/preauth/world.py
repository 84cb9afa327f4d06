"""A preauth on a real PostgreSQL, without a broker: what the tap's path needs, and nothing else."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
from psycopg.rows import dict_row
from pydantic import SecretStr

from services.preauth.clocks import database_time
from services.preauth.main import wire
from services.preauth.settings import PreauthSettings
from services.preauth.wiring.drivers import DriverParts
from services.preauth.wiring.taps import TapParts
from shared.contracts.identity import Actor, ActorKind, Cause
from shared.contracts.request import ReplyEnvelope, Request, RequestEnvelope
from shared.database.engine import Read
from shared.runtime.service import Service
from shared.web.server import HttpServer
from shared.web.signatures import hex_hmac
from tests.databases import TestDatabase

KEY = "hook-key"
NOWHERE = "amqp://guest:guest@127.0.0.1:1/"
BUS = {"relay", "requester", "requests", "consumer"}
OPERATOR = Actor(kind="operator", id="maria")


class MovableClock:
    """The real time plus what a test adds to it, for everybody; and how far this one is `off`."""

    def __init__(self, off: timedelta = timedelta()) -> None:
        self.ahead, self.off = timedelta(), off

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead + self.off

    async def database_time(self, tx: Read) -> datetime:
        return await database_time(tx) + self.ahead


@dataclass
class Preauth:
    """One replica, with its hook over HTTP."""

    service: Service
    database: TestDatabase
    clock: MovableClock
    http: httpx.AsyncClient
    taps: TapParts
    drivers: DriverParts
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    _admin: psycopg.Connection[dict[str, Any]] | None = None

    async def ask(self, request: Request[Any], actor: Actor = OPERATOR, key: str | None = None) -> ReplyEnvelope:
        """Send a request the way the bus would hand it over."""
        reply = await self.service.dispatcher.answer(
            RequestEnvelope(
                name=request.name,
                actor=actor,
                correlationid=uuid4(),
                deadline=self.clock() + timedelta(seconds=10),
                idempotency_key=key or (str(uuid4()) if request.command else None),
                data=request.model_dump(mode="json"),
            )
        )
        assert reply is not None
        return reply

    async def done(self, request: Request[Any], actor: Actor = OPERATOR) -> dict[str, Any]:
        """The value of a request that must succeed."""
        reply = await self.ask(request, actor)
        assert reply.ok, reply.problem
        return reply.value or {}

    def body(
        self,
        id_tag: str,
        charger: str,
        *,
        start: bool = False,
        connector: int | None = None,
        ts: datetime | None = None,
    ) -> bytes:
        at = ts or self.clock()
        return json.dumps(
            {
                "idTag": id_tag,
                "chargeBoxId": charger,
                "connectorId": connector,
                "isStartTx": start,
                "ts": int(at.timestamp() * 1000),
            }
        ).encode()

    async def post(self, body: bytes, **headers: str) -> httpx.Response:
        headers = headers or {"X-Signature": hex_hmac(KEY.encode(), body)}
        return await self.http.post("/api/ocpp/pre-authorize", content=body, headers=headers)

    async def tap(self, id_tag: str, charger: str, **more: Any) -> str | None:  # noqa: ANN401 - what `body` takes
        """Present a card as the patched SteVe would tell it; the override that was answered."""
        response = await self.post(self.body(id_tag, charger, **more))
        assert response.status_code == 200, response.text
        override: str | None = response.json()["override"]
        return override

    def rows(self, sql: str, *parameters: object) -> list[dict[str, Any]]:
        """Look into the database with the administrator's eyes."""
        return self._execute(sql, parameters).fetchall()

    def run(self, sql: str, *parameters: object) -> None:
        self._execute(sql, parameters)

    def _execute(self, sql: str, parameters: Sequence[object]) -> psycopg.Cursor[dict[str, Any]]:
        try:
            return self._looking().execute(sql.encode(), parameters)
        except psycopg.OperationalError:
            # The server may have been away since the last look.
            self.look_away()
            return self._looking().execute(sql.encode(), parameters)

    def _looking(self) -> psycopg.Connection[dict[str, Any]]:
        # It lasts: to open one costs both sides more than any of the queries, and some tests look every 20 ms.
        if self._admin is None:
            self._admin = psycopg.connect(
                self.database.admin_url, row_factory=dict_row, autocommit=True, options="-c search_path=preauth"
            )
        return self._admin

    def look_away(self) -> None:
        if self._admin is not None:
            self._admin.close()
            self._admin = None

    def healthy_for(self, seconds: float) -> None:
        """As if the database had answered without an outage for that long: the sweeper waits for it."""
        self.taps.group._healthy_since = time.monotonic() - seconds

    def events(self, event_type: str) -> list[dict[str, Any]]:
        """What waits in the outbox (no broker takes it), oldest first."""
        found = self.rows("SELECT body FROM outbox WHERE routing_key = %s ORDER BY id", event_type)
        return [json.loads(row["body"]) for row in found]

    async def until(self, sql: str, *parameters: object, within_s: float = 5.0) -> list[dict[str, Any]]:
        """Wait until the query finds something."""
        deadline = time.monotonic() + within_s
        while not (found := self.rows(sql, *parameters)):
            assert time.monotonic() < deadline, f"nothing within {within_s} s: {sql} {parameters}"
            await asyncio.sleep(0.02)
        return found


def settings_for(database: TestDatabase, folder: Path, **more: Any) -> PreauthSettings:  # noqa: ANN401 - settings
    values: dict[str, Any] = {
        "database_url": SecretStr(database.url("preauth")),
        "amqp_url": SecretStr(NOWHERE),
        "port": 0,
        "ops_port": 0,
        "hook_keys": SecretStr(KEY),
        "spool_dir": folder / "spool",
        # What is tested here is the order of things, on a busy machine too; tests of deadlines set their own.
        "decide_within_ms": 2500,
        "answer_within_ms": 3000,
        **more,
    }
    return PreauthSettings(**values)


@asynccontextmanager
async def running(
    database: TestDatabase,
    folder: Path,
    *,
    clock: MovableClock | None = None,
    ready: bool = True,
    bus: bool = False,
    **more: Any,  # noqa: ANN401 - settings
) -> AsyncIterator[Preauth]:
    """One replica, from start to stop. Without `bus`, it does not even try to reach a broker."""
    clock = clock or MovableClock()
    settings = settings_for(database, folder, **more)
    service, taps, drivers = wire(settings, clock=clock, database_time=clock.database_time)
    if not bus:
        service.parts = [part for part in service.parts if part.name not in BUS]
    port = next(part.port for part in service.parts if isinstance(part, HttpServer) and part.name == "http")
    stop = asyncio.Event()
    task = asyncio.create_task(service.run(stop))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        preauth = Preauth(service, database, clock, client, taps, drivers, stop)
        try:
            deadline = time.monotonic() + 10
            while ready and await service.checks["taps"]() is not None:
                assert not task.done(), "the service fell"
                assert time.monotonic() < deadline, "the taps' database connection did not come up"
                await asyncio.sleep(0.01)
            yield preauth
        finally:
            preauth.look_away()
            stop.set()
            await task


def cause(kind: ActorKind = "system", name: str = "test") -> Cause:
    return Cause(actor=Actor(kind=kind, id=name), correlation_id=uuid4())
