"""The plan's charges must bill what is sent, and say what may be taken back."""

from decimal import Decimal

from deploy.demo.lago.model import Charge
from deploy.demo.steve.model import Stop, StopActor
from services.sync.lago.store import subscribed
from tests.integration.services.sync.conftest import World
from tests.integration.services.sync.reconcile.proving import billed, prove, sums

METRIC = "ev_charging_kwh"


def plan(world: World, *charges: Charge) -> None:
    world.lago.state.plans["ev"].charges[:] = charges


def charge(**given: object) -> Charge:
    return Charge(metric_code=METRIC, created_us=0, amount="0.40", **given)  # type: ignore[arg-type]


async def test_a_charge_that_wants_a_price_with_each_event_holds(world: World) -> None:
    """A dynamic charge bills what an event says that it costs, which none of ours does: free, so held. With another
    charge beside it, that one bills.
    """
    plan(world, charge(charge_model="dynamic"))
    await world.link("A")
    pk = world.charge("A", 1_000).pk
    await world.turn()
    row = await world.session(pk)
    assert (row.hold_reason, world.counted()) == ("plan_without_charge", (0, 0))
    assert "dynamic" in row.hold_explanation
    plan(world, charge(charge_model="dynamic"), charge())
    world.clock.advance(minutes=6)
    await world.turn()
    assert world.counted() == (1_000, 1)


async def test_one_charge_in_advance_among_several_takes_nothing_back(world: World) -> None:
    """Each charge on the metric bills each event: where the second is paid in advance, a correction downwards is held
    for a credit note, and what is at stake is what both cost.
    """
    plan(world, charge(), charge(pay_in_advance=True))
    await world.link("A")
    one = world.charge("A", 9_000, stop_actor=StopActor.MANUAL)
    await world.turn()
    async with world.service.database.read() as tx:
        known = (await subscribed(tx, {"sub_ada"}))["sub_ada"]
    assert (known.pay_in_advance, known.unit_price) == (True, Decimal("0.80"))
    value = str(int(one.stops[0].value) - 600)
    world.steve.state.add_stop(one.pk, Stop(at=one.stops[0].at, value=value, reason=None, actor=StopActor.STATION))
    world.clock.advance(minutes=2)
    await world.turn()
    assert (await world.session(one.pk)).hold_reason == "needs_credit_note"


async def test_two_charges_on_the_metric_count_the_same_energy(world: World) -> None:
    """Each of them bills each event, so the energy is what one of them counts: nothing differs, in one request."""
    plan(world, charge(), charge(charge_model="dynamic"))
    await billed(world, 9_000, 4_000)
    before = world.lago.requests.total
    row = await prove(world)
    assert (row.equal, sums(row)) == (True, (13_000,) * 4)
    assert world.lago.requests.total == before + 1
    assert await world.events("reconcile.mismatch_found") == []
