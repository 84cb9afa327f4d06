"""Decided is not told: what becomes of a tap whose answer came late, or was never recorded."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from msgspec.structs import replace

from services.preauth.decision.group import OPTIONS
from services.preauth.decision.rules import Reason
from services.preauth.decision.statement import Decided, Waiting, Windows, flush, flush_sql
from services.preauth.decision.tap import Tap
from shared.contracts.events.preauth import Told
from shared.runtime.tracing import continued, current_traceparent
from tests.databases import TestDatabase, locked
from tests.integration.services.preauth.telling import CP, HASTY, a_tap, arm, decider_of
from tests.integration.services.preauth.world import Preauth, running


@pytest.fixture
async def hasty(database: TestDatabase, tmp_path: Path) -> AsyncIterator[Preauth]:
    """One with deadlines nearly as in production."""
    async with running(database, tmp_path, **HASTY) as one:
        yield one


def assert_told_void(preauth: Preauth) -> None:
    """Whoever follows events hears that the scan does not wait any more, once."""
    [armed], [over] = preauth.events("pairing.armed"), preauth.events("pairing.cancelled")
    assert over["data"]["why"] == "void"
    assert (over["subject"], over["correlationid"]) == (armed["subject"], armed["correlationid"])
    assert over["actorkind"] == "system"


@pytest.mark.parametrize("told", ["passed", "unknown"])
async def test_a_match_that_was_not_told_blocked_is_void(preauth: Preauth, told: Told) -> None:
    """Decided Blocked, but told something else: the pairing is void, nothing was scanned, and the row says so."""
    await arm(preauth)
    decider = decider_of(preauth)
    decision = await decider.decide(a_tap())
    assert decider.may_block(decision)
    decider.told(decision, told)
    await preauth.until("SELECT 1 FROM pairing WHERE state = 'void'")
    [row] = preauth.rows("SELECT reason, told, in_time FROM tap")
    assert row == {"reason": "matched", "told": told, "in_time": False}
    assert preauth.events("scan.intercepted") == []
    assert preauth.events("tap.decided")[0]["data"]["told"] == told
    assert_told_void(preauth)
    # Nothing was taken, and the next taps are not told that something was. Within two seconds it would be the same tap.
    preauth.clock.ahead += timedelta(seconds=3)
    for card in ("04A1", "04B2"):
        assert await preauth.tap(card, CP) is None
    assert [tap["reason"] for tap in preauth.rows("SELECT reason FROM tap ORDER BY received_at OFFSET 1")] == [
        "scan_void",
        "scan_void",
    ]


async def test_blocked_may_not_be_told_late(hasty: Preauth) -> None:
    """After its time Blocked may not be told any more; told all the same, it makes no scan."""
    preauth = hasty
    await arm(preauth)
    decider = decider_of(preauth)
    decided = await decider.decide(a_tap())
    # The deadline counts from the moment the call came in.
    decision = replace(decided, tap=replace(decided.tap, arrived=time.monotonic() - 1))
    assert not decider.may_block(decision)
    decider.told(decision, "blocked")
    await preauth.until("SELECT 1 FROM pairing WHERE state = 'void'")
    assert preauth.rows("SELECT in_time FROM tap")[0]["in_time"] is False
    assert preauth.events("scan.intercepted") == []


async def test_an_answer_that_was_never_recorded_is_closed_as_unknown(preauth: Preauth) -> None:
    """A row without an answer (the process was killed in between) is closed after five seconds and logs nobody in."""
    await arm(preauth)
    decision = await decider_of(preauth).decide(a_tap())
    assert decision.block
    preauth.healthy_for(5)
    preauth.clock.ahead += timedelta(seconds=2)
    assert await preauth.taps.sweeper.sweep() == 0
    # The first seconds after an outage are for those that write down what they told.
    preauth.healthy_for(0)
    preauth.clock.ahead += timedelta(seconds=3.1)
    assert await preauth.taps.sweeper.sweep() == 0
    assert preauth.rows("SELECT told FROM tap") == [{"told": None}]
    preauth.healthy_for(5)
    [row] = await preauth.until("SELECT told, in_time FROM tap WHERE told IS NOT NULL")
    assert row == {"told": "unknown", "in_time": False}
    assert preauth.rows("SELECT state FROM pairing") == [{"state": "void"}]
    assert preauth.events("scan.intercepted") == []
    assert preauth.events("tap.decided")[0]["data"]["told"] == "unknown"
    assert_told_void(preauth)
    # Too late now: the first word counts.
    decider_of(preauth).told(decision, "blocked")
    await asyncio.sleep(0.2)
    assert preauth.rows("SELECT told FROM tap") == [{"told": "unknown"}]
    assert preauth.events("scan.intercepted") == []


@pytest.mark.parametrize("waits_s", [1, 60])
async def test_the_sweep_goes_on_while_answers_wait_to_be_written(
    preauth: Preauth, monkeypatch: pytest.MonkeyPatch, waits_s: int
) -> None:
    """At any moment of a busy day some do. Only what waits longer than a row may stay open holds the sweep, and there:
    else each turn would read all taps since the last quiet moment.
    """
    waits = timedelta(seconds=waits_s)
    monkeypatch.setattr(preauth.taps.group, "pending", lambda: {uuid4(): preauth.clock() - waits})
    preauth.healthy_for(60)
    await preauth.taps.sweeper.sweep()
    await preauth.until("SELECT FROM sweep WHERE swept_until > '2001-01-01'")
    [row] = preauth.rows("SELECT swept_until FROM sweep")
    swept_until = preauth.clock() - max(waits, timedelta(seconds=5))
    assert abs(row["swept_until"] - swept_until) < timedelta(seconds=3)


async def test_a_row_is_closed_while_the_database_stumbles(preauth: Preauth) -> None:
    """Every second a statement takes too long to wait for: what a killed process left open is closed all the same."""
    await arm(preauth)
    assert (await decider_of(preauth).decide(a_tap())).block
    preauth.clock.ahead += timedelta(seconds=5)
    # It stumbles twice until then.
    preauth.healthy_for(3)

    async def stumble() -> None:
        while True:
            async with locked(preauth.database, b"preauth.tap"):
                tap = asyncio.create_task(preauth.tap("04B2", "other"))
                await asyncio.sleep(0.25)
            await tap
            await asyncio.sleep(0.5)

    stumbling = asyncio.create_task(stumble())
    try:
        await preauth.until("SELECT FROM pairing WHERE state = 'void'", within_s=12)
    finally:
        stumbling.cancel()


async def test_a_commit_after_the_deadline_is_void(hasty: Preauth) -> None:
    """The statement is held up past the deadline: null is told, and when it commits after all, the match is void."""
    preauth = hasty
    await arm(preauth)
    async with locked(preauth.database, b"preauth.tap"):
        started = time.monotonic()
        assert await preauth.tap("04A1", CP) is None
        assert time.monotonic() - started < 0.5
    await preauth.until("SELECT 1 FROM pairing WHERE state = 'void'")
    [row] = await preauth.until("SELECT reason, told, in_time FROM tap WHERE told IS NOT NULL")
    assert row == {"reason": "matched", "told": "passed", "in_time": False}
    assert preauth.events("scan.intercepted") == []
    assert len(preauth.events("tap.decided")) == 1
    assert_told_void(preauth)


async def test_one_row_that_the_database_refuses_spoils_no_other(preauth: Preauth) -> None:
    """A tap that the database will not have passes; those that came with it are decided."""
    decider = decider_of(preauth)
    await arm(preauth, "good")
    bad = Tap("04A1", CP, "authorize", "gateway", time.monotonic(), connector_id=2**40)
    first, second = await asyncio.gather(decider.decide(bad), decider.decide(a_tap(charger="good")))
    assert (first.block, second.block) == (False, True)
    decider.told(second, "blocked")
    await preauth.until("SELECT 1 FROM pairing WHERE state = 'intercepted'")


async def test_an_answer_that_the_database_refuses_holds_no_later_tap_back(preauth: Preauth) -> None:
    """What was told cannot be written: the card's next tap is decided all the same, without waiting for it."""
    decider = decider_of(preauth)
    decision = await decider.decide(a_tap())
    decider.told(decision, "nonsense")  # type: ignore[arg-type]
    again = await decider.decide(a_tap())
    assert again.reason is Reason.NOTHING_ARMED


async def test_an_answer_that_met_a_lock_is_written_later(preauth: Preauth, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group was refused for a row in it, and then each alone met a lock: what was told is not given up."""
    decider = decider_of(preauth)
    decision = await decider.decide(a_tap())
    refusals: list[psycopg.Error] = [psycopg.errors.NumericValueOutOfRange(), psycopg.errors.LockNotAvailable()]

    async def refused(*given: Any) -> list[Decided]:  # noqa: ANN401 - what `flush` takes
        if given[3] and refusals:
            raise refusals.pop(0)
        return await flush(*given)

    monkeypatch.setattr("services.preauth.decision.statement.flush", refused)
    decider.told(decision, "passed")
    await preauth.until("SELECT FROM tap WHERE told = 'passed'")
    assert refusals == []


async def test_an_answer_that_is_never_told_holds_later_taps_back_for_a_while_only(
    preauth: Preauth, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asked is gone without a word: after a while the card's taps there are decided again."""
    decider = decider_of(preauth)
    await decider.decide(a_tap())
    waiting = a_tap()
    waiting = replace(waiting, arrived=waiting.arrived - 2.3)
    assert (await decider.decide(waiting)).reason is Reason.DATABASE_SLOW
    monkeypatch.setattr("services.preauth.decision.decider.OPEN_FOR_S", 0.1)
    assert (await decider.decide(a_tap())).reason is Reason.NOTHING_ARMED


async def test_a_tap_that_came_before_the_scan_was_armed_is_not_its(preauth: Preauth) -> None:
    """A card presented just before somebody armed, and decided just after, charges; the next one is the scan's."""
    before = preauth.clock()
    await arm(preauth)
    async with await psycopg.AsyncConnection.connect(
        preauth.database.url("preauth").replace("+psycopg", ""), autocommit=True, options=OPTIONS
    ) as connection:
        early = Waiting(a_tap("04A1"), uuid4(), before, stale=False)
        [decided] = await flush(connection, flush_sql(Windows()), [early], [])
    assert decided.reason == "nothing_armed"
    assert await preauth.tap("04B2", CP) == "BLOCKED"


async def test_a_taps_event_carries_the_trace_that_the_taps_id_names(preauth: Preauth) -> None:
    """Whoever handles the event goes on in that trace, and an operator finds it by the tap."""
    await preauth.tap("04A1", CP)
    [row] = await preauth.until("SELECT traceparent FROM outbox WHERE routing_key = 'tap.decided'")
    [tap] = preauth.rows("SELECT tap_id FROM tap")
    trace = tap["tap_id"].hex
    assert row["traceparent"] == f"00-{trace}-{trace[16:]}-01"
    with continued(row["traceparent"]):
        assert current_traceparent() == row["traceparent"]
