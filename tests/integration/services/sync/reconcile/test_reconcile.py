"""SteVe = ledger = sent = counted, proven against the simulated Lago, and each way in which it may not be so."""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from deploy.demo.lago import LagoSettings, RateLimits, lifecycle
from deploy.demo.lago.model import Event
from services.sync.reconcile import check, store
from services.sync.reconcile.handlers import NothingBilled
from services.sync.reconcile.rules import Span
from shared.contracts.events.sync import ReconcileMismatchFound
from shared.contracts.problem import Invalid
from shared.contracts.requests.sync_work import Reconcile, ReconcileRow
from shared.database.engine import conninfo
from tests.integration.services.sync.conftest import ADA, LAGO_SEED, Build, World, a_replica, ago

EVENTS = "GET /api/v1/events"


async def settle(world: World) -> None:
    """Everything is delivered and no longer fresh."""
    await world.turn()
    await world.rooms.counting.count()
    world.clock.advance(minutes=10)


async def billed(world: World, *energies: int) -> list[int]:
    """Sessions of Ada's, billed and counted; their ids."""
    await world.link("A")
    pks = [world.charge("A", wh).pk for wh in energies]
    await settle(world)
    return pks


async def prove(world: World, subscription: str = "sub_ada") -> ReconcileRow:
    result = await world.rooms.reconciler.reconcile(Reconcile(external_subscription_id=subscription), ADA)
    (row,) = result.rows
    return row


def sums(row: ReconcileRow) -> tuple[int | None, ...]:
    return row.steve_wh, row.ledger_wh, row.sent_wh, row.counted_wh


def kinds(row: ReconcileRow) -> list[tuple[str, int, str | None]]:
    return [(one.kind, one.wh, one.session) for one in row.differences]


def stored_event(world: World, pk: int) -> Event:
    found = world.lago.state.events.find(f"steve:main:{pk}:1")
    assert found is not None
    return found


def lose(world: World, pk: int) -> Event:
    """Have Lago forget an event that it acknowledged."""
    event = stored_event(world, pk)
    world.lago.state.events._forget(event.seq)
    world.lago.state.events._by_key.pop(world.lago.state.events._key(event), None)
    world.lago.state.catalog_version += 1
    return event


def foreign(world: World, event_id: str, wh: int, **given: Any) -> None:  # noqa: ANN401
    """An event that somebody else sent."""
    stamp = int(ago(days=4).timestamp() * 1_000_000)
    values = {
        "transaction_id": event_id,
        "external_subscription_id": "sub_ada",
        "code": "ev_charging_kwh",
        "timestamp_us": stamp,
        "properties": {"kwh": f"{wh / 1000:.3f}"},
        "created_us": stamp,
    }
    world.lago.state.add_events([Event(**{**values, **given})])


def stops_later(world: World, pk: int, more_wh: int) -> None:
    """Have SteVe's record of a stop say more."""
    stop = world.steve.state.transactions[pk].stops[-1]
    stop.value = str(int(stop.value) + more_wh)


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


async def test_an_event_that_lago_lost_is_found_with_its_session(world: World) -> None:
    """Acknowledged and gone: told as an event with the session, kept, and nothing is repaired by itself."""
    pks = await billed(world, 2_000, 3_500, 7_001)
    lose(world, pks[1])
    row = await prove(world)
    session = f"main:{pks[1]}"
    assert row.equal is False
    assert sums(row) == (12_501, 12_501, 12_501, 9_001)
    assert kinds(row) == [("sent_not_stored", -3_500, session)]
    assert row.sessions == [session]
    assert "the same event is sent again" in row.proposals[0]
    (told,) = await world.events("reconcile.mismatch_found")
    event = ReconcileMismatchFound.model_validate(told.data)
    assert (event.external_subscription_id, event.sessions) == ("sub_ada", [session])
    assert (event.steve_wh, event.counted_wh) == (12_501, 9_001)
    assert told.actorid == "ada"
    await world.turn()
    assert world.counted() == (9_001, 2)


async def test_a_difference_is_told_once_until_it_changes(world: World) -> None:
    """The same one at the next proof is no news; another one is, and its end is seen in what is kept."""
    first, second = await billed(world, 2_000, 3_500)
    lost = lose(world, first)
    for _ in range(3):
        await prove(world)
    assert len(await world.events("reconcile.mismatch_found")) == 1
    also_lost = lose(world, second)
    await prove(world)
    assert len(await world.events("reconcile.mismatch_found")) == 2
    world.lago.state.add_events([replace_seq(lost), replace_seq(also_lost)])
    assert (await prove(world)).equal is True
    assert len(await world.events("reconcile.mismatch_found")) == 2
    (kept,) = await world.rows("SELECT equal, differences FROM sync.reconcile_result")
    assert (kept.equal, kept.differences) == (True, [])


def replace_seq(event: Event) -> Event:
    event.seq = 0
    return event


async def test_an_event_of_somebody_elses_is_found(world: World) -> None:
    """Energy that Lago counts and the ledger does not know, and no other product's events."""
    await billed(world, 2_000)
    foreign(world, "crm-1", 900)
    foreign(world, "crm-2", 70, code="parking")
    row = await prove(world)
    assert kinds(row) == [("unknown_in_ledger", 900, None)]
    assert "crm-1" in row.differences[0].explanation
    assert sums(row) == (2_000, 2_000, 2_000, 2_900)


async def test_another_quantity_under_our_id_is_found(world: World) -> None:
    """Lago counts something else for the same event."""
    (pk,) = await billed(world, 2_000)
    stored_event(world, pk).properties["kwh"] = "1.500"
    world.lago.state.catalog_version += 1
    row = await prove(world)
    assert kinds(row) == [("wrong_quantity", -500, f"main:{pk}")]


async def test_an_event_of_before_its_subscription_is_not_counted(world: World) -> None:
    """Lago has it under an id that nobody had at that time."""
    pks = await billed(world, 2_000, 4_000)
    subscription = world.lago.state.find_subscription("sub_ada")
    assert subscription is not None
    subscription.started_us = stored_event(world, pks[1]).timestamp_us - 1_000_000
    world.lago.state.catalog_version += 1
    # The period begins later by that, so the whole of it as it was believed is compared.
    async with world.service.database.read() as tx:
        believed = await store.believed(tx, "sub_ada")
    assert believed is not None
    span = Span(believed.period_from, world.clock())
    checked = await world.rooms.reconciler._check.closed("sub_ada", span)
    assert checked is not None
    assert [(one.kind, one.wh, one.session) for one in checked.findings.differences] == [
        ("sent_not_counted", -2_000, f"main:{pks[0]}")
    ]


async def test_the_same_id_under_another_subscription_is_found_on_both_sides(world: World) -> None:
    """It is missing here and too much there, each time with the session."""
    await world.link("B", "cus_bob", "sub_bob")
    world.charge("B", 1_000, charge_box_id="CP-2")
    (pk,) = await billed(world, 2_000)
    event = lose(world, pk)
    event.external_subscription_id = "sub_bob"
    world.lago.state.add_events([replace_seq(event)])
    here, there = await prove(world), await prove(world, "sub_bob")
    assert kinds(here) == [("other_subscription", -2_000, f"main:{pk}")]
    assert kinds(there) == [("other_subscription", 2_000, f"main:{pk}")]


async def test_a_second_one_with_another_time_is_counted_twice(build_world: Build) -> None:
    """A ClickHouse organisation counts the same id again when its timestamp differs (facts 6)."""
    world = await build_world(lago=LagoSettings(seed=LAGO_SEED, events_store="clickhouse"))
    (pk,) = await billed(world, 2_000)
    first = stored_event(world, pk)
    foreign(world, first.transaction_id, 2_000, timestamp_us=first.timestamp_us + 1_000_000)
    row = await prove(world)
    assert kinds(row) == [("counted_twice", 2_000, f"main:{pk}")]
    assert sums(row) == (2_000, 2_000, 2_000, 4_000)


async def test_a_plan_that_lost_its_charge_is_found(world: World) -> None:
    """All events are there, and Lago adds up nothing."""
    await billed(world, 2_000)
    world.lago.state.plans["ev"].charges.clear()
    world.lago.state.catalog_version += 1
    row = await prove(world)
    assert kinds(row) == [("no_charge", -2_000, None)]
    assert sums(row) == (2_000, 2_000, 2_000, 0)


async def test_what_lago_reported_as_an_error_is_named_until_it_is_repaired(world: World) -> None:
    """The metric's field was changed: the report says why nothing is counted; changed back, all is proven again."""
    (pk,) = await billed(world, 2_000)
    metric = world.lago.state.metrics["ev_charging_kwh"]
    metric.field_name = "energy"
    world.lago.state.catalog_version += 1
    async with world.service.database.write() as tx:
        await store.report_errors(tx, {f"steve:main:{pk}:1": "missing_aggregation_property"}, world.clock())
    row = await prove(world)
    assert kinds(row) == [("sent_not_counted", -2_000, f"main:{pk}")]
    assert "missing_aggregation_property" in row.differences[0].explanation
    metric.field_name = "kwh"
    world.lago.state.catalog_version += 1
    assert (await prove(world)).equal is True


async def test_a_session_that_the_ledger_missed_is_found(world: World) -> None:
    """SteVe's record and the ledger differ, and nothing is going to be decided: a fault of ours, told as one."""
    pks = await billed(world, 2_000, 3_000)
    with psycopg.connect(conninfo(world.admin_url), autocommit=True) as admin:
        admin.execute("UPDATE sync.session SET stop_wh = stop_wh + 400 WHERE transaction_pk = %s", (pks[1],))
    stops_later(world, pks[1], 400)
    row = await prove(world)
    assert kinds(row) == [("ledger_differs", -400, f"main:{pks[1]}")]
    assert sums(row) == (5_400, 5_000, 5_000, 5_000)


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


async def test_what_is_not_delivered_for_long_is_told(world: World) -> None:
    """An entry that nobody could deliver for more than an hour is not sent, however often it was tried."""
    await billed(world, 2_000)
    pk = world.charge("A", 3_000).pk
    world.lago.faults.add("http_500", path="/api/v1/events/batch")
    with_retries = world.rooms.delivery
    await world.turn()
    world.clock.advance(hours=2)
    row = await prove(world)
    assert kinds(row) == [("not_sent", -3_000, f"main:{pk}")]
    assert sums(row) == (5_000, 5_000, 2_000, 2_000)
    world.lago.faults.clear()
    world.rooms.lago._caller._breaker.succeeded()
    await with_retries.deliver()
    world.clock.advance(minutes=10)
    assert (await prove(world)).equal is True


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


async def test_many_events_are_read_page_by_page(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a page: each event is seen, also while new ones move them about."""
    pks = await billed(world, *([1_000] * 30))
    original = world.rooms.lago.stored_events

    async def small_pages(*given: Any, **named: Any) -> Any:  # noqa: ANN401
        world.lago.state.events._touch(None)
        foreign(world, f"newcomer-{world.lago.requests.total}", 1, timestamp_us=int(ago(days=3).timestamp() * 1e6))
        return await original(*given, **named)

    monkeypatch.setattr(world.rooms.lago, "stored_events", small_pages)
    query = type(world.rooms.lago._caller)
    call = query.call

    async def seven(self: Any, method: str, path: str, form: Any, **given: Any) -> Any:  # noqa: ANN401
        if path == "/api/v1/events" and given.get("query"):
            given["query"] = {**given["query"], "per_page": 7}
        return await call(self, method, path, form, **given)

    monkeypatch.setattr(query, "call", seven)
    lose(world, pks[3])
    row = await prove(world)
    of_ours = [one for one in kinds(row) if one[2] is not None]
    assert of_ours == [("sent_not_stored", -1_000, f"main:{pks[3]}")]


async def test_an_ended_subscription_is_proven_by_its_events(world: World) -> None:
    """Lago's total is about active ones only; its last period is compared event by event."""
    pks = await billed(world, 2_000, 3_000)
    lifecycle.terminate(world.lago.state, "sub_ada")
    row = await prove(world)
    assert (row.equal, sums(row)) == (True, (5_000,) * 4)
    lose(world, pks[0])
    assert kinds(await prove(world)) == [("sent_not_stored", -2_000, f"main:{pks[0]}")]


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
