import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import pytest

from deploy.demo.chargers.charger import Charger
from deploy.demo.chargers.settings import ChargerSettings
from deploy.demo.steve.settings import SteveSettings
from deploy.demo.steve.simulator import SteveSimulator, run_steve
from tests.contract.steve.document import ApiDocument

DOCUMENT = "steve-api-docs.json"


@pytest.fixture(scope="session")
def document() -> ApiDocument:
    """SteVe's published OpenAPI document. It is not part of this repository."""
    folder = os.environ.get("EXPRESSYNC_CONTRACTS")
    if not folder:
        pytest.skip(f"EXPRESSYNC_CONTRACTS is not set: it names the folder that holds {DOCUMENT}")
    file = Path(folder) / DOCUMENT
    if not file.is_file():
        pytest.skip(f"EXPRESSYNC_CONTRACTS names {folder}, which holds no {DOCUMENT}")
    return ApiDocument(msgspec.json.decode(file.read_bytes(), type=dict[str, object]))


@pytest.fixture
async def steve(document: ApiDocument) -> AsyncIterator[SteveSimulator]:
    async with run_steve(SteveSettings(auth_delay_ms=0)) as simulator:
        simulator.state.add_charger("CP-1")
        yield simulator


@pytest.fixture
async def rest(steve: SteveSimulator) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        base_url=f"{steve.rest_url}/steve", auth=("steve", "steve"), trust_env=False
    ) as client:
        yield client


@pytest.fixture
async def station(steve: SteveSimulator) -> AsyncIterator[Charger]:
    async with Charger(ChargerSettings(ocpp_url=steve.ocpp_url, charge_box_id="CP-1")) as connected:
        yield connected
