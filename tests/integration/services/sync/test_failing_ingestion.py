"""A Lago that takes no events, or not all of them: none is lost, and none is blamed for what others fail at too."""

import contextlib
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest
import sqlalchemy as sa

from deploy.demo.lago import LagoSettings
from services.sync.lago.client import BatchRefused
from services.sync.lago.models import StoredEvent, UsageEvent
from services.sync.ledger import delivery
from services.sync.ledger.tables import entry
from services.sync.upstreams.errors import RefusedError, UnavailableError, UpstreamError
from tests.integration.services.sync.conftest import LAGO_SEED, Build, World, a_replica
from tests.integration.services.sync.delivering import BATCH, keep_time, turns


@pytest.mark.parametrize("bad_ones", ["C", "CD"])
async def test_an_event_that_lago_cannot_bear_is_found_by_halving(build_world: Build, bad_ones: str) -> None:
    """Where Lago takes others and a batch fails again and again, the rest goes, and each event that causes it is held
    after it failed alone for a while.
    """
    world = await build_world(lago=LagoSettings(seed=LAGO_SEED, max_properties_bytes=300))
    await world.link("A")
    for _ in range(8):
        world.charge("A", 2_000)
    bad = [world.charge("A", 2_000, charge_box_id=letter * 255).pk for letter in bad_ones]
    await turns(world, 5)
    assert world.counted() == (16_000, 8)
    assert [(await world.session(one)).billing for one in bad] == ["pending"] * len(bad)
    for more in range(1, 9):
        world.charge("A", 1_000)
        await turns(world, 2)
        assert world.counted() == (16_000 + more * 1_000, 8 + more)
    for row in [await world.session(one) for one in bad]:
        assert (row.billing, row.hold_reason) == ("held", "lago_fails_on_it")
    assert world.rooms.health.standing("lago").state == "ok"


async def test_an_event_that_fails_all_alone_is_held_in_the_end(build_world: Build) -> None:
    """Nothing else tells whether Lago takes any: for hours it counts as lost, and then this event is set aside."""
    world = await build_world(lago=LagoSettings(seed=LAGO_SEED, max_properties_bytes=300))
    await world.link("A")
    bad = world.charge("A", 2_000, charge_box_id="C" * 255).pk
    await turns(world, 10)
    assert (await world.session(bad)).billing == "pending"
    assert world.rooms.health.standing("lago").state == "lost"
    world.clock.advance(hours=6)
    await turns(world, 1)
    row = await world.session(bad)
    assert (row.billing, row.hold_reason) == ("held", "lago_fails_on_it")
    assert world.rooms.health.standing("lago").state == "ok"


async def test_a_lago_that_takes_no_events_for_a_while_loses_and_holds_nothing(
    build_world: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it answers all else, as with its database gone over to another, each event waits, also those that came
    before and after one that went through; it counts as lost, and is asked rarely.
    """
    # Another lane's would go through beside the one.
    world = await build_world(in_flight=1)
    await world.link("A")
    for _ in range(5):
        world.charge("A", 1_000)
    lago, faults = world.rooms.lago, world.lago.faults
    send = lago.send

    async def send_one(events: Sequence[UsageEvent]) -> BatchRefused | None:
        monkeypatch.undo()
        faults.clear()
        done = await send(events)
        faults.add("http_500", path=BATCH)
        return done

    faults.add("http_500", path=BATCH)
    await world.turn()
    stood: list[tuple[str, str | None]] = []
    for turn in range(120):
        if turn == 60:
            monkeypatch.setattr(lago, "send", send_one)
            world.clock.advance(minutes=6)
        world.clock.advance(seconds=5 if turn < 60 else 60)
        await world.rooms.delivery.deliver()
        lago._caller._breaker.succeeded()
        await lago.probe()
        standing = world.rooms.health.standing("lago")
        stood.append((standing.state, standing.reason))
    # Once it took one it counts as well, until it fails on two again, which come within five minutes.
    well = stood.count(("ok", None))
    assert 1 <= well <= 10
    lost = ("lost", "server_error")
    assert stood == [lost] * 60 + [("ok", None)] * well + [lost] * (60 - well)
    assert world.counted() == (1_000, 1)
    found = Counter(row.billing for row in await world.rows("SELECT billing FROM sync.session"))
    assert found == {"pending": 4, "synced": 1}
    assert world.lago.requests.count("POST", BATCH) < 100
    faults.clear()
    await turns(world)
    assert world.counted() == (5_000, 5)
    assert world.rooms.health.standing("lago").state == "ok"


async def test_two_that_fail_are_not_alone(build_world: Build) -> None:
    """They look like a Lago that takes none, for however long, and wait; what comes then is delivered all the same."""
    world = await build_world(lago=LagoSettings(seed=LAGO_SEED, max_properties_bytes=300))
    await world.link("A")
    bad = [world.charge("A", 2_000, charge_box_id=letter * 255).pk for letter in "CD"]
    await turns(world, 3)
    world.clock.advance(hours=6)
    await turns(world, 3)
    assert world.rooms.health.standing("lago").state == "lost"
    world.charge("A", 1_000)
    await turns(world, 2)
    assert world.counted() == (1_000, 1)
    assert [(await world.session(one)).billing for one in bad] == ["pending", "pending"]


async def test_a_lago_that_takes_no_events_for_hours_holds_none(world: World) -> None:
    """Each of them fails alone for longer than one that is quite alone may: as long as another one waits, in whatever
    replica, also in one that has just started, none is to blame, and Lago counts as lost.
    """
    await world.link("A")
    for _ in range(4):
        world.charge("A", 1_000)
    world.lago.faults.add("http_500", path=BATCH)
    await world.turn()
    async with AsyncExitStack() as stack:
        replicas = [world.rooms, (await a_replica(stack, world.settings, world.clock))[1]]
        for turn in range(55):
            if turn == 50:
                replicas[0] = (await a_replica(stack, world.settings, world.clock))[1]
            world.clock.advance(minutes=7)
            for one in replicas if turn % 2 else reversed(replicas):
                one.lago._caller._breaker.succeeded()
                await one.delivery.deliver()
        assert {row.billing for row in await world.rows("SELECT billing FROM sync.session")} == {"pending"}
        assert [one.health.standing("lago").state for one in replicas] == ["lost", "lost"]
        world.lago.faults.clear()
        await turns(world)
    assert world.counted() == (4_000, 4)


async def test_what_fails_in_another_replica_fails_too(world: World) -> None:
    """Where each of two replicas comes upon one event only, both fail on all: none is to blame, also if it failed once
    before Lago took others.
    """
    await world.link("A")
    world.lago.faults.add("http_500", path=BATCH, count=1)
    early = world.charge("A", 1_000).pk
    await world.turn()

    async def only(pk: int) -> None:
        """Make this one due, and no other."""
        due = sa.case((entry.c.transaction_pk == pk, world.clock()), else_=world.clock() + timedelta(days=1))
        async with world.service.database.write() as tx:
            await tx.execute(sa.update(entry).where(entry.c.state == "sending").values(due_at=due))

    await only(-1)
    world.charge("A", 2_000)
    await world.turn()
    assert world.counted() == (2_000, 1)
    world.lago.faults.add("http_500", path=BATCH)
    late = world.charge("A", 4_000).pk
    async with AsyncExitStack() as stack:
        _, second = await a_replica(stack, world.settings, world.clock)
        await second.poller.poll()
        await second.settler.settle()
        for _ in range(2 * delivery.HOLD_AFTER):
            for rooms, pk in ((second, late), (world.rooms, early)):
                world.clock.advance(minutes=2)
                rooms.lago._caller._breaker.succeeded()
                await only(pk)
                await rooms.delivery.deliver()
    assert [(await world.session(pk)).billing for pk in (early, late)] == ["pending", "pending"]
    world.lago.faults.clear()
    await only(early)
    await turns(world)
    await only(late)
    await turns(world)
    assert world.counted() == (7_000, 3)


async def test_what_another_replica_delivered_fails_no_more(world: World) -> None:
    """A replica that Lago failed hears nothing of it any more; it says that Lago is back all the same."""
    await world.link("A")
    world.charge("A", 1_000)
    world.lago.faults.add("http_500", path=BATCH)
    for _ in range(3):
        await world.turn()
        world.clock.advance(minutes=2)
    assert world.rooms.health.standing("lago").state == "lost"
    world.lago.faults.clear()
    async with AsyncExitStack() as stack:
        _, second = await a_replica(stack, world.settings, world.clock)
        world.clock.advance(minutes=6)
        await second.delivery.deliver()
    assert world.counted() == (1_000, 1)
    await world.turn()
    assert world.rooms.health.standing("lago").state == "ok"


async def test_a_lago_that_takes_events_and_says_otherwise_is_back_once_they_are_found(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a proxy gave up on it, Lago counts as lost until its events are read back: it did not fail on them."""
    await world.link("A")
    lago = world.rooms.lago
    send = lago.send

    async def too_long(events: Sequence[UsageEvent]) -> BatchRefused | None:
        await send(events)
        raise UnavailableError("lago", "server_error", "answered 504")

    monkeypatch.setattr(lago, "send", too_long)
    for _ in range(2):
        world.charge("A", 1_000)
        await turns(world, 1)
    await lago.probe()
    assert world.rooms.health.standing("lago").state == "lost"
    monkeypatch.undo()
    await turns(world, 1)
    assert world.rooms.health.standing("lago").state == "ok"
    rows = await world.rows("SELECT state, delivered_by FROM sync.ledger_entry")
    assert {(row.state, row.delivered_by) for row in rows} == {("delivered", "read_back")}
    assert world.counted() == (2_000, 2)


@pytest.mark.parametrize(
    ("fault", "path", "reason"), [("down", "", "unreachable"), ("http_500", BATCH, "server_error")]
)
async def test_a_lago_that_is_down_is_no_hot_loop_and_loses_nothing(
    world: World, fault: str, path: str, reason: str
) -> None:
    """While Lago is down, or takes no events, it is asked rarely, the state has a name, and everything is delivered
    afterwards.
    """
    await world.link("A")
    world.lago.faults.add(fault, path=path)
    for _ in range(3):
        world.charge("A", 1_000)
    for _ in range(50):
        with contextlib.suppress(UpstreamError):
            await world.turn()
    assert world.lago.requests.total < 20
    assert world.rooms.health.standing("lago").state == "lost"
    assert world.rooms.health.standing("lago").reason == reason
    assert {row.billing for row in await world.rows("SELECT billing FROM sync.session")} == {"pending"}
    world.lago.faults.clear()
    await turns(world)
    assert world.counted() == (3_000, 3)
    assert world.rooms.health.standing("lago").state == "ok"


async def test_a_rate_limit_is_kept_to(world: World) -> None:
    """After a 429 Lago is left alone for the time it names, and this is no loss."""
    await world.link("A")
    world.charge("A", 1_000)
    keep_time(world)
    world.lago.faults.add("http_429", 30, path=BATCH, count=1)
    await world.turn()
    [row] = await world.rows("SELECT due_at, attempts FROM sync.ledger_entry")
    assert row.due_at - world.clock() > timedelta(seconds=25)
    assert world.rooms.health.standing("lago").state == "ok"
    await turns(world, 2)
    assert world.counted() == (1_000, 1)


async def test_what_lago_will_not_say_of_one_event_holds_up_no_other(
    build_world: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where Lago refuses to say what it has under one id, that event waits, and nothing is called refused."""
    world = await build_world(lago=LagoSettings(seed=LAGO_SEED, events_store="clickhouse"))
    await world.link("A")
    pks = [world.charge("A", 2_000).pk for _ in range(3)]
    world.lago.faults.add("drop_before", path=BATCH, count=1)
    ask = world.rooms.lago.stored_event

    async def stored_event(transaction_id: str) -> StoredEvent | None:
        if transaction_id == f"steve:main:{pks[1]}:1":
            raise RefusedError("lago", 400, {"error": "bad request"})
        return await ask(transaction_id)

    monkeypatch.setattr(world.rooms.lago, "stored_event", stored_event)
    await turns(world, 2)
    assert world.counted() == (4_000, 2)
    assert [(await world.session(pk)).billing for pk in pks] == ["synced", "pending", "synced"]
    [waiting] = await world.entries(pks[1])
    assert (waiting.state, "bad request" in waiting.last_error) == ("sending", True)
    monkeypatch.undo()
    await turns(world, 2)
    assert world.counted() == (6_000, 3)
