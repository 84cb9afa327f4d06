"""One PostgreSQL, one RabbitMQ and one set of services for all fault tests: they break them, and mend them again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from shared.bus.requests import Requester
from shared.contracts.problem import Problem
from shared.contracts.requests.sync import GetCard, LinkCard
from tests.faults.billing import CARD, CUSTOMER, SUBSCRIPTION, Billing, simulated
from tests.faults.story import Story
from tests.faults.world import OPERATOR, World, new_world
from tests.infra import Infra, provided
from tests.waiting import until


@pytest.fixture(scope="session")
def breakable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Infra]:
    """A PostgreSQL and a RabbitMQ that are nobody else's. Between two files of this folder there may be others, in
    which they stand still: to start both takes five seconds of a core.
    """
    with provided(tmp_path_factory.mktemp("breakable"), given=False) as own:
        yield own


class Worlds:
    """The world goes from test to test, and so does a story; one that a failed test left is given up for a new one."""

    def __init__(self, infra: Infra, folder: Path) -> None:
        self._infra, self._folder, self._count = infra, folder, 0
        self._stack = contextlib.AsyncExitStack()
        self._world: World | None = None
        self._story: Story | None = None

    async def get(self) -> World:
        if self._world is None:
            await self.leave()
            self._world = await self._stack.enter_async_context(new_world(self._infra, self._new_folder()))
        return self._world

    async def story(self) -> Story:
        if self._story is None:
            await self.leave()
            self._story = await self._stack.enter_async_context(new_story(self._infra, self._new_folder()))
        return self._story

    async def leave(self) -> None:
        await self._stack.aclose()
        self._stack, self._world, self._story = contextlib.AsyncExitStack(), None, None

    def _new_folder(self) -> Path:
        self._count += 1
        folder = self._folder / f"world-{self._count}"
        folder.mkdir()
        return folder


@contextlib.asynccontextmanager
async def new_story(infra: Infra, folder: Path) -> AsyncIterator[Story]:
    """Sync and audit, ready, with a card that is linked; preauth has nothing to do with it."""
    async with (
        simulated() as billing,
        new_world(infra, folder, ("preauth", "sync", "audit"), more=billing.settings) as world,
    ):
        for service in (world.sync, world.audit):
            await service.start()
        for service in (world.sync, world.audit):
            await service.ready()
        async with world.requester() as requester:
            await link(requester, billing)
            await world.settled()
            yield Story(world, billing, requester, [world.sync])


def stand_still(servers: Infra) -> None:
    servers.postgres.freeze()
    servers.rabbitmq.freeze()


@pytest.fixture(scope="package")
async def worlds(breakable: Infra, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Worlds]:
    worlds = Worlds(breakable, tmp_path_factory.mktemp("worlds"))
    try:
        yield worlds
    finally:
        await worlds.leave()
        await asyncio.to_thread(stand_still, breakable)


@pytest.fixture
async def world(worlds: Worlds, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """Preauth and audit, ready, with a hook that answers; what a test breaks is mended for the next one."""
    failed = request.session.testsfailed
    world = await worlds.get()
    await world.restore()
    yield world
    if request.session.testsfailed != failed:
        await worlds.leave()


@pytest.fixture
async def billing() -> AsyncIterator[Billing]:
    """SteVe and Lago, for the worlds that have a sync."""
    async with simulated() as running:
        yield running


@pytest.fixture
async def story(worlds: Worlds, request: pytest.FixtureRequest) -> AsyncIterator[Story]:
    """A sync that runs, and what it owes so far; at the end all of it is settled."""
    failed = request.session.testsfailed
    story = await worlds.story()
    yield story
    if request.session.testsfailed == failed:
        await story.world.settled()
    else:
        await worlds.leave()


async def link(requester: Requester, billing: Billing) -> None:
    async def known() -> bool:
        try:
            await requester.ask(GetCard(id_tag=CARD), actor=OPERATOR, deadline_s=20)
        except Problem:
            return False
        return True

    await until(known, within_s=60)
    wanted = LinkCard(
        id_tag=CARD,
        external_customer_id=CUSTOMER,
        external_subscription_id=SUBSCRIPTION,
        valid_from=billing.subscribed_at,
    )
    await requester.ask(wanted, actor=OPERATOR, key="link", deadline_s=20)
