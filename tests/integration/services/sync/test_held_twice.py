"""A session with held entries: the others of them, and what can be done about it; one that cannot be settled at all."""

import asyncio
from typing import Any

import psycopg
import pytest

from deploy.demo.lago import LagoSettings, lifecycle
from deploy.demo.steve.model import StopActor, Transaction
from services.sync.ledger import settle
from shared.contracts.requests.sync_work import IgnoreHeld, ReleaseHeld, RetryHeld
from shared.database.engine import conninfo
from tests.integration.services.sync.conftest import LAGO_SEED, Build, World, ago
from tests.integration.services.sync.test_held import do, held
from tests.integration.services.sync.test_held_entries import a_held_step, clear_conflict, conflict, stop
from tests.integration.services.sync.test_in_time import read
from tests.integration.services.sync.webhooks.test_dispatch import told

BATCH = "/api/v1/events/batch"
WEEKLY: dict[str, Any] = {
    **LAGO_SEED,
    "plans": [{**LAGO_SEED["plans"][0], "interval": "weekly"}],
    "subscriptions": [LAGO_SEED["subscriptions"][0]],
}


async def foreign_then_late(build_world: Build) -> tuple[World, Transaction]:
    """A session whose first step, of 6 kWh, lies in Lago as another event; what followed, 3 kWh, became late."""
    world = await build_world(lago=LagoSettings(seed=WEEKLY), incremental_kwh=1)
    await world.link("A")
    one = world.charge("A", None, start_at=ago(hours=2))
    conflict(world, one.pk)
    read(world, one, 6_000, 20)
    await world.turn()
    assert await world.rooms.progress.bill_running() == 1
    await world.turn()
    stop(world, one, 9_000)
    world.lago.faults.add("drop_before", path=BATCH, count=1)
    await world.turn()
    world.clock.advance(days=8)
    world.rooms.lago._caller._breaker.succeeded()
    await world.rooms.delivery.deliver()
    assert [row.hold_reason for row in await world.entries(one.pk)] == ["id_conflict", "late"]
    return world, one


async def test_a_session_is_held_for_the_first_of_its_entries(build_world: Build) -> None:
    """What is held after it does not hide it, in the queue and in what is told."""
    world, one = await foreign_then_late(build_world)
    [waiting] = (await held(world)).held
    assert (waiting.reason, waiting.energy_wh) == ("id_conflict", 9_000)
    assert waiting.explanation.startswith("Lago has steve:main:1:1")
    assert {event.data["reason"] for event in await world.events("transaction.held")} == {"id_conflict"}
    assert (await world.session(one.pk)).billing == "held"


@pytest.mark.parametrize("said", ["id_conflict", "late"])
async def test_a_release_takes_nothing_back_that_leaves_an_entry_held(build_world: Build, said: str) -> None:
    """Whatever the session is said to be held for: it stays in the queue with all its energy until the first entry is
    repaired; then the rest is billed anew.
    """
    world, one = await foreign_then_late(build_world)
    name = f"main:{one.pk}"
    async with world.service.database.write() as tx:
        await tx.exec_driver_sql(f"UPDATE sync.session SET hold_reason = '{said}'")
    changed = await do(world, ReleaseHeld(sessions=[name]))
    assert list(changed.refused) == [name]
    await world.turn()
    assert [entry.energy_wh for entry in (await held(world)).held] == [9_000]
    assert [row.state for row in await world.entries(one.pk)] == ["held", "held"]
    clear_conflict(world, one.pk)
    await do(world, RetryHeld(sessions=[name]))
    await world.turn()
    assert (await world.session(one.pk)).hold_reason == "late"
    assert (await do(world, ReleaseHeld(sessions=[name]))).count == 1
    await world.turn()
    assert world.counted() == (9_000, 1)
    assert (await world.session(one.pk)).billing == "synced"


async def test_a_held_entry_holds_a_session_that_is_said_to_be_pending(build_world: Build) -> None:
    """Less was used than its held entry says: what takes it back waits with it, under its reason, and the session is in
    the queue again.
    """
    world, one = await a_held_step(build_world)
    async with world.service.database.write() as tx:
        await tx.exec_driver_sql(
            "UPDATE sync.session SET billing = 'open', hold_reason = NULL, hold_explanation = NULL, held_at = NULL"
        )
    stop(world, one, 4_000)
    await world.turn()
    row = await world.session(one.pk)
    assert (row.billing, row.hold_reason) == ("held", "id_conflict")
    assert [row.hold_reason for row in await world.entries(one.pk)] == ["id_conflict", "id_conflict"]
    assert [entry.energy_wh for entry in (await held(world)).held] == [4_000]


async def test_a_retry_by_its_name_brings_back_what_fell_out_of_the_queue(build_world: Build) -> None:
    """Nothing about it is to be decided, and one of its entries is held: it is in the queue again, with its energy."""
    world, one = await a_held_step(build_world)
    stop(world, one, 6_000)
    await world.turn()
    async with world.service.database.write() as tx:
        await tx.exec_driver_sql(
            "UPDATE sync.session SET billing = 'pending', hold_reason = NULL, hold_explanation = NULL, held_at = NULL"
        )
    assert (await do(world, RetryHeld(sessions=[f"main:{one.pk}"]))).count == 1
    await world.turn()
    [waiting] = (await held(world)).held
    assert (waiting.reason, waiting.energy_wh) == ("id_conflict", 6_000)
    # Its chain is complete; what is told of it is what is held of that.
    [*_, told] = await world.events("transaction.held")
    assert (told.data["reason"], told.data["energy_wh"]) == ("id_conflict", 6_000)


async def frozen(build_world: Build, ends: str) -> tuple[World, str]:
    """A session whose usage event never reached Lago before its period or its subscription ended."""
    world = await build_world(lago=LagoSettings(seed=WEEKLY))
    await world.link("A")
    name = f"main:{world.charge('A', 4_000, start_at=ago(minutes=30)).pk}"
    world.lago.faults.add("drop_before", path=BATCH, count=1)
    await world.turn()
    if ends == "subscription":
        lifecycle.terminate(world.lago.state, "sub_ada")
    world.clock.advance(days=8 if ends == "period" else 0, hours=1)
    world.rooms.lago._caller._breaker.succeeded()
    await world.rooms.delivery.deliver()
    return world, name


async def test_what_is_said_to_help_a_late_event_does(build_world: Build) -> None:
    """Its time is frozen, so that no retry helps whatever the policy is by now: it is to be released, and that bills
    it.
    """
    world, name = await frozen(build_world, "period")
    [waiting] = (await held(world)).held
    assert (waiting.reason, "Release it" in (waiting.remedy or "")) == ("late", True)
    assert "retry" not in (waiting.remedy or "")
    assert (await do(world, ReleaseHeld(sessions=[name]))).count == 1
    await world.turn()
    assert world.counted() == (4_000, 1)


async def test_what_is_said_to_help_an_invoiced_event_does(build_world: Build) -> None:
    """It was made for the subscription that ended and is nobody else's: it is to be billed by hand and then ignored."""
    world, name = await frozen(build_world, "subscription")
    [waiting] = (await held(world)).held
    assert waiting.reason == "subscription_invoiced"
    assert (waiting.remedy or "").startswith("Bill it by hand in Lago, then ignore it.")
    refused = (await do(world, ReleaseHeld(sessions=[name], change_owner=True))).refused[name]
    assert "by hand" in refused
    assert (await do(world, IgnoreHeld(sessions=[name], note="invoice 7"))).count == 1
    assert (await held(world)).held == []


BUSY = """
    CREATE FUNCTION sync.busy() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'somebody else first' USING ERRCODE = '{code}'; END $$;
    CREATE TRIGGER busy BEFORE INSERT ON sync.ledger_entry FOR EACH ROW WHEN (NEW.transaction_pk = {pk})
    EXECUTE FUNCTION sync.busy();
"""


@pytest.mark.parametrize("code", ["40P01", "55P03", "57014"], ids=["deadlock", "lock timeout", "statement timeout"])
async def test_a_session_in_whose_way_others_are_waits_and_is_not_held(world: World, code: str) -> None:
    """The database gave up what is made of it for the sake of other work: nobody is told of a fault, the others are
    billed, and it is, too, as soon as the way is free.
    """
    await world.link("A")
    pks = [world.charge("A", 1_000).pk for _ in range(3)]
    with psycopg.connect(conninfo(world.admin_url), autocommit=True) as admin:
        await asyncio.to_thread(admin.execute, BUSY.format(code=code, pk=pks[0]))
        await world.turn()
        assert [(await world.session(pk)).billing for pk in pks] == ["pending", "synced", "synced"]
        assert (await world.session(pks[0])).settle_at > world.clock()
        assert await world.events("transaction.held") == []
        await asyncio.to_thread(admin.execute, "DROP TRIGGER busy ON sync.ledger_entry")
    world.clock.advance(seconds=6)
    await world.turn()
    assert world.counted() == (3_000, 3)
    assert (await world.session(pks[0])).settle_attempts == 0


async def test_a_session_that_waited_for_lago_waits_for_others_all_the_same(world: World) -> None:
    """Lago was silent for a quarter of an hour, which is no fault: when the database then gives up what is made of it
    once, it waits for a moment and is billed.
    """
    await world.link("A")
    pk = world.charge("A", 1_000).pk
    world.clock.advance(minutes=10)
    world.lago.faults.add("http_503", path="/api/v1/subscriptions")
    for _ in range(settle.MOST_TRIES):
        await world.turn()
        world.clock.advance(seconds=settle.LONGEST_WAIT.total_seconds())
    assert (await world.session(pk)).settle_attempts == settle.MOST_TRIES
    world.lago.faults.clear()
    world.rooms.lago._caller._breaker.succeeded()
    with psycopg.connect(conninfo(world.admin_url), autocommit=True) as admin:
        await asyncio.to_thread(admin.execute, BUSY.format(code="40P01", pk=pk))
        await world.turn()
        await asyncio.to_thread(admin.execute, "DROP TRIGGER busy ON sync.ledger_entry")
    row = await world.session(pk)
    assert (row.billing, row.hold_reason) == ("pending", None)
    world.clock.advance(seconds=6)
    await world.turn()
    assert world.counted() == (1_000, 1)
    assert await world.events("transaction.held") == []
    assert (row.busy_tries, (await world.session(pk)).busy_tries) == (1, 0)


async def test_a_session_that_always_takes_too_long_is_held_in_the_end(world: World) -> None:
    """What is too slow by itself is cut off as what stands in others' way is: after a quarter of an hour it is held,
    which is told once, and it is still tried, so that it is billed when that helps.
    """
    await world.link("A")
    pk = world.charge("A", 1_000).pk
    with psycopg.connect(conninfo(world.admin_url), autocommit=True) as admin:
        await asyncio.to_thread(admin.execute, BUSY.format(code="57014", pk=pk))
        for _ in range(settle.MOST_TRIES):
            await world.turn()
            assert (await world.session(pk)).billing == "pending"
            world.clock.advance(seconds=settle.LONGEST_WAIT.total_seconds())
        for _ in range(2):
            await world.turn()
            row = await world.session(pk)
            assert (row.billing, row.hold_reason) == ("held", "settling_failed")
            assert "somebody else first" in row.hold_explanation
            assert row.settle_at > world.clock()
            world.clock.advance(minutes=6)
        assert [one.data["reason"] for one in await world.events("transaction.held")] == ["settling_failed"]
        await asyncio.to_thread(admin.execute, "DROP TRIGGER busy ON sync.ledger_entry")
    await world.turn()
    assert world.counted() == (1_000, 1)
    assert (await world.session(pk)).settle_attempts == 0


async def test_what_lago_tells_has_a_session_tried_anew(world: World) -> None:
    """A webhook about its subscription: what was in its way so often before counts no longer."""
    await world.link("A")
    pk = world.charge("A", 1_000).pk
    world.clock.advance(minutes=10)
    world.lago.faults.add("http_503", path="/api/v1/subscriptions")
    await world.turn()
    assert (await world.session(pk)).owner_subscription == "sub_ada"
    world.lago.faults.clear()
    world.rooms.lago._caller._breaker.succeeded()
    with psycopg.connect(conninfo(world.admin_url), autocommit=True) as admin:
        await asyncio.to_thread(admin.execute, BUSY.format(code="40P01", pk=pk))
        for _ in range(settle.MOST_TRIES):
            world.clock.advance(seconds=settle.LONGEST_WAIT.total_seconds())
            await world.turn()
        await told(world)
        await world.rooms.dispatch.dispatch()
        await world.turn()
        await asyncio.to_thread(admin.execute, "DROP TRIGGER busy ON sync.ledger_entry")
    row = await world.session(pk)
    assert (row.billing, row.busy_tries) == ("pending", 1)


async def test_a_session_that_cannot_be_settled_stops_nobody(world: World) -> None:
    """The database refuses what is made of one of them: that one is held and says so, the others are billed; put
    right, it is billed as well.
    """
    await world.link("A")
    first = world.charge("A", 4_000, stop_actor=StopActor.MANUAL)
    await world.turn()
    async with world.service.database.write() as tx:
        await tx.exec_driver_sql("UPDATE sync.session SET last_seq = 0, billed_wh = NULL, settle_at = now()")
    others = [world.charge("A", 1_000).pk for _ in range(3)]
    await world.turn()
    assert {(await world.session(pk)).billing for pk in others} == {"synced"}
    row = await world.session(first.pk)
    assert (row.billing, row.hold_reason) == ("held", "settling_failed")
    assert "pk_ledger_entry" in row.hold_explanation
    assert row.settle_at > world.clock()
    [told] = await world.events("transaction.held")
    assert told.data["reason"] == "settling_failed"
    async with world.service.database.write() as tx:
        await tx.exec_driver_sql("UPDATE sync.session SET last_seq = 1, billed_wh = stop_wh WHERE last_seq = 0")
    world.clock.advance(minutes=6)
    await world.turn()
    assert (await world.session(first.pk)).billing == "synced"
    assert world.counted() == (7_000, 4)
