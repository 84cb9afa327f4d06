from collections.abc import AsyncIterator

import pytest

from tests.databases import fresh_database
from tests.infra import Infra
from tests.integration.services.preauth.scenarios.site import Site, built, way

HOOK, GATEWAY, BOTH = way("hook", 2), way("gateway", 2), way("both", 2)
ALONE = (way("hook", 1), way("gateway", 1))
WAYS = [HOOK, GATEWAY, BOTH, *(pytest.param(one, marks=pytest.mark.full) for one in ALONE)]


@pytest.fixture(scope="module", params=WAYS, ids=str)
async def site(
    request: pytest.FixtureRequest, infra: Infra, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Site]:
    """One for all tests of a file, which have chargers, cards and kiosks of their own."""
    with fresh_database(infra.postgres.url, ["preauth"]) as database:
        async with built(request.param, database, tmp_path_factory.mktemp("site")) as site:
            yield site


@pytest.fixture
def charger_id(site: Site) -> str:
    return site.new_charger()


@pytest.fixture
def card(site: Site) -> str:
    return site.new_card()
