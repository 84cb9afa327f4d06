"""PostgreSQL and RabbitMQ freeze, restart and go away under taps at hook and gateway: all in time, none lost."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest

from shared.contracts.requests.preauth import ArmPairing
from tests.faults.conftest import Worlds
from tests.faults.stream import Stream, check_each, streaming
from tests.faults.taps import Answer
from tests.faults.world import OPERATOR, World, do, new_world
from tests.infra import Infra
from tests.waiting import until

HELD_S = 2.0


@dataclass(frozen=True)
class Site:
    world: World
    stream: Stream

    async def both(self, happening: Callable[[], object]) -> tuple[list[Answer], list[Answer]]:
        """Taps at hook and gateway for as long as something takes: what each was told."""
        at_gateway, stop = len(self.stream.answers), asyncio.Event()
        stream = asyncio.create_task(self.stream.run(stop))
        try:
            at_hook = await self.world.taps.during(do(happening))
        finally:
            stop.set()
            await stream
        return at_hook, self.stream.answers[at_gateway:]

    async def journalled(self, answers: list[Answer]) -> None:
        """Every card is in the journal; a tap that the database missed comes there from a file."""
        wanted = [answer.id_tag for answer in answers]

        async def all_of_them() -> bool:
            where = "preauth.tap WHERE told IS NOT NULL AND id_tag = ANY(%s)"
            return await self.world.evidence.count(where, wanted) >= len(wanted)

        await until(all_of_them, within_s=30)
        await self.world.settled()
        await self.world.check_journal(answers)


@pytest.fixture(scope="module")
async def site(worlds: Worlds, breakable: Infra, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """Preauth with a gateway, ten chargers behind it, and audit."""
    await worlds.leave()
    folder = tmp_path_factory.mktemp("stream")
    async with streaming() as stream, new_world(breakable, folder, more=stream.settings) as world:
        await world.restore()
        async with stream.connected():
            yield Site(world, stream)


def sleep(seconds: float) -> Callable[[], object]:
    return functools.partial(time.sleep, seconds)


FAULTS = [
    pytest.param("postgres", "freeze", "thaw", id="a frozen database"),
    pytest.param("postgres", "kill", "start", id="a database that crashes and restarts"),
    pytest.param("postgres", "stop", "start", id="no database", marks=pytest.mark.full),
    pytest.param("rabbitmq", "freeze", "thaw", id="a frozen broker"),
    pytest.param("rabbitmq", "kill", "start", id="a broker that crashes and restarts", marks=pytest.mark.full),
    pytest.param("rabbitmq", "stop", "start", id="no broker", marks=pytest.mark.full),
]


@pytest.mark.parametrize(("server", "breaks", "mends"), FAULTS)
async def test_taps_go_on_during(site: Site, server: str, breaks: str, mends: str) -> None:
    """Every card is let through in time, at hook and gateway, on the same connections; then scans work again."""
    world, target = site.world, getattr(site.world, server)
    await world.restore()
    healthy = await site.both(sleep(1.0))
    try:
        going = await site.both(getattr(target, breaks))
        away = await site.both(sleep(HELD_S))
    finally:
        coming = await site.both(getattr(target, mends))
    await asyncio.gather(world.preauth.ready(), world.audit.ready())
    for way in (0, 1):
        check_each([*going[way], *away[way], *coming[way]], healthy[way])
    await site.journalled([answer for phase in (healthy, going, away, coming) for way in phase for answer in way])
    charger = site.stream.chargers[0]
    async with world.requester() as requester:
        scan = ArmPairing(charge_box_id=charger.charge_box_id, purpose="find_card")
        await requester.ask(scan, actor=OPERATOR, key=f"{server} {breaks}", deadline_s=20)
    assert (await site.stream.tap(charger)).override == "BLOCKED"
