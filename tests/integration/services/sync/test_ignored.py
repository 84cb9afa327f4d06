"""What was ignored is the energy that was there to see: other energy is not, and who ignored it can take it back."""

from datetime import timedelta

import pytest

from deploy.demo.steve.model import Stop, StopActor, Transaction
from shared.contracts.requests.sync_work import IgnoreHeld, ReleaseHeld, RetryHeld
from tests.integration.services.sync.conftest import World, ago
from tests.integration.services.sync.reconcile.proving import prove, settle, sums
from tests.integration.services.sync.test_held import do, held
from tests.integration.services.sync.test_held_entries import clear_conflict, conflict


async def ignore(world: World, one: Transaction) -> str:
    session = f"main:{one.pk}"
    assert (await do(world, IgnoreHeld(sessions=[session], note="nobody charged"))).sessions == [session]
    return session


async def own_stop(world: World, one: Transaction, energy_wh: int) -> None:
    """The station tells late how it really ended."""
    at, value = one.start_at + timedelta(hours=2), str(int(one.start_value) + energy_wh)
    world.steve.state.add_stop(one.pk, Stop(at=at, value=value, reason="Local", actor=StopActor.STATION))
    await settle(world)


@pytest.mark.parametrize("way_out", ["release", "retry"])
@pytest.mark.parametrize("before", ["no_energy", "open_too_long"])
async def test_energy_that_comes_after_an_ignore_is_held(world: World, before: str, way_out: str) -> None:
    """Neither dropped nor billed by itself or by a retry of all: who knows the session decides, and then it is billed
    once.
    """
    await world.link("A")
    world.charge("A", 1_000, charge_box_id="CP-2")
    if before == "no_energy":
        one = world.charge("A", 0, stop_actor=StopActor.MANUAL)
    else:
        one = world.charge("A", None, start_at=ago(days=4))
    await world.turn()
    world.clock.advance(seconds=1)
    await world.rooms.poller.hold_stuck()
    await settle(world)
    assert (await world.session(one.pk)).hold_reason == before
    session = await ignore(world, one)
    await own_stop(world, one, 20_000)
    await do(world, RetryHeld(everything=True))
    await settle(world)
    [queued] = (await held(world)).held
    assert (queued.session.session, queued.reason, queued.energy_wh) == (session, "changed_since_ignored", 20_000)
    assert queued.remedy
    row = await prove(world)
    assert (row.equal, row.held_wh, row.ignored_wh) == (True, 20_000, 0)
    await do(world, ReleaseHeld(sessions=[session]) if way_out == "release" else RetryHeld(sessions=[session]))
    await settle(world)
    assert world.counted() == (21_000, 2)
    assert [each.data["reason"] for each in await world.events("transaction.held")] == [before, "changed_since_ignored"]


async def test_the_same_energy_stays_ignored_and_is_shown(world: World) -> None:
    """A stop that only becomes final changes nothing; the proof tells what is ignored apart from what is held."""
    await world.link("A")
    world.charge("A", 1_000, charge_box_id="CP-2")
    one = world.charge("A", 500_000, stop_actor=StopActor.MANUAL)
    await world.turn()
    await ignore(world, one)
    await own_stop(world, one, 500_000)
    assert (await world.session(one.pk)).billing == "ignored"
    row = await prove(world)
    assert (row.equal, sums(row)) == (True, (1_000,) * 4)
    assert (row.held_wh, row.ignored_wh) == (0, 500_000)


async def test_energy_that_is_corrected_to_what_was_ignored_is_ignored_again(world: World) -> None:
    """Held while it was another one; then there is nothing to decide, which is told. It can still be taken back."""
    await world.link("A")
    one = world.charge("A", 500_000, stop_actor=StopActor.MANUAL)
    await world.turn()
    session = await ignore(world, one)
    await own_stop(world, one, 501_000)
    [queued] = (await held(world)).held
    assert queued.reason == "changed_since_ignored"
    await own_stop(world, one, 500_000)
    await world.rooms.poller.reread([one.pk])
    await settle(world)
    row = await world.session(one.pk)
    assert (row.billing, row.hold_reason, row.hold_explanation, row.held_at) == ("ignored", None, None, None)
    assert (await held(world)).held == []
    told = (await world.events("transaction.ignored"))[-1]
    assert (told.actorid, told.data["reason"], told.data["energy_wh"]) == ("sync", "changed_since_ignored", 500_000)
    assert world.counted() == (0, 0)
    assert (await do(world, RetryHeld(sessions=[session]))).sessions == [session]
    await settle(world)
    assert world.counted() == (500_000, 1)


async def test_an_ignored_session_is_taken_back_by_its_name(world: World) -> None:
    """A retry of all leaves it ignored, one by its name decides about it anew and lets nothing pass."""
    await world.link("A")
    one = world.charge("A", 500_000)
    await world.turn()
    session = await ignore(world, one)
    assert (await do(world, RetryHeld(everything=True))).count == 0
    assert (await world.session(one.pk)).billing == "ignored"
    assert (await do(world, RetryHeld(sessions=[session]))).sessions == [session]
    await world.turn()
    row = await world.session(one.pk)
    assert (row.billing, row.hold_reason) == ("held", "too_much_energy")
    assert [each.data["reason"] for each in await world.events("transaction.released")] == ["ignored"]
    await do(world, ReleaseHeld(sessions=[session]))
    await world.turn()
    assert world.counted() == (500_000, 1)


async def test_an_ignored_conflict_is_not_sent_by_a_retry_of_a_class(world: World) -> None:
    """Its energy was billed by hand: the station's own stop brings it back as one that was ignored, not as the conflict
    it was, so that only who names it has it sent.
    """
    await world.link("A")
    one = world.charge("A", 9_000, stop_actor=StopActor.MANUAL)
    conflict(world, one.pk)
    await world.turn()
    session = await ignore(world, one)
    await own_stop(world, one, 9_500)
    [queued] = (await held(world)).held
    assert (queued.reason, queued.energy_wh) == ("changed_since_ignored", 9_500)
    assert (await world.events("transaction.held"))[-1].data["energy_wh"] == 9_500
    clear_conflict(world, one.pk)
    for retry in (
        RetryHeld(reason="changed_since_ignored"),
        RetryHeld(reason="id_conflict"),
        RetryHeld(everything=True),
    ):
        await do(world, retry)
        await world.turn()
    assert world.counted() == (0, 0)
    assert (await world.session(one.pk)).hold_reason == "changed_since_ignored"
    await do(world, RetryHeld(sessions=[session]))
    await world.turn()
    assert world.counted() == (9_500, 2)


async def test_what_is_on_its_way_does_not_hide_that_it_was_ignored(world: World) -> None:
    """An entry that Lago refuses after the session was ignored and held again leaves it held for that."""
    await world.link("A")
    one = world.charge("A", 9_000, stop_actor=StopActor.MANUAL)
    conflict(world, one.pk)
    await world.turn()
    await ignore(world, one)
    await own_stop(world, one, 9_500)
    async with world.service.database.write() as tx:
        await tx.exec_driver_sql("UPDATE sync.ledger_entry SET state = 'pending', hold_reason = NULL")
    await world.rooms.delivery.deliver()
    assert [entry.state for entry in await world.entries(one.pk)] == ["held"]
    assert (await world.session(one.pk)).hold_reason == "changed_since_ignored"
