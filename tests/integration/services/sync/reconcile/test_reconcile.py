"""SteVe = ledger = sent = counted, proven against the simulated Lago: when asked, in turns, and while one is silent."""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest

from deploy.demo.lago import LagoSettings, RateLimits, lifecycle
from services.sync.reconcile import check
from services.sync.reconcile.handlers import NothingBilled
from shared.contracts.problem import Invalid
from shared.contracts.requests.sync_work import Reconcile
from tests.integration.services.sync.conftest import ADA, LAGO_SEED, Build, World, a_replica
from tests.integration.services.sync.reconcile.proving import billed, lose, prove, settle, stops_later, sums

EVENTS = "GET /api/v1/events"


def pages(world: World) -> int:
    return sum(number for route, number in world.lago.requests.by_route.items() if route.startswith(EVENTS))


async def test_what_was_billed_is_proven_by_one_request(world: World) -> None:
    """All four sums are one, Lago is asked for its total only, and nothing is told."""
    await billed(world, 2_000, 3_500, 7_001)
    before = pages(world)
    row = await prove(world)
    assert row.equal is True
    assert sums(row) == (12_501,) * 4
    assert (row.differences, row.sessions, row.proposals, row.problem) == ([], [], [], None)
    assert row.external_customer_id == "cus_ada"
    assert pages(world) == before
    assert await world.events("reconcile.mismatch_found") == []


async def test_what_steve_changed_is_read_first(world: World) -> None:
    """A person who asks has SteVe's record read again; a stop that changed is settled and is then no difference."""
    (pk,) = await billed(world, 2_000)
    stops_later(world, pk, 500)
    row = await prove(world)
    assert (row.equal, sums(row)) == (True, (2_000,) * 4)
    await settle(world)
    row = await prove(world)
    assert (row.equal, sums(row)) == (True, (2_500,) * 4)


async def test_a_silent_steve_is_told_and_no_difference(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gone, slow, or another one by now: its record is as it was read last, the answer says so, and says it soon."""
    (pk,) = await billed(world, 2_000)
    monkeypatch.setattr(check, "REREAD_WITHIN_S", 0.3)
    world.steve.faults.set("down")
    assert "as it was read last: it cannot be reached" in await problem(world)
    world.steve.faults.clear()
    world.rooms.steve._caller._breaker.succeeded()
    world.steve.faults.set("slow", 5_000)
    assert "within 0.3 s" in await problem(world)
    world.steve.faults.clear()
    world.rooms.steve._caller._breaker.succeeded()
    world.steve.state.transactions[pk].start_at += timedelta(hours=1)
    assert "not the SteVe database called main" in await problem(world)


async def problem(world: World) -> str:
    row = await prove(world)
    assert (row.equal, sums(row)) == (True, (2_000,) * 4)
    assert row.problem is not None
    return row.problem


async def test_held_and_running_sessions_are_no_difference(world: World) -> None:
    """What is held stands apart with its energy; what still runs is in nothing."""
    await billed(world, 2_000)
    world.charge("A", 900_000)
    world.charge("A", None)
    await settle(world)
    row = await prove(world)
    assert row.equal is True
    assert sums(row) == (2_000,) * 4
    assert row.held_wh == 900_000


@pytest.mark.parametrize("landed", [False, True])
async def test_what_is_on_its_way_is_no_difference(world: World, landed: bool) -> None:  # noqa: FBT001
    """A batch whose answer was lost may be in Lago or not: it is waited for, and proven when it is there."""
    await billed(world, 2_000)
    world.charge("A", 3_000)
    fault = "drop_after_commit" if landed else "drop_before"
    world.lago.faults.add(fault, path="/api/v1/events/batch", count=1)
    await world.turn()
    row = await prove(world)
    assert row.equal is True
    assert sums(row) == (2_000,) * 4
    assert row.waiting_wh == 3_000
    world.clock.advance(minutes=6)
    await settle(world)
    row = await prove(world)
    assert (row.equal, sums(row), row.waiting_wh) == (True, (5_000,) * 4, 0)


@pytest.mark.parametrize(
    "fault", ["http_503", "html_502", "http_500", "drop_before", "empty_5xx", "login_redirect", "http_429"]
)
@pytest.mark.parametrize("where", ["/api/v1/customers", "/api/v1/events"])
async def test_a_lago_that_does_not_answer_is_never_a_difference(world: World, fault: str, where: str) -> None:
    """Silence about the total or about the events: unknown, with why; nothing told, nothing kept, what was stays."""
    pks = await billed(world, 2_000, 3_000)
    assert (await prove(world)).equal is True
    lose(world, pks[0])
    world.lago.faults.add(fault, path=where)
    row = await prove(world)
    assert row.equal is None
    assert row.counted_wh is None
    assert row.problem is not None
    assert "Lago did not answer" in row.problem
    assert (row.steve_wh, row.ledger_wh, row.sent_wh, row.differences) == (5_000, 5_000, 5_000, [])
    assert await world.events("reconcile.mismatch_found") == []
    (kept,) = await world.rows("SELECT equal FROM sync.reconcile_result")
    assert kept.equal is True


async def test_nothing_billed_is_told_apart_from_equal(world: World) -> None:
    """A subscription to which nothing was ever billed is no subject, and the answer says what to do."""
    with pytest.raises(NothingBilled, match="sub_typo"):
        await prove(world, "sub_typo")


async def test_all_are_proven_page_by_page(world: World) -> None:
    """Without a name all subscriptions that were ever billed are compared, in pages, and one that differs is told."""
    await world.link("B", "cus_bob", "sub_bob")
    other = world.charge("B", 1_000, charge_box_id="CP-2").pk
    await billed(world, 2_000)
    lose(world, other)
    first = await world.rooms.reconciler.reconcile(Reconcile(limit=1), ADA)
    assert [(row.external_subscription_id, row.equal) for row in first.rows] == [("sub_ada", True)]
    rest = await world.rooms.reconciler.reconcile(Reconcile(limit=5, cursor=first.next_cursor), ADA)
    assert [(row.external_subscription_id, row.equal) for row in rest.rows] == [("sub_bob", False)]
    assert rest.next_cursor is None


async def test_nothing_is_written_any_more_once_comparing_all_has_failed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one of several comparisons breaks off, the others have ended, and are kept, before that is told."""
    await world.link("B", "cus_bob", "sub_bob")
    world.charge("B", 1_000, charge_box_id="CP-2")
    await billed(world, 2_000)
    real = check.Check.current

    async def breaks(self: check.Check, subscription: str) -> check.Checked | None:
        if subscription == "sub_ada":
            raise RuntimeError(subscription)
        await asyncio.sleep(0.1)
        return await real(self, subscription)

    monkeypatch.setattr(check.Check, "current", breaks)
    with pytest.raises(RuntimeError):
        await world.rooms.reconciler.reconcile(Reconcile(), ADA)
    kept = await world.rows("SELECT external_subscription_id FROM sync.reconcile_result")
    assert [row.external_subscription_id for row in kept] == ["sub_bob"]


async def test_what_was_proven_can_be_listed_without_asking_lago(world: World) -> None:
    """Kept results come with their differences and the time of the proof, by page, or only those that differ."""
    await world.link("B", "cus_bob", "sub_bob")
    other = world.charge("B", 1_000, charge_box_id="CP-2").pk
    await billed(world, 2_000)
    lose(world, other)
    proven = await world.rooms.reconciler.reconcile(Reconcile(), ADA)
    asked = world.lago.requests.total
    listed = await world.rooms.reconciler.reconcile(Reconcile(stored=True), ADA)
    assert listed.rows == proven.rows
    first = await world.rooms.reconciler.reconcile(Reconcile(stored=True, limit=1), ADA)
    rest = await world.rooms.reconciler.reconcile(Reconcile(stored=True, cursor=first.next_cursor), ADA)
    assert [*first.rows, *rest.rows] == listed.rows
    differing = await world.rooms.reconciler.reconcile(Reconcile(stored=True, differing=True), ADA)
    assert [row.external_subscription_id for row in differing.rows] == ["sub_bob"]
    assert world.lago.requests.total == asked
    with pytest.raises(Invalid):
        await world.rooms.reconciler.reconcile(Reconcile(stored=True, cursor="nonsense"), ADA)


async def test_it_is_proven_in_turns(world: World) -> None:
    """Each subscription has its turn, then again after the interval; a difference is counted for the dashboards."""
    (pk,) = await billed(world, 2_000)
    assert await world.rooms.reconciler.run_due() == 1
    assert await world.rooms.reconciler.run_due() == 0
    lose(world, pk)
    world.clock.advance(seconds=world.settings.reconcile_every_s + 1)
    assert await world.rooms.reconciler.run_due() == 1
    (told,) = await world.events("reconcile.mismatch_found")
    assert (told.actorkind, told.actorid) == ("system", "sync")
    assert world.service.registry.get_sample_value("reconcile_differing_periods") == 1


async def test_a_turn_without_an_answer_comes_again_soon(world: World) -> None:
    """Where Lago is silent the subscription is due again after a minute, then two, not after hours."""
    await billed(world, 2_000)
    world.lago.faults.add("http_503")
    for attempts in (1, 2):
        assert await world.rooms.reconciler.run_due() == 1
        (row,) = await world.rows("SELECT * FROM sync.reconcile_subject")
        assert row.attempts == attempts
        assert row.due_at - world.clock() <= timedelta(minutes=attempts)
        world.clock.advance(minutes=3)
    world.lago.faults.clear()
    world.rooms.lago._caller._breaker.succeeded()
    assert await world.rooms.reconciler.run_due() == 1
    (row,) = await world.rows("SELECT * FROM sync.reconcile_subject")
    assert (row.attempts, row.due_at > world.clock() + timedelta(hours=5)) == (0, True)


async def test_a_period_that_is_over_is_compared_once_more(world: World) -> None:
    """What came after its last comparison is not lost from sight because a new period has begun."""
    lost, _ = await billed(world, 2_000, 3_000)
    await world.rooms.reconciler.run_due()
    lose(world, lost)
    lifecycle.upgrade(world.lago.state, "sub_ada", "ev")
    world.clock.advance(seconds=world.settings.reconcile_every_s + 1)
    # An upgrade in the middle of a period: the rest of it, to which nothing was billed yet, is the successor's.
    await world.rooms.reconciler.run_due()
    first, second = await world.rows("SELECT * FROM sync.reconcile_result ORDER BY period_from")
    assert [(row.equal, row.steve_wh, row.counted_wh) for row in (first, second)] == [
        (False, 5_000, 3_000),
        (True, 0, 0),
    ]
    assert first.period_to < second.period_from


async def test_two_replicas_compare_each_once(world: World) -> None:
    """In turns at the same time, each subscription is compared by one of them, and a difference is told once."""
    await world.link("B", "cus_bob", "sub_bob")
    world.charge("B", 1_000, charge_box_id="CP-2")
    (pk,) = await billed(world, 2_000)
    lose(world, pk)
    async with AsyncExitStack() as stack:
        _, other = await a_replica(stack, world.settings, world.clock)
        done = await asyncio.gather(world.rooms.reconciler.run_due(), other.reconciler.run_due())
        assert sum(done) == 2
        request = Reconcile(external_subscription_id="sub_ada")
        await asyncio.gather(*(one.reconciler.reconcile(request, ADA) for one in (world.rooms, other)))
    assert len(await world.events("reconcile.mismatch_found")) == 1


async def test_a_rate_limit_of_lagos_cloud_is_enough(build_world: Build) -> None:
    """Proving is one request a subscription where all is well: Lago's own limits are not met."""
    world = await build_world(lago=LagoSettings(seed=LAGO_SEED, limits=RateLimits(current_usage=200, other=50)))
    await billed(world, 2_000)
    before = world.lago.requests.total
    await world.rooms.reconciler.run_due()
    assert world.lago.requests.total - before == 1
