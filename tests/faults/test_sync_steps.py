"""Sync is killed at each step on the way of a session's energy: the next one goes on, and Lago counts it once."""

import contextlib
from pathlib import Path

import pytest

from tests.faults.billing import Billing
from tests.faults.processes import Process, prepare
from tests.faults.proxy import DOWN, UP, Direction
from tests.faults.wire import Matcher, commits
from tests.faults.world import World
from tests.waiting import until

ENERGY_WH = 12_345
# Lago has answered before the transaction that marks an entry as delivered.
STEPS: dict[str, Matcher] = {
    "observe": commits(b"INSERT INTO sync.session ("),
    "settle": commits(b"INSERT INTO sync.ledger_entry ("),
    "claim": commits(b"SET LOCAL synchronous_commit"),
    "mark": commits(b"UPDATE sync.ledger_entry SET", b"delivered_by"),
    "count": commits(b"UPDATE sync.ledger_entry SET", b"counted_at"),
    "run": commits(b"UPDATE sync.run SET", b"finished_at"),
}


async def reached(sync: Process, billing: Billing, step: str, hold: Direction) -> None:
    """A session comes, and goes as far as that commit: held before it, or, holding `DOWN`, before its answer."""
    if step != "claim":
        trap = sync.database.stall_when(UP, STEPS[step], hold=hold)
        billing.charge(ENERGY_WH, f"CP-{step}")
        await trap.reached(60)
        return
    # There is a claim every second. It takes something once there is an entry.
    settled = sync.database.stall_when(UP, STEPS["settle"], hold=DOWN)
    billing.charge(ENERGY_WH, f"CP-{step}")
    await settled.reached(60)
    await sync.database.stall_when(UP, STEPS["claim"], hold=hold).reached(60)


async def time_passes(world: World) -> None:
    """What the dead one had taken is free again."""
    await world.evidence.rows(
        "UPDATE sync.ledger_entry SET due_at = now() WHERE state IN ('sending', 'delivered') RETURNING seq"
    )
    await world.evidence.rows("UPDATE sync.run_schedule SET lease_until = now() RETURNING steve_id")


async def all_is_counted_once(world: World, billing: Billing, sessions: int) -> None:
    async def counted() -> bool:
        return await world.evidence.count("sync.session WHERE billing = 'counted'") == sessions

    await until(counted, within_s=60)
    assert billing.counted == (sessions * ENERGY_WH, sessions)
    assert await world.evidence.count("sync.ledger_entry") == sessions
    for event_type in ("transaction.synced", "transaction.counted"):
        told = [event["data"]["usage_event_id"] for event in await world.evidence.committed(event_type)]
        assert len(told) == len(set(told)) == sessions


@pytest.mark.timeout(600)
@pytest.mark.parametrize("hold", [DOWN, pytest.param(UP, marks=pytest.mark.full)])
async def test_sync_is_killed_at_each_step(billed: World, billing: Billing, hold: Direction) -> None:
    """Whether the commit of a step was made and its answer lost, or never arrived: the next process goes on from there,
    and each session is counted and told once.
    """
    for number, step in enumerate(STEPS, start=1):
        await reached(billed.sync, billing, step, hold)
        await billed.sync.kill()
        await time_passes(billed)
        await billed.sync.start()
        await billed.sync.ready()
        await all_is_counted_once(billed, billing, number)
    await billed.settled()


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "steps", [pytest.param(("mark",), id="mark"), pytest.param(tuple(STEPS), id="each", marks=pytest.mark.full)]
)
async def test_the_other_replica_goes_on(
    billed: World, billing: Billing, tmp_path: Path, steps: tuple[str, ...]
) -> None:
    """Two replicas run, and one dies at a step: the other one finishes what that one had begun, once."""
    folder = tmp_path / "other"
    folder.mkdir()
    async with contextlib.AsyncExitStack() as stack:
        other = await prepare(
            "sync",
            database=billed.database,
            amqp_url=billed.rabbitmq.url,
            folder=folder,
            http=billed.sync.http,
            stack=stack,
            more=billing.settings,
        )
        for number, step in enumerate(steps, start=1):
            # It is alone until then, so that it is the one that comes as far as that.
            await billed.sync.start()
            await billed.sync.ready()
            await reached(billed.sync, billing, step, UP)
            await other.start()
            await other.ready()
            await billed.sync.kill()
            await time_passes(billed)
            await all_is_counted_once(billed, billing, number)
            await other.kill()
            await time_passes(billed)
        await billed.sync.start()
        await billed.settled()
