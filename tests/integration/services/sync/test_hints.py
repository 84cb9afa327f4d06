"""Sessions that a charger, or preauth, has just told about: seen at once, and held where they were not to be billed."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from deploy.demo.steve.settings import SteveSettings, SteveVersion
from services.sync.sessions.events import ChargerHints
from shared.bus.topology import SUBSCRIPTIONS
from shared.contracts.event import Envelope
from shared.contracts.events.preauth import ChargerSessionStarted, ChargerSessionStopped, TapDecided
from shared.runtime.clock import uuid7
from tests.integration.services.sync.conftest import Build, World, ago


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
