"""Lago is silent about subscriptions: events wait, none is claimed over and over, and all go soon after it answers."""

import pytest

from services.sync.lago.client import MAX_BATCH
from services.sync.ledger import delivery
from tests.integration.services.sync.conftest import World
from tests.integration.services.sync.delivering import BATCH, keep_time


async def wait_to_be_sent(world: World, subscription: str, card: str, count: int) -> None:
    """Sessions whose events were made two minutes ago, and were not sent yet: Lago is asked before they are."""
    await world.link(card, f"cus_{subscription.partition('_')[2]}", subscription)
    for _ in range(count):
        world.charge(card, 1_000, charge_box_id=f"CP-{card}")
    await world.rooms.poller.poll()
    while await world.rooms.settler.settle():
        pass


async def second(world: World) -> None:
    """What a lane of the running service does in a second: it goes on as long as it finds something to do."""
    world.clock.advance(seconds=1)
    for _ in range(20):
        if not await world.rooms.delivery.lane():
            break


async def test_what_waits_while_lago_is_down_is_taken_up_rarely_and_goes_once_it_is_back(world: World) -> None:
    """For five minutes of an outage nothing is claimed more often than Lago is tried, and that counts as no failure:
    when Lago is back it takes half a minute, also where it drops the first answer.
    """
    await wait_to_be_sent(world, "sub_ada", "A", 3)
    await wait_to_be_sent(world, "sub_bob", "B", 3)
    assert await world.rooms.gate.is_open()
    keep_time(world)
    world.clock.advance(minutes=2)
    world.lago.faults.add("down")
    for _ in range(300):
        await second(world)
    claims = await world.rows("SELECT max(attempts) AS most, max(put_offs) AS failures FROM sync.ledger_entry")
    assert (claims[0].most < 30, claims[0].failures) == (True, 0)
    world.lago.faults.clear()
    world.lago.faults.add("drop_before", path=BATCH, count=1)
    for _ in range(40):
        await second(world)
    assert (world.counted("sub_ada"), world.counted("sub_bob")) == ((3_000, 3), (3_000, 3))


async def test_what_waits_while_lago_takes_no_events_goes_once_it_does(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers all else. For five minutes events are taken up as rarely as Lago is tried with one, and what was not
    tried has not failed: all go within a minute or so of the end.
    """
    monkeypatch.setattr(delivery, "CLAIM", 2 * MAX_BATCH)
    await wait_to_be_sent(world, "sub_ada", "A", 310)
    assert await world.rooms.gate.is_open()
    keep_time(world)
    world.lago.faults.add("http_500", path=BATCH)
    for _ in range(300):
        await second(world)
    [claims] = await world.rows("SELECT max(attempts) AS most, max(put_offs) AS failures FROM sync.ledger_entry")
    assert claims.most < 30
    untried = await world.rows("SELECT 1 FROM sync.ledger_entry WHERE put_offs < 3")
    assert len(untried) > 100
    world.lago.faults.clear()
    for _ in range(75):
        await second(world)
    assert world.counted("sub_ada")[1] >= len(untried)


async def test_one_subscription_about_which_lago_is_silent_keeps_no_other_waiting(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many events wait for it and others come after them: those go at once, it is asked about rarely, and its own go
    soon after Lago answers.
    """
    monkeypatch.setattr(delivery, "CLAIM", 2 * MAX_BATCH)
    await wait_to_be_sent(world, "sub_ada", "A", 310)
    await wait_to_be_sent(world, "sub_bob", "B", 3)
    assert await world.rooms.gate.is_open()
    keep_time(world)
    world.clock.advance(minutes=2)
    path = "/api/v1/subscriptions/sub_ada"
    world.lago.faults.add("http_503", path=path)
    await second(world)
    assert world.counted("sub_bob") == (3_000, 3)
    for _ in range(90):
        # Lago answers all else, as it does when it is asked whether it is there.
        await world.rooms.lago.probe()
        await second(world)
    assert world.lago.requests.count("GET", path) < 20
    [claims] = await world.rows("SELECT max(attempts) AS most FROM sync.ledger_entry")
    assert claims.most < 20
    assert world.counted("sub_ada") == (0, 0)
    world.lago.faults.clear()
    for _ in range(32):
        await second(world)
    assert world.counted("sub_ada") == (310_000, 310)
