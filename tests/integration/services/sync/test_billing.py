"""A finished session is billed once, to whom it belongs."""

from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from deploy.demo.steve.model import Stop, StopActor
from tests.integration.services.sync.conftest import Build, World, ago


async def test_a_finished_session_is_counted_by_lago(world: World) -> None:
    """A session of a linked card becomes one usage event that Lago counts, and one transaction.synced."""
    await world.link("04A1B2C3")
    pk = world.charge("04a1b2c3", 12_345).pk
    await world.turn()
    assert world.counted() == (12_345, 1)
    assert (await world.session(pk)).billing == "synced"
    [synced] = await world.events("transaction.synced")
    assert synced.data["usage_event_id"] == f"steve:main:{pk}:1"
    assert synced.data["external_subscription_id"] == "sub_ada"
    assert synced.data["final"] is True
    [stored] = list(world.lago.state.events)
    assert stored.properties["kwh"] == "12.345"


async def test_nothing_is_sent_twice(world: World) -> None:
    """Turns without news send nothing."""
    await world.link("A")
    world.charge("A", 5_000)
    for _ in range(3):
        await world.turn()
    assert world.counted() == (5_000, 1)
    assert world.lago.requests.count("POST", "/api/v1/events") == 1


async def test_an_open_session_waits_for_its_end(world: World) -> None:
    """An open session is told as started and billed when it stopped."""
    await world.link("A")
    open_one = world.charge("A", None)
    await world.turn()
    assert world.counted() == (0, 0)
    assert [one.type for one in await world.events("transaction.started", "transaction.stopped")] == [
        "transaction.started"
    ]
    stop_wh = int(open_one.start_value) + 7_000
    world.steve.state.stop_by_station(
        charge_box_id="CP-1", pk=open_one.pk, stop_at=ago(hours=1), stop_wh=stop_wh, reason="Local"
    )
    await world.turn()
    assert world.counted() == (7_000, 1)


async def test_a_changed_stop_is_corrected(world: World) -> None:
    """When the station's own stop replaces a manual one, the difference is billed, also when it is negative."""
    await world.link("A")
    one = world.charge("A", 9_000, stop_actor=StopActor.MANUAL)
    await world.turn()
    assert world.counted() == (9_000, 1)
    start = int(one.start_value)
    world.steve.state.add_stop(
        one.pk, Stop(at=ago(minutes=20), value=str(start + 8_400), reason="Local", actor=StopActor.STATION)
    )
    world.clock.advance(minutes=2)
    await world.turn()
    assert world.counted() == (8_400, 2)
    chain = [(row.seq, row.from_wh - start, row.to_wh - start, row.final) for row in await world.entries(one.pk)]
    assert chain == [(1, 0, 9_000, False), (2, 9_000, 8_400, True)]


async def test_what_was_billed_cannot_be_deleted(world: World) -> None:
    """Whatever the service's code does: the database refuses its role, be the entry counted or still to be sent."""
    await world.link("A")
    pk = world.charge("A", 9_000).pk
    await world.rooms.poller.poll()
    await world.rooms.settler.settle()
    for state in ("pending", "delivered"):
        assert [one.state for one in await world.entries(pk)] == [state]
        with pytest.raises(IntegrityError, match="stays"):
            async with world.service.database.write() as tx:
                await tx.exec_driver_sql("DELETE FROM sync.ledger_entry")
        await world.rooms.delivery.deliver()


async def test_what_lago_has_cannot_be_called_late_and_then_deleted(world: World) -> None:
    """The database refuses the first of these two steps, be the entry delivered or counted."""
    await world.link("A")
    pk = world.charge("A", 9_000).pk
    await world.turn()
    for state in ("delivered", "counted"):
        assert [one.state for one in await world.entries(pk)] == [state]
        with pytest.raises(IntegrityError, match="Lago has it"):
            async with world.service.database.write() as tx:
                await tx.exec_driver_sql("UPDATE sync.ledger_entry SET state = 'held', hold_reason = 'late'")
        await world.rooms.counting.count()


async def test_an_unlinked_card_is_held_with_its_reason(world: World) -> None:
    """A session of a card that is linked to nobody is held, told, and not sent."""
    world.steve.state.add_tag("LONER")
    pk = world.charge("LONER").pk
    await world.turn()
    row = await world.session(pk)
    assert (row.billing, row.hold_reason) == ("held", "card_unlinked")
    [held] = await world.events("transaction.held")
    assert held.data["energy_wh"] == 12_345
    assert world.lago.requests.count("POST", "/api/v1/events") == 0


async def test_a_childs_session_is_its_parents(world: World) -> None:
    """A card without a link of its own is billed to its nearest linked ancestor."""
    world.steve.state.add_tag("META")
    world.steve.state.add_tag("CHILD", parent_id_tag="META")
    await world.link("META")
    pk = world.charge("CHILD", 3_000).pk
    await world.turn()
    assert world.counted() == (3_000, 1)
    assert (await world.session(pk)).owner_id_tag == "META"


async def test_more_than_this_charger_can_deliver_is_held(build_world: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of a charger that is named in the settings holds there, and no more than there."""
    monkeypatch.setenv("EXPRESSYNC_SYNC_CHARGER_KW", '{"CP-7": 11}')
    world = await build_world()
    await world.link("A")
    hour: dict[str, Any] = {"start_at": ago(hours=3), "stop_at": ago(hours=2), "start_wh": 1_000, "stop_wh": 301_000}
    elsewhere = world.charge("A", charge_box_id="CP-1", **hour).pk
    small = world.charge("A", charge_box_id="CP-7", **hour).pk
    await world.turn()
    assert (await world.session(small)).hold_reason == "too_much_energy"
    assert (await world.session(elsewhere)).hold_reason is None
    assert world.counted() == (300_000, 1)
