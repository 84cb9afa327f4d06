"""What happens while a period is compared: Lago is asked for its events, which takes a while, and work goes on."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from services.sync.lago.models import StoredEvent
from shared.contracts.requests.sync_work import RetryHeld
from tests.integration.services.sync.conftest import World
from tests.integration.services.sync.reconcile.proving import billed, kinds, lose, prove, replace_seq, settle, sums
from tests.integration.services.sync.test_held import do
from tests.integration.services.sync.test_held_entries import clear_conflict, conflict


def around(
    world: World, monkeypatch: pytest.MonkeyPatch, work: Callable[[], Awaitable[object]], *, first: bool
) -> None:
    """Have `work` done while Lago's events are read: before they are, or when they are."""
    check = world.rooms.reconciler._check
    read = check._stored

    async def reading(*given: Any) -> list[StoredEvent]:  # noqa: ANN401 - what it is called with
        monkeypatch.undo()
        if first:
            await work()
        found = await read(*given)
        if not first:
            await work()
        return found

    monkeypatch.setattr(check, "_stored", reading)


async def test_a_comparison_that_takes_longer_replaces_none_that_began_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was repaired and proven while it ran stays proven, and nobody is told of what is no longer so."""
    (pk, _) = await billed(world, 2_000, 3_500)
    lost = lose(world, pk)

    async def repaired() -> None:
        world.clock.advance(seconds=5)
        world.lago.state.add_events([replace_seq(lost)])
        assert (await prove(world)).equal is True

    around(world, monkeypatch, repaired, first=False)
    await world.rooms.reconciler.run_due()
    (kept,) = await world.rows("SELECT equal, told FROM sync.reconcile_result")
    assert (kept.equal, kept.told) == (True, None)
    assert await world.events("reconcile.mismatch_found") == []


async def test_a_result_of_a_clock_that_was_ahead_is_replaced(world: World) -> None:
    """It was not compared later, whatever it says."""
    (pk, _) = await billed(world, 2_000, 3_500)
    world.clock.advance(hours=2)
    assert (await prove(world)).equal is True
    world.clock.advance(hours=-2)
    lose(world, pk)
    await prove(world)
    (kept,) = await world.rows("SELECT equal FROM sync.reconcile_result")
    assert kept.equal is False
    assert len(await world.events("reconcile.mismatch_found")) == 1


async def test_what_is_retried_meanwhile_is_on_its_way(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Held when the comparison began, and counted by Lago when it read its events: nothing differs but what did."""
    (lost_pk,) = await billed(world, 2_000)
    lose(world, lost_pk)
    other = world.charge("A", 3_500)
    conflict(world, other.pk)
    await settle(world)
    assert (await world.session(other.pk)).hold_reason == "id_conflict"

    async def retried() -> None:
        clear_conflict(world, other.pk)
        await do(world, RetryHeld(sessions=[f"main:{other.pk}"]))
        world.clock.advance(seconds=5)
        await world.turn()
        assert world.counted() == (3_500, 1)

    around(world, monkeypatch, retried, first=True)
    row = await prove(world)
    assert kinds(row) == [("sent_not_stored", -2_000, f"main:{lost_pk}")]
    world.clock.advance(minutes=10)
    row = await prove(world)
    assert (kinds(row), sums(row)[-1]) == ([("sent_not_stored", -2_000, f"main:{lost_pk}")], 3_500)


async def test_what_is_counted_meanwhile_is_not_missed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sent after Lago told of its events, and counted by its total, which is asked for last: nothing differs by it."""
    (lost_pk,) = await billed(world, 2_000)
    lose(world, lost_pk)
    other = world.charge("A", 3_500)
    world.lago.faults.add("http_503", path="/api/v1/events/batch")
    await world.turn()
    world.lago.faults.clear()

    async def counted() -> None:
        world.clock.advance(minutes=1)
        await world.turn()
        world.clock.advance(seconds=5)
        await world.rooms.counting.count()
        assert (await world.session(other.pk)).billing == "counted"

    around(world, monkeypatch, counted, first=False)
    row = await prove(world)
    assert "sent_not_stored" not in {kind for kind, _, session in kinds(row) if session != f"main:{lost_pk}"}
    assert row.equal is None
    assert await world.events("reconcile.mismatch_found") == []
