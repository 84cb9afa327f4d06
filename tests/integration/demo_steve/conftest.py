from collections.abc import AsyncIterator

import httpx
import pytest

from deploy.demo.steve.simulator import SteveSimulator, run_steve
from tests.integration.demo_steve.support import QUICK, rest_client


@pytest.fixture
async def steve() -> AsyncIterator[SteveSimulator]:
    """A SteVe of 3.15 with one charger without password."""
    async with run_steve(QUICK) as simulator:
        simulator.state.add_charger("CP-1")
        yield simulator


@pytest.fixture
async def rest(steve: SteveSimulator) -> AsyncIterator[httpx.AsyncClient]:
    async with rest_client(steve) as client:
        yield client
