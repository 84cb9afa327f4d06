"""Replicas whose clocks do not agree."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from services.preauth.clocks import Clocks
from shared.contracts.requests.preauth import ArmPairing
from shared.database.engine import Read
from tests.databases import TestDatabase
from tests.integration.services.preauth.world import MovableClock, Preauth, running

CARD = "04A1"
BEHIND = timedelta(seconds=8)
A_MOMENT = timedelta(seconds=1)


@pytest.fixture
async def right(database: TestDatabase, tmp_path: Path) -> AsyncIterator[Preauth]:
    """A replica whose clock is right."""
    async with running(database, tmp_path / "right") as one:
        yield one


@pytest.mark.parametrize("off_s", [120, -120])
async def test_a_scan_lasts_as_long_at_every_replica(
    right: Preauth, database: TestDatabase, tmp_path: Path, off_s: int
) -> None:
    """One replica's clock is minutes off: what it armed and what others armed takes cards for its window, no longer."""
    async with running(database, tmp_path / "off", clock=MovableClock(timedelta(seconds=off_s))) as off:
        async with asyncio.timeout(10):
            while abs(off.service.clock() - right.service.clock()) > A_MOMENT:  # noqa: ASYNC110 - no event says so
                await asyncio.sleep(0.02)
        for charger in ("A", "C"):
            await right.done(ArmPairing(charge_box_id=charger, purpose="find_card"))
        for charger in ("B", "D"):
            await off.done(ArmPairing(charge_box_id=charger, purpose="find_card"))
        for one in (right, off):
            await one.drivers.pairings.expire()
        assert [await off.tap(CARD, "A"), await right.tap(CARD, "B")] == ["BLOCKED", "BLOCKED"]
        for one in (right, off):
            one.clock.ahead += timedelta(seconds=91)
        assert [await off.tap(CARD, "C"), await right.tap(CARD, "D")] == [None, None]
        rows = right.rows("SELECT reason FROM tap WHERE charge_box_id IN ('C', 'D')")
        assert [row["reason"] for row in rows] == ["expired", "expired"]


async def test_an_answer_that_was_slow_sets_no_clock(right: Preauth) -> None:
    """The database's word took so long that the clock may as well be right: it stays. One that is surely off does not.

    What a look finds is found by the clock as it was set before.
    """

    async def slow(_: Read) -> datetime:
        read = datetime.now(UTC)
        await asyncio.sleep(0.5)
        return read

    clocks = Clocks(right.service.database, instance=uuid4(), clock=lambda: datetime.now(UTC), database_time=slow)
    await clocks.look()
    assert abs(clocks.now() - datetime.now(UTC)) < timedelta(milliseconds=50)
    clocks = Clocks(right.service.database, instance=uuid4(), clock=MovableClock(-BEHIND))
    await clocks.look()
    assert abs(clocks.now() - datetime.now(UTC)) < A_MOMENT


async def test_what_one_behind_never_wrote_is_closed_in_its_time(right: Preauth) -> None:
    """A tap decided before its process knew how late its clock is: closed in its time, although all older ones were."""
    right.healthy_for(60)
    await right.until("SELECT FROM sweep WHERE swept_until > now() - interval '6 seconds'")
    await Clocks(right.service.database, instance=uuid4(), clock=MovableClock(-BEHIND)).look()
    right.run(
        "INSERT INTO tap (received_at, tap_id, charge_box_id, id_tag, kind, via, reason)"
        " VALUES (%s, %s, 'CP-7', %s, 'authorize', 'hook', 'nothing_armed')",
        datetime.now(UTC) - BEHIND,
        uuid4(),
        CARD,
    )
    # The first turn finds that somebody is behind, and goes back.
    await right.taps.sweeper.sweep()
    right.clock.ahead += timedelta(seconds=3)
    await right.taps.sweeper.sweep()
    assert right.rows("SELECT told FROM tap") == [{"told": None}]
    right.clock.ahead += timedelta(seconds=2)
    await right.until("SELECT FROM tap WHERE told = 'unknown'")
