"""What is looked for in SteVe, and when: sweeps that make way, and sessions that a charger has just told about."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from deploy.demo.steve.settings import SteveSettings, SteveVersion
from services.sync.runs import runner
from services.sync.sessions.events import ChargerHints
from services.sync.steve.client import MOST_PKS
from shared.bus.topology import SUBSCRIPTIONS
from shared.contracts.event import Envelope
from shared.contracts.events.preauth import ChargerSessionStarted, ChargerSessionStopped, TapDecided
from shared.contracts.requests.sync_work import ListRuns, StartRun
from shared.runtime.clock import uuid7
from tests.integration.services.sync.conftest import ADA, Build, World, ago, eventually

TRANSACTIONS = "/steve/api/v1/transactions"


async def swept(world: World) -> bool:
    """Whether a sweep is through, of all that there were."""
    [row] = await world.rows("SELECT swept_at FROM sync.run_schedule")
    return bool(world.clock() - row.swept_at < timedelta(hours=1))


def correct(world: World, pk: int, wh: int) -> None:
    """Change a stop in SteVe that was final."""
    one = world.steve.state.transactions[pk]
    one.stops[0].value = str(int(one.start_value) + wh)


async def test_no_look_asks_for_more_than_steve_takes_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest page has room for the transaction that is checked along with it, and nothing in it is left out."""
    await world.link("A")
    pks = [world.charge("A", 1_000).pk for _ in range(3)]
    await world.rooms.runner.turn()
    sizes: list[int] = []
    real = world.rooms.poller._steve.transactions

    async def counted(asked: Sequence[int], *, urgent: bool = False) -> list[Any]:
        sizes.append(len(asked))
        return await real(asked, urgent=urgent)

    monkeypatch.setattr(world.rooms.poller._steve, "transactions", counted)
    world.steve.state.skip_transaction_pks(MOST_PKS - 2)
    last = world.charge("A", 1_000).pk
    assert last == pks[-1] + MOST_PKS - 1
    await world.rooms.poller.poll()
    assert max(sizes) == MOST_PKS
    assert (await world.session(last)).transaction_pk == last


@pytest.mark.parametrize("followed", [False, True])
async def test_a_jump_just_past_the_largest_look_is_seen(world: World, followed: bool) -> None:  # noqa: FBT001
    """The first id that a look does not reach is one that was jumped to, whether it stands alone or before others."""
    await world.link("A")
    before = world.charge("A", 1_000).pk
    await world.rooms.poller.poll()
    world.steve.state.skip_transaction_pks(MOST_PKS - 1)
    pks = [world.charge("A", 1_000 if followed else None).pk]
    if followed:
        pks.append(world.charge("A", None).pk)
    assert pks[0] == before + MOST_PKS
    world.clock.advance(seconds=31)
    await world.rooms.poller.poll()
    rows = await world.rows("SELECT transaction_pk FROM sync.session ORDER BY 1")
    assert [row.transaction_pk for row in rows] == [before, *pks]


async def test_a_first_look_reaches_what_stands_just_past_it(world: World) -> None:
    """All before it was deleted, and it is the only one: with no id to go on from, SteVe is asked for its highest."""
    await world.link("A")
    world.steve.state.skip_transaction_pks(MOST_PKS - 1)
    pk = world.charge("A", 1_000).pk
    assert pk == MOST_PKS
    await world.rooms.poller.poll()
    assert [row.transaction_pk for row in await world.rows("SELECT transaction_pk FROM sync.session")] == [pk]


async def test_a_sweep_makes_way(build_world: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep goes on in slices, one a turn: what happens meanwhile is seen by each of them, and at the end all of the
    past was read.
    """
    monkeypatch.setattr(runner, "SWEEP_SLICE_S", 0.0)
    world = await build_world(page_size=10)
    await world.link("A")
    for _ in range(35):
        world.charge("A", 1_000)
    await world.rooms.runner.turn()
    correct(world, 2, 2_000)
    correct(world, 34, 3_000)
    world.clock.advance(hours=7)
    slices = 0
    while not await swept(world):
        box, start_at = f"B{slices}", world.clock() - timedelta(minutes=6)
        new = world.charge("A", 10, charge_box_id=box, start_at=start_at).pk
        world.clock.advance(seconds=3)
        await world.rooms.runner.turn()
        assert await world.rows("SELECT 1 FROM sync.session WHERE transaction_pk = :pk", pk=new)
        # The next turn follows at once, until the sweep is through.
        assert (world.rooms.runner.interval_s == 0) != await swept(world)
        slices += 1
    assert slices == 4
    await world.turn()
    assert world.counted() == (35_000 + 1_000 + 2_000 + slices * 10, 35 + 2 + slices)


async def test_a_sweep_ends_its_slice_when_a_charger_tells_something(world: World) -> None:
    """A sweep of a large SteVe is left at the next page when something happened, and not after its slice."""
    await world.link("A")
    for _ in range(1_600):
        world.charge("A", 10)
    await world.rooms.runner.turn()
    world.clock.advance(hours=7)
    world.steve.faults.set("slow", 400, path=TRANSACTIONS)
    turn = asyncio.create_task(world.rooms.runner.turn())
    await asyncio.sleep(0.2)
    world.rooms.runner.hurry()
    await turn
    assert not await swept(world)
    [row] = await world.rows("SELECT sweep_pk FROM sync.session_cursor")
    assert 0 < row.sweep_pk < 1_600


async def test_a_sweep_by_hand_is_one_run_and_makes_way_too(
    build_world: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asked for a sweep gets one run that is the whole of it, and a new session is seen before it ends."""
    monkeypatch.setattr(runner, "SWEEP_SLICE_S", 0.0)
    world = await build_world(page_size=10)
    await world.link("A")
    for _ in range(60):
        world.charge("A", 1_000)
    await world.rooms.runner.turn()
    correct(world, 58, 2_000)
    async with world.service.database.write() as tx:
        await world.rooms.runs.start_run(tx, StartRun(segments=["sweep"]), ADA)
    world.steve.faults.set("slow", 150, path=TRANSACTIONS)
    turn = asyncio.create_task(world.rooms.runner.turn())
    await asyncio.sleep(0.3)
    new = world.charge("A", 10, charge_box_id="B").pk

    async def seen() -> bool:
        return bool(await world.rows("SELECT 1 FROM sync.session WHERE transaction_pk = :pk", pk=new))

    await eventually(seen)
    assert not turn.done()
    await turn
    page = await world.rooms.runs.list_runs(ListRuns(), ADA)
    assert [(one.state, one.segments) for one in page.runs if one.trigger == "operator"] == [("finished", ["sweep"])]
    assert (await world.session(58)).stop_wh - (await world.session(58)).start_wh == 2_000


def hints(world: World) -> ChargerHints:
    rooms = world.rooms
    return ChargerHints(look=rooms.runner.hurry, want=rooms.poller.want, steve_id="main", clock=world.clock)


def envelope(event: Any) -> Envelope:  # noqa: ANN401
    return Envelope(
        specversion="1.0",
        id=uuid7(),
        type=event.type,
        source="expressync/preauth",
        subject=event.subject(),
        subjectversion=1,
        time=ago(),
        dataschema=f"urn:expressync:{event.type}:1",
        actorkind="charger",
        actorid="CP-1",
        correlationid=uuid7(),
        data={},
    )


async def told_stopped(world: World, pk: int, **given: Any) -> None:  # noqa: ANN401
    """The gateway saw SteVe's answer to the stop, and the next turn is taken."""
    event = ChargerSessionStopped(
        charge_box_id="CP-1",
        transaction_id=pk,
        connector_id=1,
        id_tag="A",
        meter_stop_wh=1,
        reason=None,
        stopped_at=ago(),
        seen_at=ago(),
        **given,
    )
    async with world.service.database.write() as tx:
        await hints(world).stopped(tx, event, envelope(event))
    await world.rooms.runner.turn()


async def told_started(world: World, pk: int, verdict: str) -> None:
    event = ChargerSessionStarted(
        charge_box_id="CP-1",
        transaction_id=pk,
        connector_id=1,
        id_tag="A",
        verdict=verdict,
        meter_start_wh=0,
        started_at=ago(),
        seen_at=ago(),
    )
    async with world.service.database.write() as tx:
        await hints(world).started(tx, event, envelope(event))


async def told_tapped(world: World, at: datetime, **given: Any) -> None:  # noqa: ANN401
    """Preauth decided about a start at `at`: Blocked, and in time, unless told otherwise."""
    event = TapDecided(
        **{
            "tap_id": uuid7(),
            "charge_box_id": "CP-1",
            "connector_id": 1,
            "id_tag": "A",
            "kind": "start",
            "decision": "intercept",
            "reason": "repeated",
            "told": "blocked",
            "in_time": True,
            "duration_us": 900,
            "via": "hook",
            "tapped_at": at,
            **given,
        }
    )
    async with world.service.database.write() as tx:
        for handler in world.service.consumer.handlers(event):
            await handler(tx, event, envelope(event))


async def test_what_is_handled_is_what_is_listened_to(world: World) -> None:
    """No event that is waited for is missing in the broker's queue, and none comes there for nothing."""
    assert {event.type for event in world.service.consumer._handlers} == set(SUBSCRIPTIONS["sync"])


async def test_the_stop_of_an_old_session_is_seen_at_once(build_world: Build) -> None:
    """A session of three days is not looked at every time; when its charger says that it ended, it is, now."""
    world = await build_world(open_hours=100)
    await world.link("A")
    one = world.charge("A", None, start_at=ago(days=3))
    world.charge("A", None, charge_box_id="CP-2", start_at=ago(hours=1))
    await world.rooms.runner.turn()
    world.steve.state.stop_by_station(
        charge_box_id="CP-1", pk=one.pk, stop_at=ago(minutes=1), stop_wh=int(one.start_value) + 7_000, reason=None
    )
    world.clock.advance(seconds=3)
    await world.rooms.runner.turn()
    assert (await world.session(one.pk)).stopped_at is None
    await told_stopped(world, one.pk)
    assert world.counted() == (7_000, 1)
    # Once: it is of no more interest than others then.
    assert world.rooms.poller._wanted == set()


async def test_the_stations_own_stop_after_one_by_hand_is_seen_at_once(world: World) -> None:
    """A stop by hand is provisional: the station's replaces it as soon as its charger told of it."""
    await world.link("A")
    one = world.charge("A", None, start_at=ago(hours=3))
    await world.rooms.runner.turn()
    world.steve.state.stop_manually(one.pk)
    world.clock.advance(seconds=3)
    await world.rooms.runner.turn()
    assert (await world.session(one.pk)).stop_actor == "manual"
    world.steve.state.stop_by_station(
        charge_box_id="CP-1", pk=one.pk, stop_at=ago(minutes=1), stop_wh=int(one.start_value) + 7_000, reason=None
    )
    world.clock.advance(seconds=3)
    await told_stopped(world, one.pk)
    assert (await world.session(one.pk)).stop_actor == "station"
    assert world.counted() == (7_000, 1)


@pytest.mark.parametrize("transaction_id", [-1, 0, 2**31, 2**63])
async def test_a_stop_of_no_transaction_is_harmless(world: World, transaction_id: int) -> None:
    """A charger may name any number; SteVe is not asked about what can be none of its ids."""
    await world.rooms.runner.turn()
    world.clock.advance(seconds=3)
    await told_stopped(world, transaction_id)
    assert world.rooms.health.standing("steve").state == "ok"


async def test_a_stop_by_hand_is_not_watched_for_ever(build_world: Build) -> None:
    """The station's stop is waited for, for a week; before 3.11 each one watched is a request a minute."""
    steve = SteveSettings(auth_delay_ms=0, version=SteveVersion.parse("3.10"))
    world = await build_world(steve=steve, steve_version="3.10")
    await world.link("A")
    one = world.charge("A", None, start_at=ago(hours=3))
    world.steve.state.stop_manually(one.pk)

    async def asked() -> int:
        world.clock.advance(seconds=61)
        before = world.steve.state.requests["GET /transactions"]
        await world.rooms.poller.look_at_open(_ignored)
        return world.steve.state.requests["GET /transactions"] - before

    await world.rooms.runner.turn()
    assert await asked() == 1
    world.clock.advance(days=8)
    assert await asked() == 0


async def _ignored(*_: object) -> None:
    pass


@pytest.mark.parametrize(
    ("verdict", "blocked", "held"),
    [("Blocked", False, "blocked_start"), ("Blocked", True, "blocked_start"), ("Invalid", False, "blocked_start")],
)
async def test_what_the_gateway_heard_at_the_start_holds_the_session(
    world: World,
    verdict: str,
    blocked: bool,  # noqa: FBT001
    held: str,
) -> None:
    """SteVe's answer to a start stands in no record of SteVe's: the gateway heard it, perhaps before the session was
    seen, and a session that was refused and took energy all the same is held by its name.
    """
    await world.link("A")
    if blocked:
        tag = world.steve.state.tag("A")
        assert tag is not None
        tag.limit = 0
        await world.rooms.mirror.refresh()
    await told_started(world, 1, verdict)
    world.clock.advance(minutes=10)
    one = world.charge("A", 1_000, start_at=world.clock().replace(microsecond=0) - timedelta(minutes=8))
    await world.rooms.runner.turn()
    assert one.pk == 1
    assert (await world.session(1)).hold_reason == held
    assert world.counted() == (0, 0)


async def test_an_accepted_start_is_billed(world: World) -> None:
    """The verdict that is the rule changes nothing."""
    await world.link("A")
    await told_started(world, 1, "Accepted")
    world.charge("A", 1_000)
    await world.rooms.runner.turn()
    assert world.counted() == (1_000, 1)


@pytest.mark.parametrize(
    ("began", "tapped"),
    [
        pytest.param(timedelta(hours=2), timedelta(seconds=3), id="seen just after, by our clock"),
        pytest.param(timedelta(hours=2), timedelta(hours=2, seconds=-10), id="seen late, by the station's clock"),
    ],
)
async def test_a_start_that_preauth_had_blocked_holds_its_session(
    world: World, began: timedelta, tapped: timedelta
) -> None:
    """SteVe writes a session for a start that the hook had it refuse: one that took energy all the same is held."""
    await world.link("A")
    now = world.clock().replace(microsecond=0)
    await told_tapped(world, now - tapped)
    world.charge("A", 1_000, start_at=now - began)
    await world.rooms.runner.turn()
    assert (await world.session(1)).hold_reason == "intercepted_start"
    assert world.counted() == (0, 0)


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"after": timedelta(minutes=2)}, id="far from it by both clocks"),
        pytest.param({"after": timedelta(minutes=60, seconds=30)}, id="after the session was seen"),
        pytest.param({"told": "passed", "decision": "pass", "reason": "nothing_armed"}, id="let through"),
        pytest.param({"in_time": False}, id="too late for SteVe"),
        pytest.param({"kind": "authorize"}, id="no start"),
        pytest.param({"id_tag": "B"}, id="another card"),
        pytest.param({"charge_box_id": "CP-2"}, id="another charger"),
    ],
)
async def test_a_session_that_preauth_did_not_block_is_billed(world: World, given: dict[str, Any]) -> None:
    """Only a start of that card at that charger, at that time, that was told Blocked in time."""
    await world.link("A")
    began, given = ago(hours=1), dict(given)
    await told_tapped(world, began + given.pop("after", timedelta()), **given)
    world.charge("A", 1_000, start_at=began)
    await world.rooms.runner.turn()
    assert world.counted() == (1_000, 1)


async def test_who_was_blocked_and_tries_again_is_billed(world: World) -> None:
    """One blocked start is one session, however close to it the same card's others are."""
    await world.link("A")
    at = ago(minutes=30)
    before = world.charge("A", 500, start_at=at - timedelta(seconds=50), stop_at=at - timedelta(seconds=10))
    blocked = world.charge("A", 0, start_at=at, stop_at=at + timedelta(seconds=2))
    after = world.charge("A", 1_000, start_at=at + timedelta(seconds=15))
    await told_tapped(world, at + timedelta(seconds=1))
    await world.rooms.runner.turn()
    reasons = [(await world.session(one.pk)).hold_reason for one in (before, blocked, after)]
    assert reasons == [None, "intercepted_start", None]
    assert world.counted() == (1_500, 2)


async def test_what_was_answered_to_a_start_is_forgotten_when_the_session_is_decided(world: World) -> None:
    """After its time, and not while the session is held for it: decided again, it would pass."""
    await world.link("A")
    for pk, verdict in ((1, "Accepted"), (2, "Invalid")):
        await told_started(world, pk, verdict)
        world.charge("A", 1_000)
    await world.rooms.runner.turn()
    await world.rooms.runner.forget()
    assert len(await world.rows("SELECT 1 FROM sync.session_start_verdict")) == 2
    world.clock.advance(days=91)
    await world.rooms.runner.forget()
    kept = await world.rows("SELECT transaction_pk FROM sync.session_start_verdict")
    assert [row.transaction_pk for row in kept] == [2]


async def test_a_blocked_start_is_forgotten_when_its_session_is_decided(world: World) -> None:
    """After its time, and not while a session is held for it."""
    await world.link("A")
    for box in ("CP-1", "CP-2"):
        await told_tapped(world, ago(minutes=30), charge_box_id=box)
    world.charge("A", 1_000, start_at=ago(minutes=30))
    await world.rooms.runner.turn()
    await world.rooms.runner.forget()
    assert len(await world.rows("SELECT 1 FROM sync.session_blocked_start")) == 2
    world.clock.advance(days=91)
    await world.rooms.runner.forget()
    kept = await world.rows("SELECT charge_box_id FROM sync.session_blocked_start")
    assert [row.charge_box_id for row in kept] == ["CP-1"]
