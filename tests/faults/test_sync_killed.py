"""Sync is killed with a bill on its way: what Lago has counted is told, once, by the next process."""

import asyncio

import pytest

from shared.bus.requests import NoAnswerError
from shared.contracts.problem import RemoteProblem
from shared.contracts.requests.sync import OperateCharger
from tests.faults.billing import CARD, CHARGER, Billing
from tests.faults.proxy import UP
from tests.faults.wire import BASIC_PUBLISH, calls
from tests.faults.world import OPERATOR, World
from tests.waiting import until

ENERGY_WH = 12_345
SYNCED = "transaction.synced"
REMOTE_START = "RemoteStartTransaction"


async def recorded(world: World, event_type: str) -> int:
    return await world.evidence.count("audit.entry WHERE type = %s", event_type)


async def in_outbox(world: World) -> int:
    return await world.evidence.count("sync.outbox WHERE routing_key = %s", SYNCED)


async def test_sync_is_killed_after_the_commit_before_the_publish(billed: World, billing: Billing) -> None:
    """A bill that Lago took and nobody was told of is told after the restart, once, and its kWh are not sent again."""
    trap = billed.sync.broker.stall_when(UP, calls(BASIC_PUBLISH, SYNCED.encode()))
    session = billing.charge(ENERGY_WH)
    await trap.reached(60)
    assert billing.counted == (ENERGY_WH, 1)
    (synced,) = await billed.evidence.committed(SYNCED)
    assert synced["data"]["session"] == session
    await billed.sync.kill()
    assert await in_outbox(billed) == 1
    assert await recorded(billed, SYNCED) == 0
    await billed.sync.start()
    await billed.sync.ready()

    async def counted() -> bool:
        return await recorded(billed, "transaction.counted") > 0

    # The new one has gone on: it has read back from Lago what the old one sent.
    await until(counted, within_s=60)
    await billed.settled()
    assert await recorded(billed, SYNCED) == 1
    assert [event["id"] for event in await billed.evidence.committed(SYNCED)] == [synced["id"]]
    assert billing.counted == (ENERGY_WH, 1)


async def test_sync_is_killed_while_a_charger_is_called(billed: World, billing: Billing) -> None:
    """Nobody knows whether the charger has started: the key says so after the restart, and nobody calls it again."""
    path = f"/operations/{REMOTE_START}"
    billing.steve.faults.set("slow", 60_000, path=f"/steve/api/v1{path}")
    start = OperateCharger(charge_box_id=CHARGER, operation=REMOTE_START, parameters={"idTag": CARD})
    async with billed.requester() as requester:
        asking = asyncio.create_task(requester.ask(start, actor=OPERATOR, key="start", deadline_s=10))

        def calls_made() -> int:
            return billing.steve.state.requests[f"POST {path}"]

        async def called() -> bool:
            return calls_made() == 1

        await until(called, within_s=30)
        await billed.sync.kill()
        with pytest.raises(NoAnswerError):
            await asking
        billing.steve.faults.clear()
        await billed.sync.start()
        await billed.sync.ready()
        for _ in range(2):
            with pytest.raises(RemoteProblem) as unknown:
                await requester.ask(start, actor=OPERATOR, key="start", deadline_s=20)
            assert unknown.value.code == "effect_unknown"
    await billed.settled()
    assert calls_made() == 1
    assert len(await billed.evidence.committed("charger.operation_requested")) == 1
