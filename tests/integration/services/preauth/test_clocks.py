"""Replicas whose clocks do not agree."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from services.preauth.decision.tap import MatchAnswered
from shared.contracts.requests.preauth import ArmPairing
from tests.databases import TestDatabase
from tests.integration.services.preauth.world import MovableClock, Preauth, running

CP, CARD = "CP-7", "04A1"
BEHIND = timedelta(seconds=8)


@pytest.fixture
async def right(database: TestDatabase, tmp_path: Path) -> AsyncIterator[Preauth]:
    """A replica whose clock is right, and which has closed all taps up to a few seconds ago."""
    async with running(database, tmp_path / "right") as one:
        one.taps.group.healthy_for_s = lambda: 60.0  # type: ignore[method-assign]
        await one.until("SELECT FROM sweep WHERE swept_until > now() - interval '6 seconds'", within_s=10)
        yield one


@pytest.fixture
async def behind(right: Preauth, database: TestDatabase, tmp_path: Path) -> AsyncIterator[Preauth]:
    """One that comes later, and whose clock is behind."""
    clock = MovableClock()
    clock.ahead = -BEHIND
    async with running(database, tmp_path / "behind", clock=clock) as one:
        await one.until("SELECT FROM replica_clock WHERE behind > interval '7 seconds'")
        yield one


async def test_a_fresh_scan_is_not_taken_for_an_old_one(
    right: Preauth, behind: Preauth, database: TestDatabase
) -> None:
    """A scan that the replica behind its time has not written down yet is left alone by the other: it logs in."""
    record = behind.taps.matches._record

    async def late(answered: MatchAnswered) -> None:
        # Not a lock: what holds the rows would hold the other's sweeper, too.
        await asyncio.sleep(2.5)
        await record(answered)

    behind.taps.matches._record = late  # type: ignore[method-assign]
    await right.done(ArmPairing(charge_box_id=CP, purpose="find_card"))
    assert await behind.tap(CARD, CP) == "BLOCKED"
    await right.until("SELECT FROM pairing WHERE state = 'intercepted'")
    assert right.rows("SELECT told, in_time FROM tap") == [{"told": "blocked", "in_time": True}]


async def test_what_the_one_behind_never_wrote_is_closed_in_its_time(right: Preauth, behind: Preauth) -> None:
    """A tap whose answer is never recorded is closed, although it is older than all that had been closed before."""
    at = datetime.now(UTC)
    right.run(
        "INSERT INTO tap (received_at, tap_id, charge_box_id, id_tag, kind, via, reason)"
        " VALUES (%s, %s, %s, %s, 'authorize', 'hook', 'nothing_armed')",
        behind.clock(),
        uuid4(),
        CP,
        CARD,
    )
    await right.until("SELECT FROM tap WHERE told = 'unknown'", within_s=15)
    assert datetime.now(UTC) - at >= timedelta(seconds=4.9)
