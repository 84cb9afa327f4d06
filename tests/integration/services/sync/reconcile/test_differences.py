"""Each way in which SteVe, ledger, sent and counted may differ, against the simulated Lago."""

from typing import Any

import psycopg
import pytest

from deploy.demo.lago import LagoSettings, lifecycle
from services.sync.reconcile import store
from services.sync.reconcile.rules import Span
from shared.contracts.events.sync import ReconcileMismatchFound
from shared.database.engine import conninfo
from tests.integration.services.sync.conftest import LAGO_SEED, Build, World, ago
from tests.integration.services.sync.reconcile.proving import (
    billed,
    foreign,
    kinds,
    lose,
    prove,
    replace_seq,
    stops_later,
    stored_event,
    sums,
)


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
