"""The process is killed with SIGKILL, at each step; another one goes on, and each Wh is counted once."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable

import pytest

from tests.integration.services.sync.conftest import World, eventually
from tests.nursery import Forked, fork

SESSIONS = 7
ENERGY_WH = 1_500


class Processes:
    """`python -m services.sync` against the world's simulators and database."""

    def __init__(self, world: World, amqp_url: str) -> None:
        self._environment = {
            **os.environ,
            "EXPRESSYNC_AMQP_URL": amqp_url,
            "EXPRESSYNC_LOG_LEVEL": "warning",
            "EXPRESSYNC_SYNC_DATABASE_URL": world.settings.database_url.get_secret_value(),
            "EXPRESSYNC_SYNC_PORT": "0",
            "EXPRESSYNC_SYNC_OPS_PORT": "0",
            "EXPRESSYNC_SYNC_STEVE_ID": world.settings.steve_id,
            "EXPRESSYNC_SYNC_STEVE_URL": world.settings.steve_url,
            "EXPRESSYNC_SYNC_STEVE_USER": "steve",
            "EXPRESSYNC_SYNC_STEVE_PASSWORD": "steve",
            "EXPRESSYNC_SYNC_LAGO_URL": world.settings.lago_url,
            "EXPRESSYNC_SYNC_LAGO_API_KEY": world.settings.lago_api_key.get_secret_value(),
            "EXPRESSYNC_SYNC_POLL_S": "0.2",
        }
        self._started: list[Forked] = []

    def start(self) -> Forked:
        process = fork("services.sync", env=self._environment)
        self._started.append(process)
        return process

    def end(self) -> None:
        for process in self._started:
            process.kill()


@pytest.fixture
async def processes(broker: str, world: World) -> AsyncIterator[Processes]:
    running = Processes(world, broker)
    yield running
    await asyncio.to_thread(running.end)


def asked(world: World, path: str) -> Callable[[], bool]:
    """Whether somebody asks for that path right now, which then takes its time."""
    if path == "transactions":
        world.steve.faults.set("slow", 3_000, path="/steve/api/v1/transactions")
        before = world.steve.state.requests["GET /transactions"]
        return lambda: world.steve.state.requests["GET /transactions"] > before
    world.lago.faults.add("slow", 3_000, path=f"/api/v1/{path}")
    return lambda: world.lago.requests.in_flight > 0 and any(path in route for route in world.lago.requests.by_route)


@pytest.mark.parametrize("step", ["transactions", "subscriptions", "events/batch", "answered"])
async def test_a_killed_process_loses_and_repeats_nothing(world: World, processes: Processes, step: str) -> None:
    """Killed while it reads, while it asks about a subscription, while it delivers, or right after Lago had it all.
    What it was about to read, the next process reads within 30 s, whatever claim the dead one had.
    """
    await world.link("A")
    for _ in range(SESSIONS):
        world.charge("A", ENERGY_WH)
    reached = asked(world, "events/batch" if step == "answered" else step)
    first = processes.start()

    async def there() -> bool:
        await asyncio.sleep(0)
        return len(world.lago.state.events) > 0 if step == "answered" else reached()

    await eventually(there, within_s=60)
    await asyncio.to_thread(first.kill)
    killed_at = time.monotonic()
    world.lago.faults.clear()
    world.steve.faults.clear()
    if step != "transactions":
        # Time passes: what the dead one had claimed is free again.
        async with world.service.database.write() as tx:
            await tx.exec_driver_sql("UPDATE sync.ledger_entry SET due_at = now() WHERE state = 'sending'")
            await tx.exec_driver_sql("UPDATE sync.run_schedule SET lease_until = now()")
    processes.start()
    if step == "transactions":
        # The dead one's look was under way: it was its to finish, and nobody else's until its claim had run out.
        async def seen() -> bool:
            return len(await world.rows("SELECT 1 FROM sync.session")) == SESSIONS

        await eventually(seen, within_s=60)
        assert time.monotonic() - killed_at < 30

    async def all_billed() -> bool:
        rows = await world.rows("SELECT billing FROM sync.session")
        return len(rows) == SESSIONS and all(row.billing in {"synced", "counted"} for row in rows)

    await eventually(all_billed, within_s=60)
    assert world.counted() == (SESSIONS * ENERGY_WH, SESSIONS)
