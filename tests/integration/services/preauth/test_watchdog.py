"""Sessions that began although their card was told Blocked are stopped, where that is wanted."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from services.preauth.evidence.rules import STOP_AGAIN_AFTER
from services.preauth.evidence.watchdog import Watchdog
from shared.contracts.requests.sync import OperationOutcome
from tests.databases import TestDatabase
from tests.integration.services.preauth.happening import CP, intercepted, judge, session, stop
from tests.integration.services.preauth.sync_double import SyncDouble
from tests.integration.services.preauth.world import Preauth, running

CARD, TRANSACTION = "04A1", 7


@pytest.fixture
async def guarded(database: TestDatabase, tmp_path: Path) -> AsyncIterator[Preauth]:
    async with running(database, tmp_path, stop_ignored=True) as one:
        yield one


@pytest.fixture
def double() -> SyncDouble:
    return SyncDouble()


def watchdog(preauth: Preauth, sync: SyncDouble) -> Watchdog:
    """Turns are made by the test: the service's own part waits for a broker."""
    return Watchdog(preauth.service.database, sync, clock=preauth.clock)


async def still_open(preauth: Preauth) -> None:
    """A minute later sync, which has looked at SteVe since, knows of no end."""
    preauth.clock.ahead += timedelta(seconds=95)
    sees = SyncDouble(steve_at=preauth.clock())
    preauth.service.requester.ask = sees.ask  # type: ignore[method-assign]
    await judge(preauth)
    assert preauth.rows("SELECT outcome FROM override_outcome") == [{"outcome": "ignored"}]


async def ignored(preauth: Preauth) -> None:
    """Told Blocked, and the session is still open a minute later."""
    await intercepted(preauth, CARD)
    await session(preauth, TRANSACTION, CARD)
    await still_open(preauth)


def stops(preauth: Preauth) -> list[dict[str, Any]]:
    return preauth.rows("SELECT attempts, outcome, due_at IS NOT NULL AS due FROM session_stop")


@pytest.mark.parametrize("outcome", ["accepted", "rejected"])
async def test_what_ignored_its_blocked_is_stopped_once(
    guarded: Preauth, double: SyncDouble, outcome: OperationOutcome
) -> None:
    """The session is stopped through SteVe, by its own number; once the charger has answered, never again."""
    double.outcomes = [outcome]
    await ignored(guarded)
    for _ in range(6):
        await watchdog(guarded, double).bark()
        guarded.clock.ahead += STOP_AGAIN_AFTER[-1]
    [asked] = double.operated(CP, "RemoteStopTransaction")
    assert asked.parameters == {"transactionId": TRANSACTION}
    assert stops(guarded) == [{"attempts": 1, "outcome": outcome, "due": False}]


async def test_without_an_answer_it_is_tried_a_few_times_and_not_for_ever(guarded: Preauth, double: SyncDouble) -> None:
    """Nobody answered, not connected, failed: it is tried again after a growing while, and then left."""
    double.outcomes = [None, "not_connected", "failed", "unknown"]
    await ignored(guarded)
    keys: list[int] = []
    for pause in (*STOP_AGAIN_AFTER, STOP_AGAIN_AFTER[-1], STOP_AGAIN_AFTER[-1]):
        await watchdog(guarded, double).bark()
        # Another replica, at once: it is not due.
        await watchdog(guarded, double).bark()
        keys.append(len(double.operated(CP, "RemoteStopTransaction")))
        guarded.clock.ahead += pause
    assert keys == [1, 2, 3, 4, 4]
    assert len(set(double.keys)) == 4
    assert stops(guarded) == [{"attempts": 4, "outcome": "unknown", "due": False}]


async def test_what_has_ended_by_then_is_left_alone(guarded: Preauth, double: SyncDouble) -> None:
    """A session that ended before its turn came is not stopped; nor is one while sync cannot be asked."""
    await intercepted(guarded, CARD)
    started = await session(guarded, TRANSACTION, CARD)
    await still_open(guarded)
    double.connected = False
    await watchdog(guarded, double).bark()
    assert stops(guarded) == [{"attempts": 0, "outcome": None, "due": True}]
    double.connected = True
    await stop(guarded, started, energy_wh=100, after_s=62)
    await watchdog(guarded, double).bark()
    assert double.asked == []
    assert stops(guarded) == [{"attempts": 0, "outcome": "ended", "due": False}]


async def test_nothing_is_stopped_unless_it_is_wanted(preauth: Preauth, double: SyncDouble) -> None:
    """Without the setting what ignored its Blocked is told, and goes on."""
    await ignored(preauth)
    await watchdog(preauth, double).bark()
    assert (stops(preauth), double.asked) == ([], [])
