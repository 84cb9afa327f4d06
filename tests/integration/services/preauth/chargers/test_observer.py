"""What passes is written down beside the relay: late if need be, once, and without ever stopping a frame."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from services.preauth.chargers import observer as module
from services.preauth.chargers import store, views
from services.preauth.chargers.handlers import Chargers
from services.preauth.chargers.jobs import Newcomers, Readiness
from services.preauth.chargers.observer import Observer
from services.preauth.chargers.seen import Booted, Connected, Disconnected, Seen, SessionStarted, StatusReported
from services.preauth.chargers.tables import charger_session
from services.preauth.tables import metadata, tap
from shared.bus.outbox import Outbox
from shared.bus.requests import NoAnswerError
from shared.contracts.event import Envelope
from shared.contracts.events.sync import ChargerOperationFinished, TransactionStarted
from shared.contracts.identity import Actor
from shared.contracts.requests.preauth import ChargerView, GetCharger
from shared.contracts.requests.sync import OperateCharger, OperationOutcome, OperationResult
from shared.database.engine import Database
from shared.runtime.clock import utc_now, uuid7
from tests.databases import TestDatabase, fresh_database, locked
from tests.infra import Infra
from tests.integration.services.preauth.gateway.support import until
from tests.integration.services.preauth.world import MovableClock, cause
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


@pytest.fixture
async def one(database: TestDatabase) -> AsyncIterator[Writing]:
    async with writing(database) as running:
        yield running


async def test_a_lock_that_lasts_loses_nothing(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """What passed while a table was locked for longer than anybody waits for a lock is recorded afterwards."""
    monkeypatch.setattr("shared.database.engine.LOCK_TIMEOUT_MS", 100)
    async with writing(database) as one:
        async with locked(database, b"preauth.charger"):
            one.observer.saw(Socket("CP-1").came())
            await asyncio.sleep(0.5)
        await waited(lambda: one.told("charger.connected"), within_s=5)
        assert not one.observer.dropped


async def test_frozen_database_costs_nothing_but_time(tmp_path: Path, own_infra: Infra) -> None:
    """While the database is frozen or gone what passes waits, taking it takes no time, and it is written once."""
    with fresh_database(own_infra.postgres.url, ["preauth"]) as database:
        async with writing(database) as one:
            first = Socket("CP-1")
            one.observer.saw(first.came())
            await waited(lambda: one.told("charger.connected"))
            await asyncio.to_thread(own_infra.postgres.kill)
            sockets = [Socket(f"CP-{number}") for number in range(2, 500)]
            started = asyncio.get_running_loop().time()
            for socket in sockets:
                one.observer.saw(socket.came())
            one.observer.saw(first.went())
            assert asyncio.get_running_loop().time() - started < 0.1
            await asyncio.sleep(0.5)
            await asyncio.to_thread(own_infra.postgres.start)
            await until(lambda: not one.observer._waiting, within_s=20)

            async def all_told() -> bool:
                return await one.told("charger.connected") == 499 and await one.told("charger.disconnected") == 1

            await waited(all_told)
            assert len(await one.rows("SELECT FROM charger_connection")) == 498


async def test_one_that_cannot_be_written_does_not_take_the_others_along(one: Writing) -> None:
    """A value that the database refuses is dropped, counted and said; what came with it is kept."""
    poison = StatusReported(
        charge_box_id="CP-2",
        at=utc_now(),
        connector_id=2**40,
        status="x",
        error_code="x",
        vendor_error_code=None,
        info=None,
        reported_at=None,
    )
    seen: list[Seen] = [Socket("CP-1").came(), poison, Socket("CP-3").came()]
    for each in seen:
        one.observer.saw(each)
    await waited(lambda: one.rows("SELECT FROM charger WHERE via_gateway HAVING count(*) = 2"))
    assert one.observer.dropped == {"StatusReported": 1}


async def test_too_much_is_dropped_and_put_right_later(one: Writing, monkeypatch: pytest.MonkeyPatch) -> None:
    """An overflow drops the newest and counts it; a connection that was missed is recorded at the next check."""
    monkeypatch.setattr(module, "MOST_WAITING", 3)
    sockets = [Socket(f"CP-{number}") for number in range(5)]
    for socket in sockets:
        one.observer.saw(socket.came())
    assert one.observer.dropped == {"Connected": 2}
    await waited(lambda: one.rows("SELECT FROM charger_connection HAVING count(*) = 3"))
    one.observer.alive = lambda: sockets
    await one.observer.check()
    await waited(lambda: one.rows("SELECT FROM charger_connection HAVING count(*) = 5"))
    assert await one.told("charger.connected") == 5


async def test_replica_that_died_leaves_nobody_connected(database: TestDatabase) -> None:
    """A replica that was killed is noticed after a minute: its chargers are disconnected, once, by whoever sees it."""
    async with writing(database) as dead, writing(database) as alive, writing(database) as other:
        lost, kept = Socket("CP-1"), Socket("CP-2")
        dead.observer.saw(lost.came())
        alive.observer.saw(kept.came())
        dead.observer.alive = lambda: [lost]
        alive.observer.alive = lambda: [kept]
        await waited(lambda: alive.rows("SELECT FROM charger_connection HAVING count(*) = 2"))
        for one in (dead, alive, other):
            await one.observer.check()
        # Everybody lived a moment ago.
        assert await alive.told("charger.disconnected") == 0
        alive.clock.ahead = other.clock.ahead = module.DEAD_AFTER + timedelta(seconds=1)
        await alive.observer.check()
        await other.observer.check()

        async def gone() -> bool:
            return await alive.told("charger.disconnected") == 1

        await waited(gone)
        (left,) = await alive.rows("SELECT charge_box_id FROM charger_connection")
        assert left["charge_box_id"] == "CP-2"
        (row,) = await alive.rows("SELECT close_code FROM charger WHERE charge_box_id = 'CP-1'")
        assert row["close_code"] == 1006


async def test_replica_that_stopped_leaves_no_trace(database: TestDatabase) -> None:
    """An orderly stop writes what waited and takes the replica off the list."""
    async with writing(database) as watching:
        async with writing(database) as stopping:
            await stopping.observer.check()
            socket = Socket("CP-1")
            stopping.observer.saw(socket.came())
            stopping.observer.saw(socket.went())
        assert await watching.rows("SELECT FROM gateway_instance") == []
        assert await watching.told("charger.disconnected") == 1


async def test_liveness_is_written_for_all_at_once(one: Writing) -> None:
    """The last frame and the last heartbeat of every charger are known from one statement; they never go back."""
    early, late = utc_now() - timedelta(minutes=5), utc_now()
    sockets = [
        Socket("CP-1", seen_at=early, heartbeat_at=early),
        Socket("CP-1", seen_at=late),
        Socket("CP-2", seen_at=late, heartbeat_at=late),
    ]
    for socket in sockets:
        one.observer.saw(socket.came(early))
    await waited(lambda: one.rows("SELECT FROM charger_connection HAVING count(*) = 3"))
    one.observer.alive = lambda: sockets
    await one.observer.check()
    sockets[2].seen_at = sockets[2].heartbeat_at = early
    await one.observer.check()
    rows = await one.rows("SELECT last_seen_at, last_heartbeat_at FROM charger ORDER BY charge_box_id")
    assert [tuple(row.values()) for row in rows] == [(late, early), (late, late)]


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


async def test_repeated_status_is_not_even_queued(one: Writing) -> None:
    """A charger that reports the same every second costs one write a minute."""
    for second in range(30):
        one.observer.saw(reported("CP-1", "Charging", datetime(2026, 5, 1, 10, 0, second, tzinfo=UTC)))
    assert len(one.observer._waiting) == 1


async def test_what_a_replica_tells_late_is_old_news(database: TestDatabase) -> None:
    """A charger went to another replica, and the first one tells late what it said there; then it comes back, within
    the minute, and says again what it had said there. It is known as it last was.
    """
    at, here, there, back = utc_now(), Socket("CP-1"), Socket("CP-1"), Socket("CP-1")

    def later(seconds: float) -> datetime:
        return at + timedelta(seconds=seconds)

    async with writing(database) as first, writing(database) as second:

        async def known(status: str, boot_at: datetime) -> bool:
            found = await first.rows("SELECT status, boot_at FROM charger_connector JOIN charger USING (charge_box_id)")
            return [(row["status"], row["boot_at"]) for row in found] == [(status, boot_at)]

        async def came(sockets: int) -> bool:
            return len(await first.rows("SELECT FROM charger_connection")) == sockets

        for seen in (there.came(later(2)), booted("CP-1", later(3)), reported("CP-1", "Faulted", later(4))):
            second.observer.saw(seen)
        await waited(lambda: known("Faulted", later(3)))
        for seen in (here.came(at), booted("CP-1", at), reported("CP-1", "Available", later(1))):
            first.observer.saw(seen)
        await waited(lambda: came(2))
        assert await known("Faulted", later(3))
        for seen in (back.came(later(5)), reported("CP-1", "Available", later(6))):
            first.observer.saw(seen)
        await waited(lambda: known("Available", later(3)))


async def test_old_sessions_are_forgotten(one: Writing) -> None:
    """Sessions that passed months ago are deleted; SteVe has them."""
    for number, age in enumerate((timedelta(days=200), timedelta(days=1))):
        at = utc_now() - age
        one.observer.saw(
            SessionStarted(
                charge_box_id="CP-1",
                at=at,
                transaction_id=number,
                connector_id=1,
                id_tag="A",
                verdict="Accepted",
                meter_start_wh=0,
                started_at=at,
            )
        )
    await waited(lambda: one.rows("SELECT FROM charger_session HAVING count(*) = 2"))
    await one.observer.forget()
    assert [row["transaction_id"] for row in await one.rows("SELECT transaction_id FROM charger_session")] == [1]


# Readiness


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


async def test_readiness_is_asked_once_and_told_when_it_changes(one: Writing) -> None:
    """A connected charger is asked for its configuration; the answer is kept for a day, and a change is an event."""
    await connect(one, "CP-1")
    sync = Sync(configuration=pre_authorize("true"))
    job = readiness_of(one, sync)
    await job.ask()
    await job.ask()
    assert [(one.operation, one.charge_box_id) for one in sync.asked] == [("GetConfiguration", "CP-1")]
    (row,) = await one.rows("SELECT ready, ready_keys, ready_reason, online FROM charger")
    assert (row["ready"], row["ready_keys"], row["online"]) == ("no", {"LocalPreAuthorize": "true"}, True)
    assert await one.told("charger.readiness_changed") == 1
    one.clock.ahead = timedelta(hours=25)
    await job.ask()
    assert await one.told("charger.readiness_changed") == 1
    one.clock.ahead = timedelta(hours=50)
    sync.configuration = pre_authorize("false")
    await job.ask()
    assert await one.told("charger.readiness_changed") == 2
    async with one.database.read() as tx:
        view = await views.view(tx, "CP-1")
    assert view is not None
    assert view.readiness.ready == "yes"
    assert view.readiness.checked_at is not None


@pytest.mark.parametrize("outcome", ["rejected", "not_connected", "failed", "unknown", None])
async def test_charger_that_does_not_tell_stays_unknown(one: Writing, outcome: OperationOutcome | None) -> None:
    """No answer, or a refusal, is unknown and not a no; the charger is left alone for a while."""
    await connect(one, "CP-1")
    sync = Sync(outcome=outcome or "failed", answers=outcome is not None)
    job = readiness_of(one, sync)
    await job.ask()
    await job.ask()
    assert len(sync.asked) == 1
    (row,) = await one.rows("SELECT ready, ready_checked_at, online FROM charger")
    assert (row["ready"], row["ready_checked_at"]) == ("unknown", None)
    assert row["online"] == {"rejected": True, "not_connected": False}.get(outcome or "")
    one.clock.ahead = timedelta(minutes=16)
    await job.ask()
    assert len(sync.asked) == 2


async def test_two_replicas_do_not_ask_the_same_charger(one: Writing) -> None:
    """Who is asked is claimed first: five replicas ask ten chargers ten times."""
    names = [f"CP-{number}" for number in range(10)]
    await connect(one, *names)
    sync = Sync(configuration=pre_authorize("false"))
    await asyncio.gather(*(readiness_of(one, sync).ask() for _ in range(5)))
    assert sorted(each.charge_box_id for each in sync.asked) == names


async def test_without_a_broker_nobody_is_claimed(one: Writing) -> None:
    """While sync cannot be reached no charger loses its turn, and a stop does not wait for an answer."""
    await connect(one, "CP-1")
    sync = Sync(connected=False)
    await readiness_of(one, sync).ask()
    assert await one.rows("SELECT FROM charger WHERE ready_asked_at IS NULL")
    sync.connected, sync.hang, stop = True, asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(readiness_of(one, sync).run(stop))
    await until(lambda: bool(sync.asked))
    stop.set()
    async with asyncio.timeout(1):
        await running


async def test_charger_behind_a_hook_is_known_from_its_taps(one: Writing, database: TestDatabase) -> None:
    """A charger that never came through the gateway is listed from its taps; whether it is online is asked."""
    async with one.database.write() as tx:
        await tx.exec_driver_sql(
            "INSERT INTO tap (received_at, tap_id, charge_box_id, id_tag, kind, via, reason)"
            " VALUES (now(), gen_random_uuid(), 'HOOKED', 'A', 'authorize', 'hook', 'nothing_armed')"
        )
    await Newcomers(one.database, clock=one.clock).note_tapped()
    async with one.database.read() as tx:
        view = await views.view(tx, "HOOKED")
    assert view is not None
    assert (view.via_gateway, view.connected) == (False, None)
    await readiness_of(one, Sync(outcome="not_connected")).ask()
    async with one.database.read() as tx:
        view = await views.view(tx, "HOOKED")
    assert view is not None
    assert view.connected is False
    assert view.connected_as_of is not None


async def tapped(one: Writing, charge_box_id: str, **columns: object) -> None:
    values = {"kind": "authorize", "via": "hook", "reason": "nothing_armed", "id_tag": "A", **columns}
    async with one.database.write() as tx:
        row = {"received_at": one.clock(), "tap_id": uuid4(), "charge_box_id": charge_box_id, **values}
        await tx.execute(tap.insert().values(row))
    await Newcomers(one.database, clock=one.clock).note_tapped()


async def started(one: Writing, charge_box_id: str, transaction_id: int) -> None:
    """SteVe's record of it, told just now."""
    event = TransactionStarted(
        session=f"steve:{transaction_id}",
        charge_box_id=charge_box_id,
        id_tag="A",
        connector_id=1,
        started_at=one.clock(),
        start_wh=0,
    )
    async with one.database.write() as tx:
        envelope = cast("Envelope", SimpleNamespace(time=one.clock()))
        await Newcomers(one.database, clock=one.clock).session_started(tx, event, envelope)


@pytest.mark.parametrize("how", ["tap", "session"])
async def test_a_charger_that_left_the_gateway_is_asked_again(one: Writing, how: str) -> None:
    """Now it goes to SteVe directly: nobody says any more that it is not connected, until it comes back."""
    socket = Socket("CP-1")
    one.observer.saw(socket.came())
    await waited(lambda: one.told("charger.connected"))

    async def shown() -> tuple[bool, bool | None]:
        async with one.database.read() as tx:
            view = await views.view(tx, "CP-1")
        assert view is not None
        return view.via_gateway, view.connected

    async def heard(transaction_id: int, **columns: object) -> None:
        await (tapped(one, "CP-1", **columns) if how == "tap" else started(one, "CP-1", transaction_id))

    async with one.database.write() as tx:
        # It passed the gateway, and SteVe tells of it when the charger has gone.
        row = {"charge_box_id": "CP-1", "transaction_id": 1, "seen_at": one.clock()}
        await tx.execute(charger_session.insert().values(row))
    await heard(2)
    assert await shown() == (True, True)
    one.observer.saw(socket.went())
    await waited(lambda: one.told("charger.disconnected"))
    await heard(1, via="gateway", also_via="hook")
    assert await shown() == (True, False)
    await heard(3)
    assert await shown() == (False, None)
    one.observer.saw(Socket("CP-1").came(one.clock()))
    await waited(lambda: one.rows("SELECT FROM charger WHERE via_gateway"))
    assert await shown() == (True, True)


async def test_a_charger_whose_configuration_was_changed_is_asked_anew(one: Writing) -> None:
    """After ChangeConfiguration it is asked at once, and where it takes no cards also when somebody looks at it."""
    await connect(one, "CP-1")
    sync = Sync(configuration=pre_authorize("true"))
    job = readiness_of(one, sync)
    handlers = Chargers(one.database, job.look)
    for operation, asked in (("Reset", 1), ("ChangeConfiguration", 2)):
        await job.ask()
        done = ChargerOperationFinished(
            operation_id=uuid4(),
            charge_box_id="CP-1",
            operation=operation,
            parameters={},
            outcome="accepted",
            problem=None,
        )
        async with one.database.write() as tx:
            await job.operation_finished(tx, done, cast("Envelope", None))
        await job.ask()
        assert len(sync.asked) == asked
    assert (await handlers.get_charger(GetCharger(charge_box_id="CP-1"), cause())).readiness.ready == "no"
    one.clock.ahead = timedelta(seconds=61)
    sync.configuration = pre_authorize("false")
    await job.ask()
    assert (await handlers.get_charger(GetCharger(charge_box_id="CP-1"), cause())).readiness.ready == "yes"
    one.clock.ahead = timedelta(seconds=122)
    await job.ask()
    assert len(sync.asked) == 3


async def test_looking_at_a_charger_behind_a_hook_asks_anew(one: Writing) -> None:
    """Whoever looks is told at once what is known, and how old it is; where that is a minute, it is then asked for."""
    async with one.database.write() as tx:
        await store.note(tx, "HOOKED", one.clock())
    sync, stop = Sync(outcome="rejected"), asyncio.Event()
    job = readiness_of(one, sync)
    handlers = Chargers(one.database, job.look)
    running = asyncio.create_task(job.run(stop))

    async def look() -> ChargerView:
        return await handlers.get_charger(GetCharger(charge_box_id="HOOKED"), cause())

    async def online(state: str) -> list[Any]:
        return await one.rows(f"SELECT FROM charger WHERE online IS {state}")

    await waited(lambda: online("true"), within_s=10)
    sync.outcome = "not_connected"
    first, second = await look(), await look()
    assert (first.connected, second.connected) == (True, True)
    one.clock.ahead = timedelta(seconds=61)
    third = await look()
    assert (third.connected, third.connected_as_of) == (True, first.connected_as_of)
    # Long before the readiness of itself is due again.
    await waited(lambda: online("false"), within_s=2)
    fourth = await look()
    assert fourth.connected is False
    assert fourth.connected_as_of is not None
    assert fourth.connected_as_of - (first.connected_as_of or fourth.connected_as_of) > timedelta(seconds=60)
    assert len(sync.asked) == 2
    stop.set()
    async with asyncio.timeout(1):
        await running
