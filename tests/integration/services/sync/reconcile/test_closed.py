"""A period that is over is compared by its events, because Lago's total is about the current one only."""

import psycopg
import pytest

from deploy.demo.lago import LagoSettings, lifecycle
from services.sync.reconcile import handlers, store
from services.sync.reconcile.rules import Span
from shared.contracts.requests.sync_work import Reconcile, RetryHeld
from shared.database.engine import conninfo
from shared.runtime.clock import utc_now
from tests.integration.services.sync.conftest import ADA, Build, World, ago
from tests.integration.services.sync.invariant.history import lago_seed
from tests.integration.services.sync.reconcile.proving import billed, lose, replace_seq, settle
from tests.integration.services.sync.test_held import do


async def turn(world: World) -> list[tuple[bool, int, int]]:
    """Compare what is due; what is kept of each period by now, the oldest first."""
    world.clock.advance(seconds=world.settings.reconcile_every_s + 1)
    await world.rooms.reconciler.run_due()
    rows = await world.rows("SELECT * FROM sync.reconcile_result ORDER BY period_from")
    return [(row.equal, row.steve_wh, row.counted_wh) for row in rows]


async def test_an_error_that_was_repaired_in_time_is_none_afterwards(world: World) -> None:
    """Lago once objected to an event and its total has it since: that is proven, and stays so when only the events are
    left to look at. What it objects to after that is told.
    """
    pk, other = await billed(world, 2_000, 3_000)

    async def report(which: int) -> None:
        async with world.service.database.write() as tx:
            problems = {f"steve:main:{which}:1": "missing_aggregation_property"}
            await store.report_errors(tx, problems, world.clock())

    await report(pk)
    assert await turn(world) == [(True, 5_000, 5_000)]
    await report(other)
    lifecycle.upgrade(world.lago.state, "sub_ada", "ev")
    assert await turn(world) == [(False, 5_000, 2_000), (True, 0, 0)]
    [told] = await world.events("reconcile.mismatch_found")
    assert told.data["sessions"] == [f"main:{other}"]


async def test_a_period_that_ended_before_it_was_ever_compared_is_compared(world: World) -> None:
    """What Lago lost in it is found by the first comparison, which is of the next period."""
    lost, _ = await billed(world, 2_000, 3_000)
    lose(world, lost)
    lifecycle.upgrade(world.lago.state, "sub_ada", "ev")
    assert await turn(world) == [(False, 5_000, 3_000), (True, 0, 0)]
    assert await turn(world) == [(False, 5_000, 3_000), (True, 0, 0)]
    assert len(await world.events("reconcile.mismatch_found")) == 1


async def test_no_period_is_passed_over_while_nothing_is_compared(build_world: Build) -> None:
    """Where several ended since the last comparison, each time in which something was billed is compared."""
    world = await build_world(lago=LagoSettings(seed=lago_seed(utc_now())))
    await world.link("A")
    world.charge("A", 1_000, start_at=ago(hours=1))
    await settle(world)
    assert await turn(world) == [(True, 1_000, 1_000)]
    world.clock.advance(days=6)
    lost = world.charge("A", 2_000, start_at=world.clock()).pk
    world.clock.advance(minutes=6)
    await settle(world)
    lose(world, lost)
    world.clock.advance(days=7)
    assert await turn(world) == [(True, 1_000, 1_000), (False, 2_000, 0), (True, 0, 0)]


async def test_without_an_answer_about_what_is_over_it_is_asked_again(world: World) -> None:
    """A comparison of which a part was not answered is not taken for the first one."""
    lost, _ = await billed(world, 2_000, 3_000)
    lose(world, lost)
    lifecycle.upgrade(world.lago.state, "sub_ada", "ev")
    world.lago.faults.add("http_500", path="/api/v1/events", method="GET")
    assert await turn(world) == []
    world.lago.faults.clear()
    world.rooms.lago._caller._breaker.succeeded()
    assert await turn(world) == [(False, 5_000, 3_000), (True, 0, 0)]


async def goes_to_bob(world: World) -> int:
    """Ada's subscription ended, Bob has one of the same id, and it is billed: the session's id."""
    lifecycle.terminate(world.lago.state, "sub_ada")
    world.clock.advance(minutes=10)
    lifecycle.create_subscription(
        world.lago.state,
        external_id="sub_ada",
        external_customer_id="cus_bob",
        plan_code="ev",
        billing_time="anniversary",
    )
    await world.link("B", "cus_bob", "sub_ada")
    pk = world.charge("B", 700, charge_box_id="CP-2", start_at=world.clock().replace(microsecond=0)).pk
    world.clock.advance(minutes=10)
    await settle(world)
    return pk


async def test_a_period_stays_proven_when_its_subscriptions_id_goes_to_another_customer(world: World) -> None:
    """Each event is counted for the customer to whom it was billed; what is missing for the one who had the id before
    is found all the same.
    """
    lost, _ = await billed(world, 2_000, 3_000)
    assert await turn(world) == [(True, 5_000, 5_000)]
    await goes_to_bob(world)
    assert await turn(world) == [(True, 5_000, 5_000), (True, 700, 700)]
    kept = await world.rows("SELECT external_customer_id FROM sync.reconcile_result ORDER BY period_from")
    assert [row.external_customer_id for row in kept] == ["cus_ada", "cus_bob"]
    assert await world.events("reconcile.mismatch_found") == []
    lose(world, lost)
    assert await differences_of_the_first(world) == [("sent_not_stored", -2_000)]


async def differences_of_the_first(world: World) -> list[tuple[str, int]]:
    """Compare the oldest of the kept periods again."""
    row, *_ = await world.rows("SELECT period_from, period_to FROM sync.reconcile_result ORDER BY period_from")
    checked = await world.rooms.reconciler._check.closed("sub_ada", Span(row.period_from, row.period_to))
    assert checked is not None
    return [(one.kind, one.wh) for one in checked.findings.differences]


async def test_two_customers_of_one_id_are_told_apart_in_what_was_never_compared(world: World) -> None:
    """The time before the first comparison may have been several customers': all of it is proven, and an event that
    Lago bills to another one than the ledger says is not.
    """
    await billed(world, 2_000, 3_000)
    pk = await goes_to_bob(world)
    lifecycle.upgrade(world.lago.state, "sub_ada", "ev")
    assert await turn(world) == [(True, 5_700, 5_700), (True, 0, 0)]
    with psycopg.connect(conninfo(world.admin_url), autocommit=True) as admin:
        admin.execute("UPDATE sync.ledger_entry SET external_customer_id = 'cus_ada' WHERE transaction_pk = %s", (pk,))
    assert await differences_of_the_first(world) == [("sent_not_counted", -700)]


def differing_periods(world: World) -> float | None:
    return world.service.registry.get_sample_value("reconcile_differing_periods")


@pytest.mark.parametrize("on_request", [False, True])
async def test_what_was_repaired_in_a_period_that_is_over_is_seen(
    build_world: Build, monkeypatch: pytest.MonkeyPatch, *, on_request: bool
) -> None:
    """Whoever does what was proposed finds that period equal, at its next turn or when asking; the rest is billed."""
    world = await build_world(lago=LagoSettings(seed=lago_seed(utc_now())), late_policy="bill_in_current_period")
    await world.link("A")
    pk = world.charge("A", 3_000, start_at=ago(hours=1)).pk
    await settle(world)
    assert await turn(world) == [(True, 3_000, 3_000)]
    async with world.service.database.write() as tx:
        await tx.exec_driver_sql(f"UPDATE sync.session SET stop_wh = stop_wh + 400 WHERE transaction_pk = {pk}")
    one = world.steve.state.transactions[pk]
    one.stops[0].value = str(int(one.start_value) + 3_400)
    world.clock.advance(days=7)
    assert await turn(world) == [(False, 3_400, 3_000), (True, 0, 0)]
    assert differing_periods(world) == 1
    changed = await do(world, RetryHeld(sessions=[f"main:{pk}"]))
    assert changed.sessions == [f"main:{pk}"]
    await settle(world)
    if on_request:
        request = Reconcile(external_subscription_id="sub_ada")
        with monkeypatch.context() as patched:
            # Nobody waits for that: what is kept is told.
            patched.setattr(handlers, "AGAIN_WITHIN_S", 0.0)
            now, before = (await world.rooms.reconciler.reconcile(request, ADA)).rows
            assert (now.equal, before.equal, before.counted_wh) == (True, False, 3_000)
        now, before = (await world.rooms.reconciler.reconcile(request, ADA)).rows
        assert (now.equal, now.counted_wh, before.equal, before.counted_wh) == (True, 400, True, 3_000)
        assert now.period_from > before.period_to
        [again] = (await world.rooms.reconciler.reconcile(request, ADA)).rows
        assert again.period_from == now.period_from
    assert await turn(world) == [(True, 3_000, 3_000), (True, 400, 400)]
    assert differing_periods(world) == 0
    assert len(await world.events("reconcile.mismatch_found")) == 1


async def test_of_many_periods_that_differ_each_has_its_turn(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are over are compared again a few at a time; one that stays as it is hides no other."""
    monkeypatch.setattr(handlers, "MOST_AGAIN", 1)
    await world.link("A")
    lost = []
    for wh in (1_000, 2_000):
        # Ended a moment ago, so that it is of the period that has just begun.
        pk = world.charge("A", wh, start_at=world.clock().replace(microsecond=0)).pk
        world.clock.advance(minutes=6)
        await settle(world)
        lost.append(lose(world, pk))
        lifecycle.upgrade(world.lago.state, "sub_ada", "ev")
        await turn(world)
    found = await turn(world)
    assert found == [(False, 1_000, 0), (False, 2_000, 0), (True, 0, 0)]
    world.lago.state.add_events([replace_seq(lost[1])])
    await turn(world)
    assert await turn(world) == [(False, 1_000, 0), (True, 2_000, 2_000), (True, 0, 0)]
    assert len(await world.events("reconcile.mismatch_found")) == 2
