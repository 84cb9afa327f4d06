"""A Lago that would not count what is sent: nothing becomes a usage event until it does, and then all of it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from deploy.demo.lago import LagoSettings
from deploy.demo.lago.model import Charge, Metric
from deploy.demo.steve.model import MeterValue, Stop, StopActor, Transaction
from services.sync.lago import gate
from services.sync.upstreams.errors import UpstreamError
from shared.contracts.identity import session_id
from shared.contracts.requests.sync_work import ReleaseHeld, RetryHeld
from tests.integration.services.sync.conftest import ADA, LAGO_SEED, STEVE_ID, Build, World, a_replica, ago
from tests.integration.services.sync.delivering import BATCH, turns

CODE = "ev_charging_kwh"


@pytest.fixture
async def stack(world: World) -> AsyncIterator[AsyncExitStack]:
    """Ends before the world does."""
    async with AsyncExitStack() as ends:
        yield ends


async def set_up_anew(world: World, stack: AsyncExitStack, **given: Any) -> World:  # noqa: ANN401
    """The operator corrects settings of sync and starts it again."""
    settings = world.settings.model_copy(update=given)
    service, rooms = await a_replica(stack, settings, world.clock)
    return replace(world, service=service, rooms=rooms, settings=settings)


async def change_property(world: World, stack: AsyncExitStack) -> World:
    """The metric sums up another property from now on, in Lago and in the settings."""
    world.lago.state.metrics[CODE].field_name = "energy"
    return await set_up_anew(world, stack, metric_property="energy")


async def release(world: World, pk: int) -> Any:  # noqa: ANN401
    async with world.service.database.write() as tx:
        return await world.rooms.held.release_held(tx, ReleaseHeld(sessions=[session_id(STEVE_ID, pk)]), ADA)


def properties(world: World) -> list[str]:
    """Which one each event has that Lago has."""
    return [name for one in world.lago.state.events for name in one.properties if name in {"kwh", "energy"}]


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ({"aggregation_type": "count_agg"}, "count_agg"),
        ({"field_name": "energy"}, "'energy'"),
        ({"code": "other"}, "no billable metric"),
        # Each period's energy would be billed again in every next one.
        ({"recurring": True}, "recurring"),
    ],
)
async def test_billing_is_held_until_lago_is_set_up(
    build_world: Build, metric: dict[str, str | bool], words: str
) -> None:
    """A metric that is missing or would not count what is sent closes the gate; nothing is sent, and each session says
    why. As soon as Lago is set up, all of it is counted, without anybody's help.
    """
    seed = {**LAGO_SEED, "metrics": [{**LAGO_SEED["metrics"][0], **metric}]}
    if "code" in metric:
        seed |= {"plans": [{"code": code} for code in ("ev", "free", "prepaid")]}
    world = await build_world(lago=LagoSettings(seed=seed))
    await world.link("A")
    pks = [world.charge("A", 1_000).pk for _ in range(2)]
    await turns(world, 2)
    assert world.lago.requests.count("POST", BATCH) == 0
    standing = world.rooms.health.standing("lago")
    assert (standing.state, standing.reason) == ("lost", "billing_gate")
    assert words in (standing.explanation or "")
    rows = [await world.session(pk) for pk in pks]
    assert [(row.billing, row.hold_reason) for row in rows] == [("held", "lago_not_set_up")] * 2
    assert words in rows[0].hold_explanation
    assert [await world.entries(pk) for pk in pks] == [[], []]
    assert len(await world.events("transaction.held")) == 2
    # They are looked at now, and would be again in five minutes.
    await world.turn()
    there = world.lago.state
    there.metrics[CODE] = Metric(code=CODE, name=CODE, created_us=0, field_name="kwh")
    if "code" in metric:
        there.plans["ev"].charges = [Charge(metric_code=CODE, created_us=0, amount="0.40")]
        # What Lago said of the plan is believed for a minute.
        world.clock.advance(minutes=2)
    world.clock.advance(seconds=11)
    await world.turn()
    assert world.counted() == (2_000, 2)
    assert len(await world.events("transaction.released")) == 2


async def test_energy_that_waited_for_the_right_property_is_billed_by_it(world: World, stack: AsyncExitStack) -> None:
    """The metric sums up another property than the one that is set. Once that is corrected, and the service started
    anew, all that waited is sent as Lago counts it.
    """
    world.lago.state.metrics[CODE].field_name = "energy"
    await world.link("A")
    for _ in range(3):
        world.charge("A", 1_000)
    await turns(world, 2)
    world = await set_up_anew(world, stack, metric_property="energy")
    await world.turn()
    assert world.counted() == (3_000, 3)
    assert properties(world) == ["energy"] * 3


async def test_what_was_never_sent_follows_the_metric(world: World, stack: AsyncExitStack) -> None:
    """Usage events that wait while another property, or another metric, begins to bill are sent as it counts them."""
    await world.link("A")
    pk = world.charge("A", 4_000).pk
    await world.rooms.poller.poll()
    await world.rooms.settler.settle()
    assert [(one.property_name, one.attempts) for one in await world.entries(pk)] == [("kwh", 0)]
    world = await change_property(world, stack)
    await world.turn()
    assert (world.counted(), properties(world)) == ((4_000, 1), ["energy"])
    assert [one.property_name for one in await world.entries(pk)] == ["energy"]


def bill_by(world: World, code: str) -> None:
    """Lago has another metric, and the plan a charge on it alone."""
    there = world.lago.state
    there.metrics[code] = Metric(code=code, name=code, created_us=0, field_name="kwh")
    there.plans["ev"].charges[:] = [Charge(metric_code=code, created_us=0, amount="0.40")]


async def test_what_another_metric_is_to_bill_waits_for_its_charge(world: World, stack: AsyncExitStack) -> None:
    """The metric is changed in the settings, and the plan has no charge on it yet: neither what waited to be sent nor
    what is settled then is given to a Lago that would count none of it, whatever it said of the charge on the one
    before. It is billed once there is one.
    """
    await world.link("A")
    waits = world.charge("A", 4_000).pk
    await world.rooms.poller.poll()
    await world.rooms.settler.settle()
    world.lago.state.metrics["kwh2"] = Metric(code="kwh2", name="kwh2", created_us=0, field_name="kwh")
    world = await set_up_anew(world, stack, metric_code="kwh2")
    comes = world.charge("A", 2_000).pk
    await world.turn()
    assert world.lago.requests.count("POST", BATCH) == 0
    reasons = [(await world.session(pk)).hold_reason for pk in (waits, comes)]
    assert reasons == ["plan_without_charge"] * 2
    bill_by(world, "kwh2")
    world.clock.advance(minutes=6)
    async with world.service.database.write() as tx:
        await world.rooms.held.retry_held(tx, RetryHeld(everything=True), ADA)
    await turns(world, 2)
    assert sorted((one.code, one.properties["kwh"]) for one in world.lago.state.events) == [
        ("kwh2", "2.000"),
        ("kwh2", "4.000"),
    ]
    assert [(await world.session(pk)).billing for pk in (waits, comes)] == ["synced"] * 2


async def test_a_replica_with_the_setting_of_before_leaves_alone_what_is_not_its_own(
    world: World, stack: AsyncExitStack
) -> None:
    """While one is replaced after the other, each sends what it was set up for: nothing goes for a metric that bills it
    no more, and nothing is held for that.
    """
    await world.link("A")
    await world.turn()
    world.clock.advance(seconds=5)
    bill_by(world, "kwh2")
    after = await set_up_anew(world, stack, metric_code="kwh2")
    world.clock.advance(seconds=5)
    pk = world.charge("A", 4_000).pk
    await after.rooms.poller.poll()
    await after.rooms.settler.settle()
    await world.rooms.delivery.deliver()
    [entry] = await world.entries(pk)
    assert (entry.code, entry.state, entry.attempts) == ("kwh2", "pending", 0)
    await after.rooms.delivery.deliver()
    assert [one.code for one in world.lago.state.events] == ["kwh2"]


@pytest.mark.parametrize("landed", [False, True])
async def test_what_may_have_been_sent_for_another_property_is_held(
    world: World,
    stack: AsyncExitStack,
    landed: bool,  # noqa: FBT001
) -> None:
    """It is not sent as it is, however often it is retried. A release has it sent for the one that bills now, unless
    Lago has it: then it says so.
    """
    await world.link("A")
    pk = world.charge("A", 4_000).pk
    world.lago.faults.add("drop_after_commit" if landed else "drop_before", path=BATCH, count=1)
    await world.turn()
    [entry] = await world.entries(pk)
    assert (entry.state, entry.property_name) == ("sending", "kwh")
    world = await change_property(world, stack)
    world.clock.advance(minutes=6)
    await world.turn()
    async with world.service.database.write() as tx:
        await world.rooms.held.retry_held(tx, RetryHeld(everything=True), ADA)
    await world.turn()
    row = await world.session(pk)
    assert (row.billing, row.hold_reason) == ("held", "metric_changed")
    assert "'kwh' of the metric ev_charging_kwh" in row.hold_explanation
    changed = await release(world, pk)
    await world.turn()
    billing = (await world.session(pk)).billing
    if landed:
        assert "Lago has steve:main:1:1 by now: bill by hand" in changed.refused[session_id(STEVE_ID, pk)]
        assert (billing, properties(world)) == ("held", ["kwh"])
    else:
        assert (billing, properties(world)) == ("synced", ["energy"])
        assert world.counted() == (4_000, 1)


async def test_what_takes_back_what_another_metric_billed_is_for_a_person(world: World, stack: AsyncExitStack) -> None:
    """Sent for the metric that bills now, it would come off what others used; be it made before the change or after."""
    await world.link("A")
    ones = [world.charge("A", 9_000, charge_box_id=box, stop_actor=StopActor.MANUAL) for box in ("CP-1", "CP-2")]
    await world.turn()

    def less(one: Transaction) -> None:
        stop = Stop(
            at=ago(minutes=20), value=str(int(one.start_value) + 8_000), reason="Local", actor=StopActor.STATION
        )
        world.steve.state.add_stop(one.pk, stop)
        world.clock.advance(minutes=2)

    less(ones[0])
    await world.rooms.poller.poll()
    await world.rooms.settler.settle()
    world = await change_property(world, stack)
    less(ones[1])
    await turns(world, 2)
    refused = (await release(world, ones[0].pk)).refused
    assert "may have billed" in refused[session_id(STEVE_ID, ones[0].pk)]
    reasons = [(await world.session(one.pk)).hold_reason for one in ones]
    assert reasons == ["metric_changed", "needs_credit_note"]
    assert properties(world) == ["kwh", "kwh"]


async def test_the_metric_of_what_was_taken_up_is_frozen(world: World) -> None:
    """The database refuses to change the metric of an entry that may have been sent."""
    await world.link("A")
    pk = world.charge("A", 9_000).pk
    change = "UPDATE sync.ledger_entry SET property_name = 'energy'"
    await world.turn()
    assert [one.attempts for one in await world.entries(pk)] == [1]
    with pytest.raises(IntegrityError, match="keeps its metric"):
        async with world.service.database.write() as tx:
            await tx.exec_driver_sql(change)


async def test_what_is_seen_before_lago_ever_answered_waits(world: World) -> None:
    """Whether it is set up is not known then: sessions are seen, and held where that needs no Lago; no usage event is
    made, nothing is asked over and over, and what waited goes with the first answer.
    """
    await world.link("A")
    await world.rooms.subscriptions.refresh({"sub_ada"})
    world.lago.faults.add("down")
    world.steve.state.add_tag("LONER")
    pk, loner = world.charge("A", 1_000).pk, world.charge("LONER", 1_000).pk
    before = world.rooms.lago.requests
    with pytest.raises(UpstreamError):
        await world.turn()
    for _ in range(60):
        await world.rooms.settler.settle()
        world.clock.advance(seconds=1)
    assert world.rooms.lago.requests - before < 15
    row = await world.session(pk)
    assert (row.billing, row.hold_reason, await world.entries(pk)) == ("pending", None, [])
    assert 2 <= row.settle_attempts <= 5
    assert (await world.session(loner)).hold_reason == "card_unlinked"
    world.lago.faults.clear()
    world.rooms.lago._caller._breaker.succeeded()
    await world.turn()
    assert world.counted() == (1_000, 1)


async def test_a_running_session_is_billed_when_lago_is_set_up(build_world: Build) -> None:
    """Its readings make no usage event before."""
    world = await build_world(incremental_kwh=1)
    world.lago.state.metrics[CODE].field_name = "energy"
    await world.link("A")
    one = world.charge("A", None, start_at=ago(hours=2))
    value = str(int(one.start_value) + 6_000)
    at = one.start_at + timedelta(minutes=20)
    reading = MeterValue(at=at, value=value, measurand="Energy.Active.Import.Register", unit="Wh")
    world.steve.state.add_meter_values(one.pk, [reading])
    await world.turn()
    assert await world.rooms.progress.bill_running() == 0
    assert (await world.session(one.pk)).billing == "open"
    world.lago.state.metrics[CODE].field_name = "kwh"
    world.clock.advance(seconds=11)
    assert await world.rooms.progress.bill_running() == 1
    await world.turn()
    assert world.counted() == (6_000, 1)


async def test_a_metric_that_is_deleted_meanwhile_holds_what_comes_after(world: World) -> None:
    """It is looked at again while it is well; nothing is made for it then, until it is there again."""
    await world.link("A")
    world.charge("A", 1_000)
    await world.turn()
    metric = world.lago.state.metrics.pop(CODE)
    charges, world.lago.state.plans["ev"].charges = world.lago.state.plans["ev"].charges, []
    world.clock.advance(seconds=gate.OPEN_FOR.total_seconds())
    pk = world.charge("A", 2_000).pk
    await world.turn()
    row = await world.session(pk)
    assert (row.hold_reason, await world.entries(pk)) == ("lago_not_set_up", [])
    world.lago.state.metrics[CODE], world.lago.state.plans["ev"].charges = metric, charges
    world.clock.advance(minutes=2)
    await world.turn()
    assert world.counted() == (3_000, 2)
