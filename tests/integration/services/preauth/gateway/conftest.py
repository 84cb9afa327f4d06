from collections.abc import AsyncIterator

import pytest

from deploy.demo.steve.settings import SteveSettings
from deploy.demo.steve.simulator import SteveSimulator, run_steve
from tests.integration.services.preauth.gateway.support import Notes, Running, running_gateway


@pytest.fixture
async def steve() -> AsyncIterator[SteveSimulator]:
    """A SteVe with one charger without password and one card."""
    async with run_steve(SteveSettings(auth_delay_ms=0)) as simulator:
        simulator.state.add_charger("CP-1")
        simulator.state.add_tag("CARD")
        yield simulator


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
async def gateway(steve: SteveSimulator, notes: Notes) -> AsyncIterator[Running]:
    """A gateway in front of that SteVe, with a desk and a watcher that take notes."""
    async with running_gateway(steve.ocpp_url, desk=notes, watcher=notes) as running:
        yield running
