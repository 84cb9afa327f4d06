"""A billing period ends between what Lago said of a subscription and what is decided by it."""

from datetime import UTC, datetime, timedelta

import pytest

from deploy.demo.lago import LagoSettings
from services.sync.lago.models import Subscription
from tests.integration.services.sync.conftest import LAGO_SEED, Build, World, ago

WEEKLY = {
    **LAGO_SEED,
    "plans": [{**LAGO_SEED["plans"][0], "interval": "weekly"}],
    "subscriptions": [{**LAGO_SEED["subscriptions"][0], "started_at": ago(days=100).isoformat()}],
}


async def until_its_end(world: World) -> datetime:
    """Half a minute before the period of sub_ada ends, Lago tells of it; returns its last second."""
    await world.link("A")
    lago = world.lago.state.find_subscription("sub_ada")
    assert lago is not None
    end = datetime.fromtimestamp(world.lago.state.current_period(lago).to_us / 1_000_000, UTC).replace(microsecond=0)
    world.clock.advance(seconds=(end - world.clock()).total_seconds() - 30)
    await world.rooms.subscriptions.refresh({"sub_ada"})
    return end


@pytest.mark.parametrize("late_policy", ["bill_in_current_period", "hold"])
async def test_what_stops_just_before_the_end_and_is_settled_just_after_it_is_late_by_policy(
    build_world: Build, late_policy: str
) -> None:
    """What Lago said is half a minute old, and of the period before: it is asked again. So the energy is billed in the
    new period, or held before there is any event; it is not stamped in the closed one, which nobody bills.
    """
    world = await build_world(lago=LagoSettings(seed=WEEKLY), late_policy=late_policy)
    end = await until_its_end(world)
    pk = world.charge("A", 4_000, start_at=end - timedelta(minutes=5), stop_at=end - timedelta(seconds=1)).pk
    world.clock.advance(seconds=36)
    await world.turn()
    row, entries = await world.session(pk), await world.entries(pk)
    if late_policy == "hold":
        assert (row.billing, row.hold_reason, entries) == ("held", "late", [])
    else:
        assert (row.billing, world.counted()) == ("synced", (4_000, 1))
        assert entries[0].timestamp > end


async def test_a_lago_that_goes_on_telling_of_a_period_that_is_over_is_taken_at_its_word(
    build_world: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its clock is behind, or it is slow to begin the next one: it is asked once more, and nothing waits for ever."""
    world = await build_world(lago=LagoSettings(seed=WEEKLY))
    end = await until_its_end(world)
    told, asked = await world.rooms.lago.subscription("sub_ada"), 0

    async def as_before(external_id: str, *, status: str = "active") -> Subscription | None:
        nonlocal asked
        asked += 1
        return told

    monkeypatch.setattr(world.rooms.lago, "subscription", as_before)
    pk = world.charge("A", 4_000, start_at=end - timedelta(minutes=5), stop_at=end - timedelta(seconds=1)).pk
    world.clock.advance(seconds=36)
    await world.rooms.poller.poll()
    await world.rooms.settler.settle()
    assert (asked, [one.timestamp for one in await world.entries(pk)]) == (1, [end - timedelta(seconds=1)])
