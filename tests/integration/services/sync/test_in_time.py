"""What time does: running sessions, subscriptions that end, periods that pass while something waits."""

from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from deploy.demo.lago import LagoSettings, lifecycle
from deploy.demo.steve.model import MeterValue, Stop, StopActor, Transaction
from services.sync.ledger import progress
from shared.contracts.requests.sync_cards import UnlinkCard
from shared.contracts.requests.sync_work import ReleaseHeld, RetryHeld
from shared.database.engine import Write
from tests.integration.services.sync.conftest import ADA, LAGO_SEED, Build, World, a_replica, ago
from tests.integration.services.sync.test_held_entries import conflict

BATCH = "/api/v1/events/batch"


def read(world: World, one: Transaction, wh: int, minutes: float, unit: str = "Wh") -> None:
    """A meter value `minutes` after the start, `wh` beyond it."""
    value = int(one.start_value) + wh
    text = str(value) if unit == "Wh" else f"{value / 1000:.3f}"
    at = one.start_at + timedelta(minutes=minutes)
    reading = MeterValue(at=at, value=text, measurand="Energy.Active.Import.Register", unit=unit)
    world.steve.state.add_meter_values(one.pk, [reading])


@pytest.mark.parametrize("unit", ["Wh", "kWh"])
async def test_a_running_session_is_billed_as_it_goes(build_world: Build, unit: str) -> None:
    """By energy: each step is an entry of the chain, and the end settles the rest, exactly."""
    world = await build_world(incremental_kwh=5)
    await world.link("A")
    one = world.charge("A", None, start_at=ago(hours=2))
    read(world, one, 4_000, 10, unit)
    await world.turn()
    assert await world.rooms.progress.bill_running() == 0
    read(world, one, 6_000, 20, unit)
    assert await world.rooms.progress.bill_running() == 1
    assert await world.rooms.progress.bill_running() == 0
    read(world, one, 13_000, 40, unit)
    assert await world.rooms.progress.bill_running() == 1
    await world.turn()
    assert world.counted() == (13_000, 2)
    assert (await world.session(one.pk)).billing == "open"
    world.steve.state.stop_by_station(
        charge_box_id="CP-1", pk=one.pk, stop_at=ago(hours=1), stop_wh=int(one.start_value) + 13_400, reason=None
    )
    await world.turn()
    assert world.counted() == (13_400, 3)
    assert [row.final for row in await world.entries(one.pk)] == [False, False, True]
    assert (await world.session(one.pk)).billing == "synced"


async def test_steps_survive_a_restart(build_world: Build) -> None:
    """By time: another process goes on where the first one was, and bills nothing twice."""
    world = await build_world(incremental_minutes=15)
    await world.link("A")
    one = world.charge("A", None, start_at=ago(hours=2))
    read(world, one, 3_000, 16)
    await world.turn()
    assert await world.rooms.progress.bill_running() == 1
    async with AsyncExitStack() as stack:
        _, second = await a_replica(stack, world.settings, world.clock)
        assert await second.progress.bill_running() == 0
        read(world, one, 5_000, 25)
        assert await second.progress.bill_running() == 0
        read(world, one, 7_000, 33)
        assert await second.progress.bill_running() == 1
        await world.turn(second)
    assert world.counted() == (7_000, 2)


async def test_a_reading_that_another_replica_was_faster_with_takes_nothing_back(build_world: Build) -> None:
    """Two replicas read the meter one after the other, and the older reading arrives last: no step, and none back."""
    world = await build_world(incremental_kwh=1)
    await world.link("A")
    one = world.charge("A", None, start_at=ago(hours=2))
    await world.turn()
    start, at = int(one.start_value), one.start_at
    bill = world.rooms.settler.bill_reading
    assert await bill("main", one.pk, start + 7_000, at + timedelta(minutes=30)) == 1
    assert await bill("main", one.pk, start + 6_000, at + timedelta(minutes=25)) == 0
    await world.turn()
    assert world.counted() == (7_000, 1)


async def test_every_running_session_has_its_turn(build_world: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """More run than are looked at in one turn: the next turn goes on where this one ended."""
    monkeypatch.setattr(progress, "MOST", 2)
    world = await build_world(incremental_kwh=1)
    await world.link("A")
    running = [world.charge("A", None, start_at=ago(hours=2), charge_box_id=f"CP-{box}") for box in range(5)]
    await world.turn()
    for one in running:
        read(world, one, 2_000, 10)
    assert [await world.rooms.progress.bill_running() for _ in range(3)] == [2, 2, 1]
    for one in running:
        read(world, one, 4_000, 20)
    assert await world.rooms.progress.bill_running() == 2


async def test_a_stop_that_makes_no_sense_is_held_also_after_steps(build_world: Build) -> None:
    """A running session was billed in part, and then stops with an impossible reading: the rest is held."""
    world = await build_world(incremental_kwh=1)
    await world.link("A")
    one = world.charge("A", None, start_at=ago(hours=2))
    read(world, one, 2_000, 10)
    await world.turn()
    await world.rooms.progress.bill_running()
    world.steve.state.stop_by_station(
        charge_box_id="CP-1", pk=one.pk, stop_at=ago(hours=1), stop_wh=99_000_000, reason=None
    )
    await world.turn()
    assert (await world.session(one.pk)).hold_reason == "too_much_energy"
    assert world.counted() == (2_000, 1)


async def test_what_was_billed_in_a_closed_period_is_not_taken_back(build_world: Build) -> None:
    """Billed in the last period and less used by this one's stop: it is held, not taken off other use."""
    plans = [{**LAGO_SEED["plans"][0], "interval": "weekly"}]
    subscription = {**LAGO_SEED["subscriptions"][0], "started_at": ago(days=100).isoformat()}
    world = await build_world(lago=LagoSettings(seed={**LAGO_SEED, "plans": plans, "subscriptions": [subscription]}))
    await world.link("A")
    one = world.charge("A", 9_000, start_at=ago(minutes=30), stop_actor=StopActor.MANUAL)
    await world.turn()
    world.clock.advance(days=8)
    now = world.clock().replace(microsecond=0)
    value = str(int(one.stops[0].value) - 600)
    world.steve.state.add_stop(one.pk, Stop(at=now, value=value, reason="Local", actor=StopActor.STATION))
    await world.turn()
    row = await world.session(one.pk)
    assert (row.billing, row.hold_reason) == ("held", "needs_credit_note")
    assert len(await world.entries(one.pk)) == 1


async def test_a_link_ends_with_its_subscription(world: World) -> None:
    """When Lago ended the subscription, the link ends then, and Lago's silence ends none."""
    await world.link("A")
    await world.link("B", "cus_bob", "sub_bob")
    lifecycle.terminate(world.lago.state, "sub_ada")
    world.clock.advance(minutes=1)
    world.lago.faults.add("down")
    assert await world.rooms.follow.follow() == 0
    world.lago.faults.clear()
    world.rooms.lago._caller._breaker.succeeded()
    assert await world.rooms.follow.follow() == 1
    [link] = await world.rows(
        "SELECT valid_to FROM sync.link WHERE external_subscription_id = 'sub_ada' AND valid_to IS NOT NULL"
    )
    assert world.clock() - link.valid_to < timedelta(minutes=15)
    [open_link] = await world.rows("SELECT external_subscription_id FROM sync.link WHERE valid_to IS NULL")
    assert open_link.external_subscription_id == "sub_bob"
    [event] = await world.events("card.unlinked")
    assert (event.actorkind, event.actorid) == ("upstream", "lago")


async def test_a_link_with_an_end_to_come_ends_with_its_subscription(world: World) -> None:
    """Sooner than it was to end: then the card is its parent's again."""
    await world.link("PARENT", "cus_bob", "sub_bob")
    world.steve.state.add_tag("A", parent_id_tag="PARENT")
    await world.link("A")
    end = world.clock() + timedelta(days=20)
    async with world.service.database.write() as tx:
        await world.rooms.links.unlink_card(tx, UnlinkCard(id_tag="A", valid_to=end), ADA)
    world.clock.advance(minutes=1)
    lifecycle.terminate(world.lago.state, "sub_ada")
    world.clock.advance(minutes=10)
    assert await world.rooms.follow.follow() == 1
    assert await world.rooms.follow.follow() == 0
    pk = world.charge("A", 4_000, start_at=world.clock().replace(microsecond=0)).pk
    world.clock.advance(minutes=10)
    await world.turn()
    assert (await world.session(pk)).owner_customer == "cus_bob"
    assert world.counted("sub_bob") == (4_000, 1)


async def test_a_link_that_two_replicas_end_ends_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes second to the card finds its link ended, and writes down no change of its own."""
    await world.link("A")
    lifecycle.terminate(world.lago.state, "sub_ada")
    world.clock.advance(minutes=1)
    take, others = world.rooms.follow._cards.take, []

    async def later(tx: Write, id_tag: str) -> Any:  # noqa: ANN401 - a row of card
        monkeypatch.undo()
        others.append(await world.rooms.follow.follow())
        return await take(tx, id_tag)

    monkeypatch.setattr(world.rooms.follow._cards, "take", later)
    assert (await world.rooms.follow.follow(), others) == (0, [1])
    changes = await world.rows("SELECT kind FROM sync.card_change ORDER BY changed_at")
    assert [one.kind for one in changes] == ["link", "unlink"]
    assert len(await world.events("card.unlinked")) == 1


@pytest.mark.parametrize("how", ["canceled", "deleted"])
async def test_a_link_ends_when_lago_has_its_subscription_no_longer(world: World, how: str) -> None:
    """Canceled, or deleted with its customer: said once it ends nothing, said again it ends then. One that is to come
    is there.
    """
    await world.link("A")
    await world.link("B", "cus_bob", "sub_bob")
    state = world.lago.state
    gone, to_come = state.find_subscription("sub_ada"), state.find_subscription("sub_bob")
    assert gone is not None
    assert to_come is not None
    to_come.status = "pending"
    if how == "canceled":
        gone.status = "canceled"
    else:
        state._by_external_id.pop("sub_ada")
    first = world.clock()
    world.clock.advance(minutes=11)
    assert await world.rooms.follow.follow() == 0
    world.clock.advance(minutes=11)
    assert await world.rooms.follow.follow() == 1
    ended = await world.rows("SELECT external_subscription_id, valid_to FROM sync.link WHERE valid_to IS NOT NULL")
    assert [one.external_subscription_id for one in ended] == ["sub_ada"]
    assert timedelta(minutes=10) < ended[0].valid_to - first < timedelta(minutes=12)


async def test_what_comes_just_after_the_end_of_its_period_is_late(build_world: Build) -> None:
    """Made a minute before the period ended and not delivered until after: Lago would not bill it, so it is held, and a
    retry does not send it either, however fresh what Lago said of the period is.
    """
    plans = [{**LAGO_SEED["plans"][0], "interval": "weekly"}]
    subscription = {**LAGO_SEED["subscriptions"][0], "started_at": ago(days=100).isoformat()}
    world = await build_world(lago=LagoSettings(seed={**LAGO_SEED, "plans": plans, "subscriptions": [subscription]}))
    await world.link("A")
    lago = world.lago.state.find_subscription("sub_ada")
    assert lago is not None
    period_to = datetime.fromtimestamp(world.lago.state.current_period(lago).to_us / 1_000_000, UTC)
    world.clock.advance(seconds=(period_to - world.clock()).total_seconds() - 60)
    end = world.clock().replace(microsecond=0)
    pk = world.charge("A", 4_000, start_at=end - timedelta(minutes=5), stop_at=end).pk
    world.lago.faults.add("drop_before", path=BATCH, count=1)
    await world.turn()
    assert len(await world.entries(pk)) == 1
    world.clock.advance(minutes=2)
    world.rooms.lago._caller._breaker.succeeded()
    await world.rooms.delivery.deliver()
    row = await world.session(pk)
    assert (row.billing, row.hold_reason) == ("held", "late")
    async with world.service.database.write() as tx:
        await world.rooms.held.retry_held(tx, RetryHeld(everything=True), ADA)
    await world.rooms.delivery.deliver()
    row = await world.session(pk)
    assert (row.billing, row.hold_reason) == ("held", "late")
    assert world.lago.requests.count("POST", BATCH) == 1


async def test_an_event_waits_until_lago_says_whether_its_period_is_over(build_world: Build) -> None:
    """Silence about the subscription is no permission to send."""
    plans = [{**LAGO_SEED["plans"][0], "interval": "weekly"}]
    subscription = {**LAGO_SEED["subscriptions"][0], "started_at": ago(days=100).isoformat()}
    world = await build_world(lago=LagoSettings(seed={**LAGO_SEED, "plans": plans, "subscriptions": [subscription]}))
    await world.link("A")
    pk = world.charge("A", 4_000, start_at=ago(minutes=30)).pk
    world.lago.faults.add("drop_before", path=BATCH, count=1)
    await world.turn()
    world.clock.advance(days=8)
    world.lago.faults.add("http_503", path="/api/v1/subscriptions")
    world.rooms.lago._caller._breaker.succeeded()
    await world.rooms.delivery.deliver()
    assert [one.state for one in await world.entries(pk)] == ["sending"]
    assert world.lago.requests.count("POST", BATCH) == 1


@pytest.mark.parametrize("minutes", [5, 60])
async def test_what_waited_past_the_end_of_its_subscription_is_held(world: World, minutes: int) -> None:
    """The subscription ended and was invoiced while the event waited, be it in a short outage: held by that name, and
    no retry sends it.
    """
    await world.link("A")
    pk = world.charge("A", 4_000, start_at=ago(minutes=30)).pk
    world.lago.faults.add("drop_before", path=BATCH, count=1)
    await world.turn()
    lifecycle.terminate(world.lago.state, "sub_ada")
    world.clock.advance(minutes=minutes)
    world.rooms.lago._caller._breaker.succeeded()
    await world.rooms.delivery.deliver()
    assert (await world.session(pk)).hold_reason == "subscription_invoiced"
    async with world.service.database.write() as tx:
        await world.rooms.held.retry_held(tx, RetryHeld(everything=True), ADA)
    await world.turn()
    assert (await world.session(pk)).hold_reason == "subscription_invoiced"
    assert world.lago.requests.count("POST", BATCH) == 1


async def test_what_became_late_while_it_waited_is_held_and_can_be_billed_anew(build_world: Build) -> None:
    """An event that never reached Lago before its period ended is not sent into it; released, it is billed once."""
    plans = [{**LAGO_SEED["plans"][0], "interval": "weekly"}]
    subscription = {**LAGO_SEED["subscriptions"][0], "started_at": ago(days=100).isoformat()}
    world = await build_world(lago=LagoSettings(seed={**LAGO_SEED, "plans": plans, "subscriptions": [subscription]}))
    await world.link("A")
    pk = world.charge("A", 4_000, start_at=ago(minutes=30)).pk
    world.lago.faults.add("drop_before", path=BATCH, count=1)
    await world.turn()
    [before] = await world.entries(pk)
    world.clock.advance(days=8)
    world.rooms.lago._caller._breaker.succeeded()
    await world.rooms.delivery.deliver()
    row = await world.session(pk)
    assert (row.billing, row.hold_reason) == ("held", "late")
    assert world.counted() == (0, 0)
    async with world.service.database.write() as tx:
        changed = await world.rooms.held.release_held(tx, ReleaseHeld(sessions=[f"main:{pk}"]), ADA)
    assert changed.sessions == [f"main:{pk}"]
    await world.turn()
    assert world.counted() == (4_000, 1)
    [after] = await world.entries(pk)
    assert after.usage_event_id == before.usage_event_id
    assert after.timestamp > before.timestamp


async def test_what_reached_lago_in_time_is_not_late(build_world: Build) -> None:
    """Its answer was lost and its period ended meanwhile: it is found there, and nothing is billed again."""
    plans = [{**LAGO_SEED["plans"][0], "interval": "weekly"}]
    subscription = {**LAGO_SEED["subscriptions"][0], "started_at": ago(days=100).isoformat()}
    world = await build_world(lago=LagoSettings(seed={**LAGO_SEED, "plans": plans, "subscriptions": [subscription]}))
    await world.link("A")
    pk = world.charge("A", 4_000, start_at=ago(minutes=30)).pk
    world.lago.faults.add("drop_after_commit", path=BATCH, count=1)
    await world.turn()
    world.clock.advance(days=8)
    world.rooms.lago._caller._breaker.succeeded()
    await world.rooms.delivery.deliver()
    assert (await world.session(pk)).billing == "synced"
    assert world.counted() == (4_000, 1)


async def test_what_lago_has_by_now_is_not_made_anew(build_world: Build) -> None:
    """An attempt that nobody heard of brought a late entry to Lago after all: under its id no other one is made."""
    plans = [{**LAGO_SEED["plans"][0], "interval": "weekly"}]
    subscription = {**LAGO_SEED["subscriptions"][0], "started_at": ago(days=100).isoformat()}
    world = await build_world(lago=LagoSettings(seed={**LAGO_SEED, "plans": plans, "subscriptions": [subscription]}))
    await world.link("A")
    pk = world.charge("A", 4_000, start_at=ago(minutes=30)).pk
    world.lago.faults.add("drop_before", path=BATCH, count=1)
    await world.turn()
    [before] = await world.entries(pk)
    world.clock.advance(days=8)
    world.rooms.lago._caller._breaker.succeeded()
    await world.rooms.delivery.deliver()
    assert (await world.session(pk)).hold_reason == "late"
    conflict(world, pk)
    async with world.service.database.write() as tx:
        changed = await world.rooms.held.release_held(tx, ReleaseHeld(sessions=[f"main:{pk}"]), ADA)
    assert changed.refused == {f"main:{pk}": f"Lago has {before.usage_event_id} by now: retry it."}
    assert [(one.state, one.timestamp) for one in await world.entries(pk)] == [("held", before.timestamp)]
