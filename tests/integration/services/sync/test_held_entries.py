"""An entry that Lago did not take holds its session until it is retried, whatever the session does meanwhile."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from deploy.demo.lago.model import Event
from deploy.demo.steve.model import MeterValue, Stop, StopActor, Transaction
from shared.contracts.requests.sync_work import IgnoreHeld, Reconcile, ReleaseHeld, RetryHeld
from tests.integration.services.sync.conftest import ADA, Build, World, ago
from tests.integration.services.sync.test_held import do, held


def conflict(world: World, pk: int, seq: int = 1) -> None:
    """Somebody else's event lies in Lago under our id, of another metric: it counts for nothing."""
    stamp = int(ago(days=4).timestamp() * 1_000_000)
    foreign = Event(
        transaction_id=f"steve:main:{pk}:{seq}",
        external_subscription_id="sub_ada",
        code="other",
        timestamp_us=stamp,
        properties={"kwh": "1.000"},
        created_us=stamp,
    )
    world.lago.state.add_events([foreign])


def clear_conflict(world: World, pk: int, seq: int = 1) -> None:
    events = world.lago.state.events
    event = events.find(f"steve:main:{pk}:{seq}")
    assert event is not None
    events._forget(event.seq)
    events._by_key.pop(events._key(event), None)
    world.lago.state.catalog_version += 1


async def a_held_step(build_world: Build, wh: int = 6_000) -> tuple[World, Transaction]:
    """A session that runs, and whose first step is held."""
    world = await build_world(incremental_kwh=1)
    await world.link("A")
    one = world.charge("A", None, start_at=ago(hours=2))
    conflict(world, one.pk)
    value = str(int(one.start_value) + wh)
    at = one.start_at + timedelta(minutes=20)
    reading = MeterValue(at=at, value=value, measurand="Energy.Active.Import.Register", unit="Wh")
    world.steve.state.add_meter_values(one.pk, [reading])
    await world.turn()
    assert await world.rooms.progress.bill_running() == 1
    await world.turn()
    return world, one


def stop(world: World, one: Transaction, wh: int) -> None:
    world.steve.state.stop_by_station(
        charge_box_id="CP-1", pk=one.pk, stop_at=ago(hours=1), stop_wh=int(one.start_value) + wh, reason=None
    )


async def states(world: World, pk: int) -> Sequence[str]:
    return [one.state for one in await world.entries(pk)]


@pytest.mark.parametrize(("wh", "sent"), [(9_000, 3_000), (6_000, 0), (4_000, 0)])
async def test_a_held_step_holds_the_stop(build_world: Build, wh: int, sent: int) -> None:
    """What the stop adds is billed, what it takes back waits; the session stays in the queue with all that is missing,
    and a retry brings the rest.
    """
    world, one = await a_held_step(build_world)
    row = await world.session(one.pk)
    assert (row.billing, row.hold_reason) == ("held", "id_conflict")
    stop(world, one, wh)
    await world.turn()
    row = await world.session(one.pk)
    assert (row.billing, row.hold_reason, row.settle_at) == ("held", "id_conflict", None)
    assert world.counted()[0] == sent
    [waiting] = (await held(world)).held
    assert waiting.energy_wh == wh - sent
    [proof] = (await world.rooms.reconciler.reconcile(Reconcile(external_subscription_id="sub_ada"), ADA)).rows
    assert proof.held_wh == wh - sent
    clear_conflict(world, one.pk)
    await do(world, RetryHeld(sessions=[f"main:{one.pk}"]))
    await world.turn()
    await world.turn()
    assert world.counted()[0] == wh
    assert (await world.session(one.pk)).billing == "synced"
    assert set(await states(world, one.pk)) == {"delivered"}


async def test_less_than_was_billed_never_goes_out_alone(build_world: Build) -> None:
    """Retried too early, the step is held again, and what takes some of it back with it; ignored, nothing is sent."""
    world, one = await a_held_step(build_world)
    stop(world, one, 4_000)
    await world.turn()
    await do(world, RetryHeld(sessions=[f"main:{one.pk}"]))
    await world.turn()
    await world.turn()
    assert await states(world, one.pk) == ["held", "held"]
    assert world.counted() == (0, 0)
    await do(world, IgnoreHeld(sessions=[f"main:{one.pk}"], note="it is billed by hand"))
    await world.turn()
    assert (await world.session(one.pk)).billing == "ignored"
    assert world.counted() == (0, 0)


async def test_a_stop_made_final_keeps_what_is_held(world: World) -> None:
    """Stopped by hand, held, then stopped by the station with the same energy: still held, still missing."""
    await world.link("A")
    one = world.charge("A", 9_000, stop_actor=StopActor.MANUAL)
    conflict(world, one.pk)
    await world.turn()
    assert (await world.session(one.pk)).hold_reason == "id_conflict"
    last = one.stops[0]
    final = Stop(at=last.at, value=last.value, reason="Local", actor=StopActor.STATION)
    world.steve.state.add_stop(one.pk, final)
    world.clock.advance(minutes=2)
    await world.turn()
    row = await world.session(one.pk)
    assert (row.billing, row.hold_reason, row.stop_actor) == ("held", "id_conflict", "station")
    assert [entry.energy_wh for entry in (await held(world)).held] == [9_000]
    clear_conflict(world, one.pk)
    await do(world, RetryHeld(reason="id_conflict"))
    await world.turn()
    assert world.counted() == (9_000, 1)
    assert (await world.session(one.pk)).billing == "synced"


async def test_a_stop_that_came_before_the_hold_is_still_settled(build_world: Build) -> None:
    """A stop that waits to be settled when its step turns out to be held is settled all the same."""
    world, one = await a_held_step(build_world)
    await do(world, RetryHeld(everything=True))
    assert (await world.session(one.pk)).billing == "open"
    stop(world, one, 9_000)
    await world.rooms.poller.poll()
    await world.rooms.delivery.deliver()
    row = await world.session(one.pk)
    assert row.billing == "held"
    assert row.settle_at is not None
    await world.turn()
    assert world.counted() == (3_000, 1)
    clear_conflict(world, one.pk)
    await do(world, RetryHeld(everything=True))
    await world.turn()
    assert world.counted() == (9_000, 2)


async def test_a_retry_of_a_running_session_leaves_it_running(build_world: Build) -> None:
    """What is retried before the stop is open again, takes further steps, and ends like any other."""
    world, one = await a_held_step(build_world)
    clear_conflict(world, one.pk)
    await do(world, RetryHeld(everything=True))
    await world.turn()
    assert (await world.session(one.pk)).billing == "open"
    assert world.counted() == (6_000, 1)
    stop(world, one, 6_000)
    await world.turn()
    assert (await world.session(one.pk)).billing == "synced"


async def test_an_ignored_session_is_not_held_by_what_was_on_its_way(world: World) -> None:
    """Who ignored it decided; an entry that Lago refuses afterwards does not bring it back."""
    await world.link("A")
    one = world.charge("A", 9_000, stop_actor=StopActor.MANUAL)
    await world.turn()
    last = one.stops[0]
    more = Stop(at=last.at, value=str(int(last.value) + 500), reason="Local", actor=StopActor.STATION)
    conflict(world, one.pk, 2)
    world.steve.state.add_stop(one.pk, more)
    world.clock.advance(minutes=2)
    await world.rooms.poller.poll()
    await world.rooms.settler.settle()
    async with world.service.database.write() as tx:
        await tx.exec_driver_sql("UPDATE sync.session SET billing = 'ignored', ignored_wh = 9500")
    await world.rooms.delivery.deliver()
    assert (await world.session(one.pk)).billing == "ignored"
    assert await states(world, one.pk) == ["delivered", "held"]
    assert await world.events("transaction.held") == []


async def test_a_release_refuses_what_is_frozen_further_up(build_world: Build) -> None:
    """A held step behind which more was billed is not released: it is retried or ignored."""
    world, one = await a_held_step(build_world)
    stop(world, one, 9_000)
    await world.turn()
    changed = await do(world, ReleaseHeld(sessions=[f"main:{one.pk}"]))
    assert "frozen" in changed.refused[f"main:{one.pk}"]


# What is billed already


@pytest.mark.parametrize("counted", [False, True])
async def test_a_step_that_was_the_stop_is_all_there_is(build_world: Build, counted: bool) -> None:  # noqa: FBT001
    """A session whose last step equals its stop is synced, and counted, as soon as it ends."""
    world = await build_world(incremental_kwh=1)
    await world.link("A")
    one = world.charge("A", None, start_at=ago(hours=2))
    reading = MeterValue(
        at=one.start_at + timedelta(minutes=20),
        value=str(int(one.start_value) + 6_000),
        measurand="Energy.Active.Import.Register",
        unit="Wh",
    )
    world.steve.state.add_meter_values(one.pk, [reading])
    await world.turn()
    await world.rooms.progress.bill_running()
    await world.turn()
    if counted:
        await world.rooms.counting.count()
    stop(world, one, 6_000)
    await world.turn()
    row = await world.session(one.pk)
    assert row.billing == ("counted" if counted else "synced")
    assert row.billed_at is not None
    await world.rooms.counting.count()
    assert (await world.session(one.pk)).billing == "counted"
    assert world.counted() == (6_000, 1)


async def test_a_counted_session_stays_counted(world: World) -> None:
    """A stop whose reason alone changes leaves the session counted, as long as it was."""
    await world.link("A")
    one = world.charge("A", 9_000, stop_actor=StopActor.MANUAL)
    await world.turn()
    await world.rooms.counting.count()
    before = await world.session(one.pk)
    last = one.stops[0]
    world.steve.state.add_stop(one.pk, Stop(at=last.at, value=last.value, reason="Local", actor=StopActor.STATION))
    world.clock.advance(minutes=2)
    await world.turn()
    after = await world.session(one.pk)
    assert (after.billing, after.billed_at, after.stop_actor) == ("counted", before.billed_at, "station")


# The start


async def test_a_start_that_was_corrected_is_billed_from_there(world: World) -> None:
    """The remedy of a start at zero works: corrected in SteVe, retried, billed."""
    await world.link("A")
    world.charge("A", 1_000)
    one = world.charge("A", 1_000, start_wh=0, stop_wh=3_000)
    await world.turn()
    assert (await world.session(one.pk)).hold_reason == "start_at_zero"
    one.start_value = "2000"
    await do(world, RetryHeld(sessions=[f"main:{one.pk}"]))
    await world.turn()
    assert (await world.session(one.pk)).billing == "synced"
    assert world.counted() == (2_000, 2)


async def test_a_start_that_changes_after_it_was_billed_is_held(world: World) -> None:
    """The chain began elsewhere and cannot be moved: held, until the start is as it was."""
    await world.link("A")
    one = world.charge("A", 4_000, stop_actor=StopActor.MANUAL)
    await world.turn()
    start = one.start_value
    one.start_value = str(int(start) + 500)
    world.clock.advance(minutes=2)
    await world.turn()
    row = await world.session(one.pk)
    assert (row.billing, row.hold_reason) == ("held", "start_changed")
    one.start_value = start
    await do(world, RetryHeld(everything=True))
    await world.turn()
    assert (await world.session(one.pk)).billing == "synced"
    assert world.counted() == (4_000, 1)
