"""What follows a tap while it still waits in the spool."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from services.preauth.decision.desk import GatewayDesk
from services.preauth.decision.projections import session_started
from services.preauth.decision.spool import Spool
from services.preauth.evidence import store
from services.preauth.gateway.ports import Presented
from shared.contracts.identity import IdTag
from shared.contracts.requests.preauth import SearchTaps
from tests.databases import TestDatabase
from tests.integration.services.preauth.happening import CP, intercepted, judge, session_at, stop, turn
from tests.integration.services.preauth.world import Preauth, running
from tests.waiting import until


def desk_of(preauth: Preauth) -> GatewayDesk:
    return GatewayDesk(preauth.taps.decider, preauth.service.database, lambda: len(preauth.taps.spool) > 0)


def presented(preauth: Preauth, id_tag: str) -> Presented:
    return Presented(
        tap_id=uuid4(),
        charge_box_id=CP,
        id_tag=id_tag,
        kind="authorize",
        connector_id=None,
        at=preauth.clock(),
        remote_start=False,
    )


async def test_what_follows_a_spooled_tap_is_put_beside_it(preauth: Preauth) -> None:
    """SteVe's answer and the session are known before the tap is in the journal: there it has both."""
    taps, desk, tap = preauth.taps, desk_of(preauth), presented(preauth, "04A1")
    taps.group._connected = False
    assert not await desk.decide(tap)
    desk.told(tap, "passed", in_time=True)
    desk.answered(tap, "Accepted")
    await desk.write_answers()
    # The gateway sees it first, which does not know its whole name.
    at = preauth.clock()
    async with preauth.service.database.write() as tx:
        await session_started(
            tx,
            charge_box_id=CP,
            transaction_id=1,
            connector_id=1,
            id_tag=IdTag("04A1"),
            started_at=at,
            seen_at=at,
        )
    await session_at(preauth, 1, "04A1", at)
    assert preauth.rows("SELECT FROM tap") == []
    taps.group._connected = True
    await preauth.until("SELECT FROM tap")
    await desk.write_answers()
    [row] = (await preauth.done(SearchTaps()))["taps"]
    assert (row["reason"], row["steve_answer"]) == ("database_away", "Accepted")
    assert (row["session"], row["session_outcome"]) == ("steve:1", "began")
    assert not desk._answers


async def test_a_spooled_tap_that_ended_a_session_did_not_begin_it(preauth: Preauth) -> None:
    """It comes into the journal when its session stands beside the tap before it already: there it stays, alone."""
    assert await preauth.tap("04A1", CP) is None
    await preauth.until("SELECT FROM tap WHERE told = 'passed'")
    preauth.clock.ahead += timedelta(seconds=5)
    await session_at(preauth, 1, "04A1", preauth.clock())
    preauth.clock.ahead += timedelta(seconds=20)
    taps, desk, tap = preauth.taps, desk_of(preauth), presented(preauth, "04A1")
    taps.group._connected = False
    assert not await desk.decide(tap)
    desk.told(tap, "passed", in_time=True)
    taps.group._connected = True
    await preauth.until("SELECT FROM tap HAVING count(*) = 2")
    assert preauth.rows("SELECT session FROM tap ORDER BY received_at") == [{"session": "steve:1"}, {"session": None}]


async def test_a_session_leaves_the_tap_before_for_a_spooled_one_that_it_followed(preauth: Preauth) -> None:
    """The card was tapped twice, and the second time, after which it charged, comes into the journal late."""
    assert await preauth.tap("04A1", CP) is None
    await preauth.until("SELECT FROM tap WHERE told = 'passed'")
    preauth.clock.ahead += timedelta(seconds=5)
    taps, desk, tap = preauth.taps, desk_of(preauth), presented(preauth, "04A1")
    taps.group._connected = False
    assert not await desk.decide(tap)
    desk.told(tap, "passed", in_time=True)
    preauth.clock.ahead += timedelta(seconds=5)
    await session_at(preauth, 1, "04A1", preauth.clock())
    assert preauth.rows("SELECT session FROM tap") == [{"session": "steve:1"}]
    taps.group._connected = True
    await preauth.until("SELECT FROM tap WHERE session IS NULL")
    assert preauth.rows("SELECT session FROM tap ORDER BY received_at") == [{"session": None}, {"session": "steve:1"}]


@pytest.mark.parametrize("first", ["tap", "session"])
async def test_a_tap_and_its_session_that_come_at_once_find_each_other(
    preauth: Preauth, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """The tap comes into the journal while its session is told of, and neither sees what the other one has not
    committed: whoever is second waits, and finds the first.
    """
    taps, desk, tap = preauth.taps, desk_of(preauth), presented(preauth, "04A1")
    taps.group._connected = False
    assert not await desk.decide(tap)
    desk.told(tap, "passed", in_time=True)
    looked, go_on = asyncio.Event(), asyncio.Event()

    def waits(look: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        async def look_and_wait(*given: Any, **named: Any) -> None:  # noqa: ANN401 - what the look takes
            await look(*given, **named)
            looked.set()
            await go_on.wait()

        return look_and_wait

    look = "note_sessions_of" if first == "tap" else "note_session"
    monkeypatch.setattr(store, look, waits(getattr(store, look)))
    session = partial(session_at, preauth, 1, "04A1", preauth.clock())
    async with asyncio.TaskGroup() as both:
        if first == "tap":
            taps.group._connected = True
            await looked.wait()
            second: asyncio.Task[Any] = both.create_task(session())
        else:
            both.create_task(session())
            await looked.wait()
            taps.group._connected = True
            second = both.create_task(preauth.until("SELECT FROM tap"))
        # It waits now, or is through.
        await asyncio.wait([second], timeout=1)
        go_on.set()
    await preauth.until("SELECT FROM tap WHERE session = 'steve:1'")


async def test_nobody_is_accused_while_what_explains_it_waits_in_the_spool(preauth: Preauth) -> None:
    """After the scan the card was let through while the database was away, and charged: first its tap is awaited."""
    await intercepted(preauth)
    preauth.clock.ahead += timedelta(seconds=12)
    taps, desk, tap = preauth.taps, desk_of(preauth), presented(preauth, "04A1")
    taps.group._connected = False
    assert not await desk.decide(tap)
    desk.told(tap, "passed", in_time=True)
    started = await session_at(preauth, 1, "04A1", preauth.clock())
    await stop(preauth, started, energy_wh=700, after_s=20)
    await judge(preauth)
    taps.group._connected = True
    await judge(preauth)
    assert preauth.rows("SELECT outcome FROM override_outcome") == []
    await preauth.until("SELECT FROM tap HAVING count(*) = 2")
    # Another process may still have one in its spool.
    taps.group._healthy_since = time.monotonic()
    await turn(preauth)
    assert preauth.rows("SELECT outcome FROM override_outcome") == []
    # A group that is written on a busy machine just then is the end of an outage once more.
    async with asyncio.timeout(10):
        while not preauth.rows("SELECT FROM override_outcome"):
            await judge(preauth)
    assert preauth.rows("SELECT outcome FROM override_outcome") == [{"outcome": "explained"}]


@pytest.mark.parametrize("written", ["while it waits", "before"])
async def test_an_answer_finds_its_tap_where_the_hook_wrote_it_down(preauth: Preauth, written: str) -> None:
    """One tap through both ways, of which the hook's call came into the journal before the gateway's, because that
    waited in the spool, or was slow: what SteVe answered stands beside it, and beside no other.
    """
    taps, desk, tap = preauth.taps, desk_of(preauth), presented(preauth, "04a1")
    # The other charger's is nearer in time.
    if written == "before":
        await preauth.tap("04A1", CP)
        await preauth.tap("04A1", "CP-8")
    taps.group._connected = written == "before"
    assert not await desk.decide(tap)
    taps.group._connected = True
    if written == "while it waits":
        assert len(taps.spool)
        await preauth.tap("04A1", "CP-8")
        await preauth.tap("04A1", CP)
    desk.told(tap, "passed", in_time=True)
    desk.answered(tap, "Invalid")
    await desk.write_answers()
    await preauth.until("SELECT FROM tap WHERE charge_box_id = %s AND also_via = 'gateway'", CP)
    await desk.write_answers()
    rows = {row["charge_box_id"]: row for row in (await preauth.done(SearchTaps()))["taps"]}
    assert (rows[CP]["via"], rows[CP]["steve_answer"]) == ("hook", "Invalid")
    assert rows["CP-8"]["steve_answer"] is None
    assert not desk._answers


async def test_a_spool_that_cannot_be_used_is_told_before_it_is_needed(database: TestDatabase, tmp_path: Path) -> None:
    """Its folder cannot be made: the service decides taps, and is not ready, until somebody has seen to it."""
    in_the_way = tmp_path / "spool"
    in_the_way.write_text("a file where the folder should be")
    async with running(database, tmp_path) as preauth:

        async def complains() -> bool:
            return (await preauth.service.checks["spool"]() or "").startswith("the spool cannot be used: ")

        async def is_content() -> bool:
            return await preauth.service.checks["spool"]() is None

        await until(complains)
        assert await preauth.tap("04A1", CP) is None
        await preauth.until("SELECT FROM tap WHERE told = 'passed'")
        in_the_way.unlink()
        await until(is_content)
        [file] = in_the_way.iterdir()
        # It is there and held before the first outage, and nobody else's to adopt.
        assert Spool(in_the_way, name="other", max_bytes=1).adopt() == 0
        file.unlink()

        async def is_there_again() -> bool:
            return [*in_the_way.iterdir()] == [file]

        await until(is_there_again)
    assert list(in_the_way.iterdir()) == []


async def test_pages_need_no_spool(database: TestDatabase, tmp_path: Path) -> None:
    """A process that decides no taps is ready though its spool's folder cannot be made."""
    (tmp_path / "spool").write_text("a file where the folder should be")
    async with running(database, tmp_path, serve="pages") as preauth:

        async def is_tried() -> bool:
            return (preauth.taps.spool.problem or "").startswith("the spool cannot be used: ")

        await until(is_tried)
        found = [await check() for check in preauth.service.checks.values()]
        assert not [problem for problem in found if "spool" in (problem or "")]
