"""Decisions about many held sessions at once: one request reaches all of them."""

from shared.contracts.request import MAX_ROWS
from shared.contracts.requests.sync_work import ReleaseHeld, RetryHeld
from tests.integration.services.sync.conftest import World, ago
from tests.integration.services.sync.test_held import do, held
from tests.integration.services.sync.test_held_entries import clear_conflict, conflict

MANY = MAX_ROWS + 6


async def test_a_retry_reaches_all_of_a_class(world: World) -> None:
    """However many are held for a reason, one retry decides about each again by what SteVe says of it now, and leaves
    the other classes alone; the answer counts all, and names as many as it carries.
    """
    await world.link("A")
    charged = [world.charge("A", 0, charge_box_id=f"B{number}") for number in range(MANY)]
    world.charge("A", 500_000, charge_box_id="C")
    await world.turn()
    repeated = await do(world, RetryHeld(reason="no_energy"))
    assert (repeated.count, len(repeated.sessions)) == (MANY, MAX_ROWS)
    await world.turn()
    for one in charged:
        one.stops[0].value = str(int(one.start_value) + 100)
    assert (await do(world, RetryHeld(reason="no_energy"))).count == MANY
    await world.rooms.settler.settle()
    await world.rooms.delivery.deliver()
    assert world.counted() == (MANY * 100, MANY)
    assert {one.reason: one.count for one in (await held(world)).classes} == {"too_much_energy": 1}


async def test_a_retry_of_all_sends_held_entries_again(world: World) -> None:
    """Those whose event Lago refused are sent again with the rest, each told as released once."""
    await world.link("A")
    pks = [world.charge("A", 1_000, charge_box_id=f"B{number}").pk for number in range(3)]
    world.charge("A", 0, charge_box_id="C")
    for pk in pks:
        conflict(world, pk)
    await world.turn()
    assert {one.reason: one.count for one in (await held(world)).classes} == {"id_conflict": 3, "no_energy": 1}
    for pk in pks:
        clear_conflict(world, pk)
    assert (await do(world, RetryHeld(everything=True))).count == 4
    await world.turn()
    assert world.counted() == (3_000, 3)
    released = await world.events("transaction.released")
    assert sorted(one.data["session"] for one in released) == [f"main:{pk}" for pk in pks]


async def test_a_release_reaches_all_of_a_card(world: World) -> None:
    """All of a card's sessions since a date are released at once, and counted."""
    world.steve.state.add_tag("NEW")
    for number in range(MANY):
        world.charge("NEW", 100, charge_box_id=f"B{number}")
    await world.turn()
    await world.link("NEW", valid_from=ago(hours=1))
    released = await do(world, ReleaseHeld(id_tag="NEW", since=ago(days=9)))
    assert (released.count, len(released.sessions)) == (MANY, MAX_ROWS)
    await world.turn()
    assert world.counted() == (MANY * 100, MANY)
