"""Counted is said of what Lago certainly bills, and of nothing else: Lago itself does not say it of an event."""

import asyncio
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from alembic import command

from deploy.demo.lago import LagoSettings, lifecycle
from deploy.demo.lago.values import to_datetime
from services.sync.ledger import settle
from shared.contracts.requests.sync_work import Reconcile
from shared.database.engine import conninfo
from shared.database.migrations import alembic_config
from tests.databases import OWNERS
from tests.integration.services.sync.conftest import ADA, LAGO_SEED, Build, World, ago
from tests.integration.services.sync.test_held_entries import conflict

BATCH = "/api/v1/events/batch"
WEEKLY = LAGO_SEED | {"plans": [one | {"interval": "weekly"} for one in LAGO_SEED["plans"]]}


async def state(world: World, pk: int) -> str:
    """How the session stands after Lago was asked about it."""
    await world.rooms.counting.count()
    row = await world.session(pk)
    return str(row.billing)


@pytest.mark.parametrize(
    ("given", "shown"),
    [({}, False), ({"shows_subscription": True}, True), ({"events_store": "clickhouse"}, True)],
    ids=["postgres", "old postgres", "clickhouse"],
)
async def test_whether_lago_names_a_subscription_or_not(
    build_world: Build,
    given: dict[str, Any],
    shown: bool,  # noqa: FBT001
) -> None:
    """An event is counted, and told so once, also where Lago shows it without its subscription, as PostgreSQL does."""
    world = await build_world(lago=LagoSettings(seed=LAGO_SEED, **given))
    await world.link("A")
    pk = world.charge("A", 2_000).pk
    await world.turn()
    answer = await world.rooms.lago._caller._client.get(f"/api/v1/events/steve:main:{pk}:1")
    assert (answer.json()["event"]["lago_subscription_id"] is not None) is shown
    assert await state(world, pk) == "counted"
    assert await state(world, pk) == "counted"
    assert len(await world.events("transaction.counted")) == 1


@pytest.mark.parametrize("lost", [False, True])
async def test_an_event_behind_somebody_elses_is_found(build_world: Build, lost: bool) -> None:  # noqa: FBT001
    """A Lago with ClickHouse takes ours beside another one of the same id: it shows the other one first, and counts
    ours, also where its answer was lost.
    """
    world = await build_world(lago=LagoSettings(seed=LAGO_SEED, events_store="clickhouse"))
    await world.link("A")
    pk = world.charge("A", 4_000).pk
    conflict(world, pk)
    if lost:
        world.lago.faults.add("drop_after_commit", path=BATCH, count=1)
        await world.turn()
        world.clock.advance(minutes=1)
        world.rooms.lago._caller._breaker.succeeded()
    await world.turn()
    assert world.counted() == (4_000, 1)
    assert await state(world, pk) == "counted"


async def test_an_event_that_came_after_the_last_invoice_is_not_counted(world: World) -> None:
    """The subscription ended unheard a moment before the event was sent: Lago took it and never bills it. It is not
    called counted, and the proof names it.
    """
    await world.link("A")
    pk = world.charge("A", 4_000, start_at=ago(minutes=30)).pk
    await world.rooms.poller.poll()
    await world.rooms.settler.settle()
    lifecycle.terminate(world.lago.state, "sub_ada")
    world.clock.advance(seconds=30)
    await world.rooms.delivery.deliver()
    assert world.lago.requests.count("POST", BATCH) == 1
    assert world.counted() == (0, 0)
    assert await state(world, pk) == "synced"
    world.clock.advance(hours=3)
    assert await state(world, pk) == "synced"
    [proof] = (await world.rooms.reconciler.reconcile(Reconcile(external_subscription_id="sub_ada"), ADA)).rows
    assert [(one.kind, one.wh) for one in proof.differences] == [("sent_not_counted", -4_000)]


@pytest.mark.parametrize("ends", [False, True], ids=["two periods later", "ended in the next period"])
async def test_an_event_that_came_after_its_period_is_never_counted(build_world: Build, ends: bool) -> None:  # noqa: FBT001
    """Lago had it a moment after the period of its time was over: no later period, and no end, makes that invoice bill
    it. It is not called counted, and the proof of the subscription names it once that has ended.
    """
    world = await build_world(lago=LagoSettings(seed=WEEKLY))
    await world.link("A")
    pk = world.charge("A", 4_000, start_at=ago(hours=3)).pk
    world.lago.faults.add("drop_after_commit", path=BATCH, count=1)
    await world.turn()
    [entry] = await world.entries(pk)
    event = world.lago.state.events.find(entry.usage_event_id)
    assert event is not None
    # Its answer was lost, and Lago worked on it for longer than the period lasted.
    event.created_us = int((entry.period_to + timedelta(seconds=5)).timestamp() * 1_000_000)
    world.lago.state.catalog_version += 1
    world.clock.advance(days=8)
    world.rooms.lago._caller._breaker.succeeded()
    await world.turn()
    assert await state(world, pk) == "synced"
    if ends:
        lifecycle.terminate(world.lago.state, "sub_ada")
    world.clock.advance(days=8)
    assert await state(world, pk) == "synced"
    assert await world.events("transaction.counted") == []
    if ends:
        [proof] = (await world.rooms.reconciler.reconcile(Reconcile(external_subscription_id="sub_ada"), ADA)).rows
        assert [(one.kind, one.wh) for one in proof.differences] == [("sent_not_counted", -4_000)]


async def test_an_entry_knows_its_period_also_where_that_has_just_begun(build_world: Build) -> None:
    """What Lago said of the period before, however young, is asked again: without the end of its own period, an entry
    could be called counted too late.
    """
    world = await build_world(lago=LagoSettings(seed=WEEKLY), subscription_age_s=1_000_000)
    await world.link("A")
    world.charge("A", 4_000, start_at=ago(hours=3))
    await world.turn()
    world.clock.advance(days=7)
    pk = world.charge("A", 4_000, start_at=world.clock() - timedelta(hours=3)).pk
    await world.turn()
    [entry] = await world.entries(pk)
    assert timedelta() < entry.period_to - entry.timestamp < timedelta(days=7)


async def test_a_lago_whose_clock_is_behind_is_not_asked_all_the_time(
    build_world: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By our clock the next period has begun, and Lago does not tell of it yet: what is late waits, with longer pauses,
    in nobody's way, and is billed as soon as Lago is there as well.
    """
    monkeypatch.setattr(settle, "BATCH", 2)
    world = await build_world(lago=LagoSettings(seed=WEEKLY), late_policy="bill_in_current_period")
    await world.link("A")
    await world.link("B", "cus_bob", "sub_bob")
    subscription = world.lago.state.find_subscription("sub_ada")
    assert subscription is not None
    ends = to_datetime(world.lago.state.current_period(subscription).to_us)
    world.lago.state.clock_offset_us = -int(timedelta(hours=2) / timedelta(microseconds=1))
    world.clock.advance(seconds=(ends - world.clock()).total_seconds() + 3_600)
    late = [world.charge("A", 1_000, start_at=ago(days=10) + timedelta(hours=hour)).pk for hour in range(2)]
    world.charge("B", 500, start_at=ago(hours=3), charge_box_id="CP-2")
    asked = world.lago.requests.count("GET", "/api/v1/subscriptions/sub_ada")
    for _ in range(2):
        await world.turn()
    assert world.lago.requests.count("GET", "/api/v1/subscriptions/sub_ada") == asked + 1
    rows = [await world.session(pk) for pk in late]
    assert {(row.billing, row.settle_attempts) for row in rows} == {("pending", 1)}
    assert (world.counted(), world.counted("sub_bob")) == ((0, 0), (500, 1))
    world.clock.advance(hours=2)
    await world.turn()
    assert world.counted() == (2_000, 2)
    made = [entry for pk in late for entry in await world.entries(pk)]
    assert all(timedelta() < one.period_to - one.timestamp < timedelta(days=7) for one in made)


async def test_an_entry_from_before_periods_were_kept_is_given_the_one_that_lago_told(build_world: Build) -> None:
    """Where it lies in the period that Lago last told; of one before, nobody knows any more."""
    world = await build_world(lago=LagoSettings(seed=WEEKLY))
    await world.link("A")
    pk, old = world.charge("A", 4_000, start_at=ago(hours=3)).pk, world.charge("A", 1_000).pk
    await world.turn()
    made = (await world.entries(pk))[0].period_to
    config = alembic_config(OWNERS["sync"], world.admin_url)
    await asyncio.to_thread(command.downgrade, config, "0014")
    with psycopg.connect(conninfo(world.admin_url)) as admin:
        earlier = b"UPDATE sync.ledger_entry SET timestamp = timestamp - interval '7 days' WHERE transaction_pk = %b"
        admin.execute(earlier % str(old).encode())
    await asyncio.to_thread(command.upgrade, config, "head")
    assert made is not None
    assert [(await world.entries(one))[0].period_to for one in (pk, old)] == [made, None]


@pytest.mark.parametrize("upgrades", [1, 2])
async def test_what_an_upgraded_subscription_billed_is_counted(world: World, upgrades: int) -> None:
    """Its successors have its id, and began after the event: the one that ran then counts."""
    await world.link("A")
    pk = world.charge("A", 4_000).pk
    await world.turn()
    for _ in range(upgrades):
        world.clock.advance(seconds=5)
        lifecycle.upgrade(world.lago.state, "sub_ada", "ev")
    assert world.counted() == (4_000, 1)
    assert await state(world, pk) == "counted"


async def test_what_was_sent_before_the_end_is_counted(world: World) -> None:
    """The subscription ended before anybody looked, and after Lago had the event."""
    await world.link("A")
    pk = world.charge("A", 4_000).pk
    await world.turn()
    world.clock.advance(seconds=5)
    lifecycle.terminate(world.lago.state, "sub_ada")
    assert await state(world, pk) == "counted"


async def test_a_silent_lago_counts_nothing_yet(world: World) -> None:
    """Without an answer about the subscription nothing is certain; with it the event is counted."""
    await world.link("A")
    pk = world.charge("A", 4_000).pk
    await world.turn()
    world.lago.faults.add("http_503", path="/api/v1/subscriptions")
    assert await state(world, pk) == "synced"
    world.lago.faults.clear()
    world.rooms.lago._caller._breaker.succeeded()
    world.clock.advance(minutes=1)
    assert await state(world, pk) == "counted"


async def test_a_plan_without_a_charge_counts_nothing(world: World) -> None:
    """The charge was taken off the plan after the event was sent; put back, the event is counted."""
    await world.link("A")
    pk = world.charge("A", 4_000).pk
    await world.turn()
    plan = world.lago.state.plans["ev"]
    charges, plan.charges = plan.charges, []
    assert await state(world, pk) == "synced"
    plan.charges = charges
    world.clock.advance(minutes=10)
    assert await state(world, pk) == "counted"


async def test_another_customers_subscription_does_not_count(world: World) -> None:
    """The id is another customer's by now, from before the session on: nobody says that Ada is billed."""
    await world.link("A")
    pk = world.charge("A", 4_000).pk
    await world.turn()
    subscription = world.lago.state.find_subscription("sub_ada")
    assert subscription is not None
    subscription.external_customer_id = "cus_bob"
    assert await state(world, pk) == "synced"
