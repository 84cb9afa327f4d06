"""Sync is killed with a bill on its way: what Lago has counted is told, once, by the next process."""

import asyncio

import pytest

from shared.bus.requests import NoAnswerError
from shared.contracts.problem import RemoteProblem
from shared.contracts.requests.sync import OperateCharger
from tests.faults.billing import CARD, CHARGER
from tests.faults.proxy import UP
from tests.faults.story import Owed, Story
from tests.faults.wire import BASIC_PUBLISH, calls
from tests.faults.world import OPERATOR
from tests.waiting import until

ENERGY_WH = 12_345
SYNCED = "transaction.synced"
REMOTE_START = "RemoteStartTransaction"


async def test_sync_is_killed_after_the_commit_before_the_publish(story: Story) -> None:
    """A bill that Lago took and nobody was told of is told after the restart, once, and its kWh are not sent again."""
    world, sync = story.world, story.world.sync
    trap = sync.broker.stall_when(UP, calls(BASIC_PUBLISH, SYNCED.encode()))
    session = story.charge(ENERGY_WH, Owed([ENERGY_WH]))
    await trap.reached(60)
    told = [event for event in await world.evidence.committed(SYNCED) if event["data"]["session"] == session]
    (event_id,) = (event["id"] for event in told)
    await sync.kill()
    assert await world.evidence.count("sync.outbox WHERE event_id = %s", event_id) == 1
    assert await world.evidence.count("audit.entry WHERE event_id = %s", event_id) == 0
    await sync.start()
    await sync.ready()
    await story.ends_well()
    await world.settled()
    assert await world.evidence.count("audit.entry WHERE event_id = %s", event_id) == 1


async def test_sync_is_killed_while_a_charger_is_called(story: Story) -> None:
    """Nobody knows whether the charger has started: the key says so after the restart, and nobody calls it again."""
    steve, sync = story.billing.steve, story.world.sync
    path = f"/operations/{REMOTE_START}"
    steve.faults.set("slow", 60_000, path=f"/steve/api/v1{path}")
    start = OperateCharger(charge_box_id=CHARGER, operation=REMOTE_START, parameters={"idTag": CARD})

    def calls_made() -> int:
        return steve.state.requests[f"POST {path}"]

    async def called() -> bool:
        return calls_made() == 1

    asking = asyncio.create_task(story.requester.ask(start, actor=OPERATOR, key="start", deadline_s=5))
    await until(called, within_s=30)
    await sync.kill()
    with pytest.raises(NoAnswerError):
        await asking
    steve.faults.clear()
    await sync.start()
    await sync.ready()
    for _ in range(2):
        with pytest.raises(RemoteProblem) as unknown:
            await story.ask(start, "start")
        assert unknown.value.code == "effect_unknown"
    assert calls_made() == 1
    assert len(await story.world.evidence.committed("charger.operation_requested")) == 1
