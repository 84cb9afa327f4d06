import re
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest

from deploy.demo.lago import LagoSettings, run_lago
from deploy.demo.steve.settings import SteveSettings
from deploy.demo.steve.simulator import run_steve
from deploy.local.doctor.examination import checks, run
from deploy.local.doctor.result import Result
from deploy.local.doctor.target import Target
from deploy.local.environment import DATABASE_ADMIN
from shared.runtime.clock import utc_now


@pytest.fixture
async def target(database: Target) -> AsyncIterator[Target]:
    """An installation with a SteVe that does not know us, a Lago without a key, and a database."""
    async with run_steve(SteveSettings(auth_delay_ms=0)) as steve, run_lago(LagoSettings()) as lago:
        given = {
            DATABASE_ADMIN: database.given[DATABASE_ADMIN],
            "EXPRESSYNC_SYNC_STEVE_URL": steve.rest_url,
            "EXPRESSYNC_SYNC_STEVE_USER": "steve",
            "EXPRESSYNC_SYNC_STEVE_PASSWORD": "wrong",
            "EXPRESSYNC_SYNC_LAGO_URL": lago.url,
        }
        yield Target(database.home, None, given)


async def read(target: Target, off_s: float) -> dict[str, Result]:
    def clock() -> datetime:
        return utc_now() + timedelta(seconds=off_s)

    found = [one for check in checks(target, clock) if check.ids[0].startswith("clock.") for one in await run(check)]
    return {one.id: one for one in found}


@pytest.mark.parametrize(("off_s", "answer"), [(0, "yes"), (20, "yes"), (-60, "no"), (400, "no")])
async def test_the_clocks_of_steve_lago_and_the_database_are_compared(
    target: Target, off_s: float, answer: str
) -> None:
    """All three are read, also where our credentials are refused; a drift of this machine shows against each."""
    found = await read(target, off_s)
    assert {name: one.answer for name, one in found.items()} == dict.fromkeys(
        ("clock.steve", "clock.lago", "clock.database"), answer
    )


async def test_a_clock_beyond_the_hooks_bound_says_what_it_costs(target: Target) -> None:
    """From the bound on, every hook call is stale: that is what the operator must know."""
    found = await read(target, 400)
    assert "Every hook call is stale" in found["clock.steve"].why
    # A server may renew its Date header only once a second.
    assert re.search(r"(399|40[012]) s behind", found["clock.lago"].why)


async def test_clocks_that_cannot_be_read_are_unknown(target: Target) -> None:
    """Nobody there is not the same as nobody wrong."""
    away = {
        DATABASE_ADMIN: "postgresql://x@127.0.0.1:1/x",
        "EXPRESSYNC_SYNC_STEVE_URL": "http://127.0.0.1:1",
        "EXPRESSYNC_SYNC_LAGO_URL": "",
    }
    found = await read(Target(target.home, None, away), 0)
    assert {one.answer for one in found.values()} == {"unknown"}
