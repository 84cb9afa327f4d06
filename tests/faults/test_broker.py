"""The broker crashes, or goes silent, while taps come in: nothing is lost, and nothing happens twice."""

import asyncio

import pytest

from tests.faults.proxy import Proxy
from tests.faults.taps import LOAD_PAUSE_S, check_answers
from tests.faults.world import World, do
from tests.waiting import until

BROKERS = {"broker", "requests", "events"}
PREAUTHS = BROKERS | {"asking"}
SCALES = [pytest.param(150), pytest.param(2000, marks=pytest.mark.full)]


@pytest.mark.parametrize("count", SCALES)
async def test_a_broker_that_is_killed_under_load_loses_no_event(world: World, count: int) -> None:
    """Killed and started again while taps come in, every event committed is recorded by its id, and handled once."""
    before = len(world.taps.answers)
    healthy = await world.taps.many(count // 3)
    # The relay is in the middle of it: what it has published and what it has not is anybody's guess.
    await world.taps.during(do(world.rabbitmq.kill), pause_s=LOAD_PAUSE_S)
    await asyncio.gather(world.preauth.lacking(PREAUTHS), world.audit.lacking(BROKERS))
    await world.taps.many(count // 3)
    assert (await world.evidence.account()).waiting >= count // 3, "the broker was not down"
    await world.taps.during(do(world.rabbitmq.start))
    await world.taps.during(asyncio.gather(world.preauth.ready(), world.audit.ready()))
    broken = world.taps.answers[before + len(healthy) :]
    afterwards = await world.taps.many(max(count // 3, count - (len(world.taps.answers) - before)))
    account = await world.settled()
    answers = world.taps.answers[before:]
    assert len(answers) >= count
    assert len(account.committed) >= count
    check_answers(broken, healthy, afterwards)
    await world.check_journal(answers)


async def test_a_frozen_broker_delays_events_and_no_tap(world: World) -> None:
    """Silent, with its connections open, the broker holds up nobody at a charger; once it goes on, all arrives."""
    healthy = await world.taps.many(50)
    await do(world.rabbitmq.freeze)
    # A quarter of a minute, until the last connection is given up.
    lacking = asyncio.gather(world.preauth.lacking(PREAUTHS), world.audit.lacking(BROKERS))
    silent = await world.taps.during(lacking, pause_s=0.2)
    silent += await world.taps.many(50)
    assert (await world.evidence.account()).waiting >= 50, "the broker was not silent"
    await do(world.rabbitmq.thaw)
    coming_back = await world.taps.many(50)
    await asyncio.gather(world.preauth.ready(), world.audit.ready())
    afterwards = await world.taps.many(50)
    await world.settled()
    check_answers(silent, healthy, afterwards)
    check_answers(coming_back, healthy, afterwards)
    await world.check_journal([*healthy, *silent, *coming_back, *afterwards])


async def test_connections_that_break_under_load_lose_no_event(world: World) -> None:
    """Connections to the database and to the broker are reset again and again, at any moment, in both services."""
    healthy = await world.taps.many(50)
    proxies = [world.preauth.broker, world.audit.database, world.audit.broker, world.preauth.database]

    async def break_them() -> None:
        for proxy in proxies * 2:
            reached = proxy.accepted
            await proxy.cut()

            async def again(proxy: Proxy = proxy, reached: int = reached) -> bool:
                return proxy.accepted > reached

            # Somebody is back, in the middle of something.
            await until(again)

    broken = await world.taps.during(break_them(), pause_s=LOAD_PAUSE_S)
    await asyncio.gather(world.preauth.ready(), world.audit.ready())
    afterwards = await world.taps.many(50)
    await world.settled()
    check_answers(broken, healthy, afterwards)
    await world.check_journal([*healthy, *broken, *afterwards])
