"""Each Wh is counted once, whatever happens between us and Lago."""

import asyncio
import contextlib
from datetime import datetime

import pytest

from deploy.demo.lago import LagoSettings, RateLimits
from deploy.demo.lago.model import Event
from deploy.demo.lago.settings import EventsStore
from services.sync.lago.models import UsageEvent
from services.sync.ledger import delivery
from services.sync.ledger.store import Entry
from services.sync.ledger.telling import as_event
from services.sync.upstreams.errors import UpstreamError
from shared.contracts.requests.sync_work import StartRun
from tests.integration.services.sync.conftest import ADA, LAGO_SEED, Build, World, ago, eventually
from tests.integration.services.sync.delivering import BATCH, turns


@pytest.mark.parametrize("fault", ["drop_after_commit", "drop_before", "http_500", "html_502", "empty_5xx", "http_503"])
async def test_an_answer_that_was_lost_is_no_second_delivery(world: World, fault: str) -> None:
    """Whether Lago stored the batch or not, after the retry each session is counted once."""
    await world.link("A")
    for _ in range(5):
        world.charge("A", 2_000)
    world.lago.faults.add(fault, path=BATCH, count=1)
    await turns(world)
    assert world.counted() == (10_000, 5)
    assert {row.billing for row in await world.rows("SELECT billing FROM sync.session")} == {"synced"}
    assert len(await world.events("transaction.synced")) == 5


async def test_a_lost_commit_is_recognised_by_reading_back(build_world: Build) -> None:
    """Duplicates count as delivered because they were read back and are the same."""
    # Two lanes may share them out between them, and then one of the two batches is acknowledged.
    world = await build_world(in_flight=1)
    await world.link("A")
    for _ in range(3):
        world.charge("A", 2_000)
    world.lago.faults.add("drop_after_commit", path=BATCH, count=1)
    await turns(world)
    rows = await world.rows("SELECT delivered_by, attempts FROM sync.ledger_entry")
    assert {(row.delivered_by, row.attempts) for row in rows} == {("read_back", 2)}


async def test_another_event_under_our_id_is_a_conflict(world: World) -> None:
    """An event that Lago has under our id, with another value, is not taken for ours."""
    await world.link("A")
    pk = world.charge("A", 2_000).pk
    stamp = int(ago(days=4).timestamp() * 1_000_000)
    foreign = Event(
        transaction_id=f"steve:main:{pk}:1",
        external_subscription_id="sub_ada",
        code="ev_charging_kwh",
        timestamp_us=stamp,
        properties={"kwh": "1.000"},
        created_us=stamp,
    )
    world.lago.state.add_events([foreign])
    other = world.charge("A", 3_000).pk
    await turns(world, 1)
    row = await world.session(pk)
    assert (row.billing, row.hold_reason) == ("held", "id_conflict")
    assert "1.000" in row.hold_explanation
    assert (await world.session(other)).billing == "synced"


async def test_nothing_is_on_its_way_once_a_delivery_has_failed(world: World) -> None:
    """Where one of several lanes cannot ask Lago, those that could end what they have begun before that is told."""
    await world.link("A")
    world.charge("A", 2_000)
    await world.rooms.mirror.refresh()
    await world.rooms.poller.poll()
    await world.rooms.settler.settle()
    # As in a process that has just begun, and has not asked yet how Lago is set up.
    world.rooms.gate._state, world.rooms.gate._checked_at = "unknown", None
    world.lago.faults.add("drop_before", path="/api/v1/billable_metrics", count=1)
    world.lago.faults.add("slow", 300, path=BATCH)
    with pytest.raises(UpstreamError):
        await world.rooms.delivery.deliver()
    assert {row.state for row in await world.rows("SELECT state FROM sync.ledger_entry")} == {"delivered"}


@pytest.mark.parametrize("events_store", ["postgres", "clickhouse"])
async def test_what_was_tried_before_is_read_back_before_it_counts(
    build_world: Build, events_store: EventsStore
) -> None:
    """At a second attempt, what Lago has under the id is looked at, whether it says that it has it or, with ClickHouse,
    would take it once more: another event there is a conflict, and nothing is told as billed.
    """
    world = await build_world(lago=LagoSettings(seed=LAGO_SEED, events_store=events_store))
    await world.link("A")
    pk = world.charge("A", 2_000).pk
    world.lago.faults.add("drop_before", path=BATCH, count=1)
    await turns(world, 1)
    stamp = int(ago(days=4).timestamp() * 1_000_000)
    foreign = Event(
        transaction_id=f"steve:main:{pk}:1",
        external_subscription_id="sub_ada",
        code="ev_charging_kwh",
        timestamp_us=stamp,
        properties={"kwh": "1.000"},
        created_us=stamp,
    )
    world.lago.state.add_events([foreign])
    await turns(world, 2)
    [entry] = await world.entries(pk)
    assert (entry.attempts, entry.state, entry.delivered_at) == (2, "held", None)
    assert (await world.session(pk)).hold_reason == "id_conflict"
    assert world.counted() == (1_000, 1)
    assert await world.events("transaction.synced") == []


async def test_the_same_id_under_another_subscription_is_not_ours(world: World) -> None:
    """Uniqueness is per subscription: an equal id of somebody else's does not stop ours."""
    await world.link("A")
    pk = world.charge("A", 2_000).pk
    stamp = int(ago(days=4).timestamp() * 1_000_000)
    foreign = Event(
        transaction_id=f"steve:main:{pk}:1",
        external_subscription_id="sub_bob",
        code="ev_charging_kwh",
        timestamp_us=stamp,
        properties={"kwh": "1.000"},
        created_us=stamp,
    )
    world.lago.state.add_events([foreign])
    world.lago.faults.add("drop_after_commit", path=BATCH, count=1)
    await turns(world)
    assert world.counted("sub_ada") == (2_000, 1)
    assert (await world.session(pk)).billing == "synced"


async def test_one_bad_event_is_set_aside_alone(build_world: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event that Lago refuses is held with its words, and the rest of the batch is delivered."""
    metric = {**LAGO_SEED["metrics"][0], "expression": "event.properties.kwh"}
    world = await build_world(lago=LagoSettings(seed={**LAGO_SEED, "metrics": [metric]}))
    await world.link("A")
    for _ in range(4):
        world.charge("A", 2_000)
    bad = world.charge("A", 2_000, charge_box_id="BAD").pk

    def without_kwh(one: Entry) -> UsageEvent:
        event = as_event(one)
        return event.model_copy(update={"properties": {"session": "x"}}) if one.transaction_pk == bad else event

    monkeypatch.setattr(delivery, "as_event", without_kwh)
    await turns(world, 1)
    assert world.counted() == (8_000, 4)
    row = await world.session(bad)
    assert (row.billing, row.hold_reason) == ("held", "lago_refused")
    assert "kwh" in row.hold_explanation


async def test_a_whole_backlog_goes_in_batches(build_world: Build) -> None:
    """1,050 sessions take eleven batches, few in flight, under a cloud's rate limit."""
    limited = LagoSettings(seed=LAGO_SEED, limits=RateLimits(ingestion=5, other=50))
    world = await build_world(lago=limited)
    await world.link("A")
    for _ in range(1_050):
        world.charge("A", 1_000)

    async def all_counted() -> bool:
        with contextlib.suppress(UpstreamError):
            await world.turn()
        world.clock.advance(minutes=6)
        return world.counted() == (1_050_000, 1_050)

    # The limit is Lago's own, by the second.
    await eventually(all_counted, within_s=20)
    assert world.lago.requests.most_in_flight <= 4
    assert 11 <= world.lago.requests.count("POST", BATCH) < 40


async def test_a_run_and_the_service_itself_share_what_may_be_in_flight(build_world: Build) -> None:
    """A run's deliveries come on top of those that go on by themselves, and no more is on its way to Lago for it."""
    world = await build_world(in_flight=1)
    await world.link("A")
    for _ in range(delivery.CLAIM + 200):
        world.charge("A", 1_000)
    await world.rooms.poller.poll()
    while await world.rooms.settler.settle():
        pass
    assert await world.rooms.gate.is_open()
    world.lago.faults.add("slow", 100, path=BATCH)
    world.lago.requests.most_in_flight = 0
    async with world.service.database.write() as tx:
        await world.rooms.runs.start_run(tx, StartRun(segments=["deliver"]), ADA)
    await asyncio.gather(world.rooms.delivery.lane(), world.rooms.runner.turn())
    assert world.counted() == (1_000 * (delivery.CLAIM + 200), delivery.CLAIM + 200)
    assert world.lago.requests.most_in_flight == 1


async def test_clickhouse_takes_each_event_once(build_world: Build) -> None:
    """A Lago with ClickHouse never rejects a duplicate: what may be there is looked for before it is sent again."""
    world = await build_world(lago=LagoSettings(seed=LAGO_SEED, events_store="clickhouse"))
    await world.link("A")
    for _ in range(3):
        world.charge("A", 2_000)
    world.lago.faults.add("drop_after_commit", path=BATCH, count=1)
    await turns(world)
    assert world.counted() == (6_000, 3)
    assert world.lago.requests.count("POST", BATCH) == 1


async def test_a_delivered_session_becomes_counted(world: World) -> None:
    """What Lago shows as a subscription's event is counted, and told so."""
    await world.link("A")
    pk = world.charge("A", 1_000).pk
    await world.turn()
    for _ in range(2):
        await world.rooms.counting.count()
        assert (await world.session(pk)).billing == "counted"
        [counted] = await world.events("transaction.counted")
        assert counted.data["usage_event_id"] == f"steve:main:{pk}:1"


async def test_what_lago_does_not_count_is_looked_for_again(world: World) -> None:
    """An event that Lago took and forgot is never called counted."""
    await world.link("A")
    pk = world.charge("A", 1_000).pk
    await world.turn()
    stored = list(world.lago.state.events)
    stored[0].external_subscription_id = "gone"
    world.lago.state.events._by_subscription.clear()
    await world.rooms.counting.count()
    assert (await world.session(pk)).billing == "synced"
    [row] = await world.rows("SELECT looked_for, due_at FROM sync.ledger_entry")
    assert row.looked_for == 1
    assert isinstance(row.due_at, datetime)
