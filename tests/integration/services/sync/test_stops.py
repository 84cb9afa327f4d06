"""A stop in the middle of a backlog: what is begun is ended, and the rest is for whoever comes next."""

import asyncio

import pytest

from services.sync.ledger import settle, store
from services.sync.runs.loop import Loop
from shared.contracts.requests.sync_work import ListRuns, RunView, StartRun
from tests.integration.services.sync.conftest import ADA, Build, World


def part(world: World, name: str) -> Loop:
    [found] = [one for one in world.service.parts if one.name == name]
    assert isinstance(found, Loop)
    return found


async def backlog(build_world: Build) -> World:
    world = await build_world(page_size=10)
    await world.link("A")
    for _ in range(100):
        world.charge("A", 10)
    return world


async def runs(world: World) -> list[RunView]:
    return (await world.rooms.runs.list_runs(ListRuns(), ADA)).runs


def stops_at_first(monkeypatch: pytest.MonkeyPatch, where: object, name: str) -> asyncio.Event:
    """An event that is set when this is called for the first time."""
    stop, call = asyncio.Event(), getattr(where, name)

    async def and_stop(*given: object, **named: object) -> object:
        stop.set()
        return await call(*given, **named)

    monkeypatch.setattr(where, name, and_stop)
    return stop


@pytest.mark.parametrize("asked", [False, True])
async def test_a_stop_comes_between_two_pages_of_a_look(
    build_world: Build, monkeypatch: pytest.MonkeyPatch, *, asked: bool
) -> None:
    """Also of the first walk through SteVe's past. The next run goes on; one that somebody asked for is not finished by
    that, and is told as broken off.
    """
    world = await backlog(build_world)
    if asked:
        async with world.service.database.write() as tx:
            await world.rooms.runs.start_run(tx, StartRun(), ADA)
    stop = stops_at_first(monkeypatch, world.rooms.poller._observer, "observe")
    async with asyncio.timeout(20):
        await part(world, "sessions.look").run(stop)
    assert len(await world.rows("SELECT 1 FROM sync.session")) == 10
    assert [one.state for one in await runs(world)] == ["running" if asked else "finished"]
    await world.rooms.runner.turn()
    assert world.counted() == (1_000, 100)
    after, before = await runs(world)
    assert (after.state, after.counters.seen, after.counters.billed) == ("finished", 100, 100)
    assert (before.state, before.counters.seen) == ("failed" if asked else "finished", 0)
    assert ("broke off" in str(before.problem)) == asked


async def test_a_stop_comes_between_two_batches_of_sessions(
    build_world: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many are due: the next process settles the rest."""
    monkeypatch.setattr(settle, "BATCH", 5)
    world = await backlog(build_world)
    await world.rooms.poller.poll()
    stop = stops_at_first(monkeypatch, store, "add_entries")
    async with asyncio.timeout(20):
        await part(world, "ledger.settle").run(stop)
    assert len(await world.rows("SELECT 1 FROM sync.ledger_entry")) == 5
    await world.turn()
    assert world.counted() == (1_000, 100)
