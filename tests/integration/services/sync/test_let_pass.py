"""What an operator lets pass is what was there to see when they did."""

import pytest

from deploy.demo.steve.model import Stop, StopActor, Transaction
from shared.contracts.requests.sync_cards import ChangeCard
from shared.contracts.requests.sync_work import ReleaseHeld
from tests.integration.services.sync.conftest import ADA, World
from tests.integration.services.sync.test_held import do, held


async def own_stop(world: World, one: Transaction, energy_wh: int) -> None:
    """The station tells its own stop, of the same time as the one by hand."""
    value = str(int(one.start_value) + energy_wh)
    world.steve.state.add_stop(one.pk, Stop(at=one.stops[0].at, value=value, reason="Local", actor=StopActor.STATION))
    world.clock.advance(minutes=2)
    await world.turn()


async def released(world: World, energy_wh: int) -> Transaction:
    """Stopped by hand, held, let pass and counted."""
    one = world.charge("A", energy_wh, stop_actor=StopActor.MANUAL)
    await world.turn()
    session = f"main:{one.pk}"
    assert (await do(world, ReleaseHeld(sessions=[session]))).sessions == [session]
    await world.turn()
    assert world.counted() == (energy_wh, 1)
    return one


async def test_more_than_was_let_pass_is_held_again(world: World) -> None:
    """Somebody let 500 kWh in five minutes pass, and nobody 50,000: the rest waits for another word."""
    await world.link("A")
    one = await released(world, 500_000)
    await own_stop(world, one, 50_000_000)
    row = await world.session(one.pk)
    assert (row.billing, row.hold_reason) == ("held", "too_much_energy")
    [queued] = (await held(world)).held
    assert queued.energy_wh == 49_500_000
    assert world.counted() == (500_000, 1)
    await do(world, ReleaseHeld(sessions=[f"main:{one.pk}"]))
    await world.turn()
    assert world.counted() == (50_000_000, 2)


@pytest.mark.parametrize("later_wh", [500_000, 400])
async def test_what_became_final_or_possible_needs_no_other_word(world: World, later_wh: int) -> None:
    """The same readings from the station itself are what was let pass; what is possible is corrected by itself."""
    await world.link("A")
    one = await released(world, 500_000)
    await own_stop(world, one, later_wh)
    assert (await world.session(one.pk)).hold_reason is None
    assert world.counted()[0] == later_wh


async def test_a_card_that_is_not_active_is_let_pass_whatever_the_meter_says(world: World) -> None:
    """It was let pass for its card: another stop is another reading of the same charge."""
    await world.link("A")
    async with world.service.database.write() as tx:
        await world.rooms.cards.change_card(tx, ChangeCard(id_tag="A", changes={"active": False}), ADA)
    one = await released(world, 1_000)
    await own_stop(world, one, 1_500)
    assert (await world.session(one.pk)).hold_reason is None
    assert world.counted()[0] == 1_500
