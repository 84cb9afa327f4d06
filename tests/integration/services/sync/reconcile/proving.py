"""What the tests of reconciliation do and look at."""

from typing import Any

from deploy.demo.lago.model import Event
from shared.contracts.requests.sync_work import Reconcile, ReconcileRow
from tests.integration.services.sync.conftest import ADA, World, ago


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


def replace_seq(event: Event) -> Event:
    event.seq = 0
    return event
