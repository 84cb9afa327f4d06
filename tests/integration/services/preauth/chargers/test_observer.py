"""What passes is written down beside the relay: late if need be, once, and without ever stopping a frame."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from services.preauth.chargers import observer as module
from services.preauth.chargers.seen import Seen, SessionStarted, StatusReported
from shared.runtime.clock import utc_now
from tests.databases import TestDatabase, locked, refusing
from tests.integration.services.preauth.chargers.support import (
    Socket,
    Writing,
    booted,
    reported,
    writing,
)
from tests.integration.services.preauth.gateway.support import until
from tests.waiting import until as waited


async def test_a_lock_that_lasts_loses_nothing(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """What passed while a table was locked for longer than anybody waits for a lock is recorded afterwards."""
    monkeypatch.setattr("shared.database.engine.LOCK_TIMEOUT_MS", 100)
    async with writing(database) as one:
        async with locked(database, b"preauth.charger"):
            one.observer.saw(Socket("CP-1").came())
            await asyncio.sleep(0.5)
        await waited(lambda: one.told("charger.connected"), within_s=5)
        assert not one.observer.dropped


async def test_a_database_that_is_gone_costs_nothing_but_time(database: TestDatabase) -> None:
    """While the database is gone what passes waits, taking it takes no time, and it is written once."""
    async with writing(database) as one:
        first = Socket("CP-1")
        one.observer.saw(first.came())
        await waited(lambda: one.told("charger.connected"))
        with refusing(database):
            sockets = [Socket(f"CP-{number}") for number in range(2, 500)]
            started = asyncio.get_running_loop().time()
            for socket in sockets:
                one.observer.saw(socket.came())
            one.observer.saw(first.went())
            assert asyncio.get_running_loop().time() - started < 0.1
            await asyncio.sleep(0.5)
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


async def test_repeated_status_is_not_even_queued(one: Writing) -> None:
    """A charger that reports the same every second costs one write a minute."""
    for second in range(30):
        one.observer.saw(reported("CP-1", "Charging", datetime(2026, 5, 1, 10, 0, second, tzinfo=UTC)))
    assert len(one.observer._waiting) == 1


async def test_what_a_replica_tells_late_is_old_news(database: TestDatabase) -> None:
    """A charger went to another replica, and the first one tells late what it said there; then it comes back, within
    the minute, and says again what it had said there. It is known as it last was.
    """
    at = utc_now() - timedelta(minutes=1)
    here, there, back = Socket("CP-1"), Socket("CP-1"), Socket("CP-1")

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
