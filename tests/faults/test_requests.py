"""Requests and the death of who is asked: no answer is unknown, in time; repeating it does it once."""

import asyncio
import time

import pytest

from shared.bus.requests import NoAnswerError, Requester
from shared.bus.topology import requests_queue
from shared.contracts.requests.preauth import ArmPairing, PairingView
from tests.faults.evidence import depths, put_aside
from tests.faults.proxy import DOWN, UP, Direction
from tests.faults.wire import commits
from tests.faults.world import OPERATOR, World
from tests.waiting import until

QUEUE = requests_queue("preauth")
DEADLINE_S = 2.0
# A busy machine comes a little late.
NOT_LATER_THAN_S = 3.0


async def arm(requester: Requester, charger: str, deadline_s: float = 20.0) -> PairingView:
    """An operator's command, always under the same key."""
    request = ArmPairing(charge_box_id=charger, purpose="find_card", window_s=300)
    return await requester.ask(request, actor=OPERATOR, key=f"arm {charger}", deadline_s=deadline_s)


async def unanswered(requester: Requester, charger: str) -> None:
    """Arm, and learn in time that nobody knows whether it was done."""
    started = time.monotonic()
    with pytest.raises(NoAnswerError):
        await arm(requester, charger, DEADLINE_S)
    assert time.monotonic() - started < NOT_LATER_THAN_S


async def pairings(world: World, charger: str) -> int:
    return await world.evidence.count("preauth.pairing WHERE charge_box_id = %s", charger)


async def armed_events(world: World, charger: str) -> int:
    return sum(event["data"]["charge_box_id"] == charger for event in await world.evidence.committed("pairing.armed"))


async def repeated_it_is_done_once(world: World, requester: Requester, charger: str) -> None:
    first, second = await arm(requester, charger), await arm(requester, charger)
    assert first == second
    assert await pairings(world, charger) == 1
    await world.settled()
    assert await armed_events(world, charger) == 1


async def test_a_request_to_a_dead_owner_is_unknown_and_not_done_later(world: World) -> None:
    """Unknown within the deadline. The owner, back again, does not find it; repeated, it is done once."""
    await world.preauth.kill()
    async with world.requester() as requester:
        await unanswered(requester, "CP-DEAD")
        await world.preauth.start()
        await world.preauth.ready()
        assert await depths(world.rabbitmq.url, QUEUE) == {QUEUE: 0}
        assert await pairings(world, "CP-DEAD") == 0
        await repeated_it_is_done_once(world, requester, "CP-DEAD")


@pytest.mark.parametrize(
    ("hold", "done"),
    [pytest.param(UP, 0, id="before the commit"), pytest.param(DOWN, 1, id="after the commit")],
)
async def test_an_owner_that_is_killed_in_the_middle_of_a_command(world: World, hold: Direction, done: int) -> None:
    """The caller learns in time that it is unknown; repeated with its key, it is done exactly once."""
    charger = f"CP-MIDDLE-{done}"
    trap = world.preauth.database.stall_when(UP, commits(b"INSERT INTO", b"PREAUTH.PAIRING"), hold=hold)
    async with world.requester() as requester:
        asking = asyncio.create_task(unanswered(requester, charger))
        await trap.reached()

        async def as_held() -> bool:
            return await pairings(world, charger) == done

        await until(as_held)
        await world.preauth.kill()
        await asking
        assert await pairings(world, charger) == done
        await world.preauth.start()
        await world.preauth.ready()
        assert await pairings(world, charger) == done, "it came back by itself"
        await repeated_it_is_done_once(world, requester, charger)
    assert await depths(world.rabbitmq.url, QUEUE) == {QUEUE: 0}
    assert await put_aside(world.rabbitmq.url) == {}
