"""SIGTERM, as a service manager sends it, at any moment: a service ends with 0, and nothing is lost or done twice."""

import asyncio
import time

import pytest

from tests.faults.processes import Process
from tests.faults.proxy import UP, Trap
from tests.faults.taps import LOAD_PAUSE_S
from tests.faults.wire import all_of, commits, says, says_sql
from tests.faults.world import World, do
from tests.waiting import until

# The grace period is 5 s here; then all is cancelled at once, on a busy machine.
STOPPED_WITHIN_S = 20.0
STOPPING = "service.stopping"


async def stop(process: Process) -> None:
    started = time.monotonic()
    code = await process.terminate()
    assert code == 0, process.log[-3000:]
    assert time.monotonic() - started < STOPPED_WITHIN_S, process.log[-3000:]


async def test_preauth_stops_under_load(world: World) -> None:
    """Every tap that was answered is in the journal with what was told; later ones are refused, and charge."""
    answers = await world.taps.many(50)
    answers += await world.taps.during(stop(world.preauth), callers=8, pause_s=0)
    assert not (await world.taps.one()).answered
    await world.preauth.start()
    await world.preauth.ready()
    answers += await world.taps.many(50)
    await world.settled()
    await world.check_journal(answers)


async def test_audit_stops_under_load(world: World) -> None:
    """Events that it had in hand are finished or given back; the next start takes what came meanwhile."""
    answers = await world.taps.many(50)
    answers += await world.taps.during(stop(world.audit), pause_s=LOAD_PAUSE_S)
    answers += await world.taps.many(50)

    async def all_wait() -> bool:
        return await world.waiting_in_audits_queue() >= 50

    await until(all_wait)
    await world.audit.start()
    await world.audit.ready()
    await world.settled()
    await world.check_journal(answers)


async def stop_at(process: Process, trap: Trap) -> None:
    """SIGTERM while a trap holds what is being written, which goes on once the stop has begun."""
    await trap.reached()
    begun = process.log.count(STOPPING) + 1
    stopping = asyncio.create_task(stop(process))

    async def has_begun() -> bool:
        return process.log.count(STOPPING) == begun

    await until(has_begun)
    assert process.alive, "it did not wait"
    process.database.resume()
    await stopping


async def test_preauth_stops_when_an_answer_is_being_recorded(world: World) -> None:
    """What a charger was told a moment before the stop is recorded before the process ends."""
    await world.settled()
    # The statement that decides does not know yet what will be told.
    trap = world.preauth.database.stall_when(UP, all_of(says_sql(b"INSERT INTO TAP"), says(b"passed")))
    answers = [await world.taps.one()]
    await stop_at(world.preauth, trap)
    assert await world.evidence.count("preauth.tap WHERE told IS NULL") == 0
    await world.preauth.start()
    await world.preauth.ready()
    await world.settled()
    await world.check_journal(answers)


async def test_audit_stops_when_an_event_is_being_handled(world: World) -> None:
    """The event in hand is recorded and acknowledged before the process ends: it does not come again."""
    trap = world.audit.database.stall_when(UP, commits(b"INSERT INTO", b"AUDIT.ENTRY"))
    answers = [await world.taps.one()]
    await stop_at(world.audit, trap)
    assert await world.waiting_in_audits_queue() == 0
    await world.audit.start()
    await world.audit.ready()
    await world.settled()
    await world.check_journal(answers)


@pytest.mark.parametrize("how", ["refuses", "is silent"])
async def test_services_stop_without_a_broker(world: World, how: str) -> None:
    """A broker that is away or silent holds up no stop: what is not published stays in the outbox."""
    brokers = [world.preauth.broker, world.audit.broker]
    for broker in brokers:
        if how == "refuses":
            await broker.refuse()
            await broker.cut()
        else:
            broker.stall()
    answers = await world.taps.many(20)
    await asyncio.gather(stop(world.preauth), stop(world.audit))
    assert await world.evidence.count("preauth.outbox") >= 20
    for broker in brokers:
        broker.resume()
        await broker.accept()
    await world.restore()
    await world.settled()
    await world.check_journal(answers)


async def test_services_stop_without_a_database(world: World) -> None:
    """A database that is away holds up no stop: taps that it could not take are written after the next start."""
    before = await world.taps.many(20)
    await world.settled()
    await do(world.postgres.stop)
    answers = await world.taps.many(20)
    await asyncio.gather(stop(world.preauth), stop(world.audit))
    await world.restore()
    await world.settled()
    await world.check_journal([*before, *answers])
