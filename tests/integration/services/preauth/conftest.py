from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.databases import Template, TestDatabase, template_database
from tests.infra import Infra
from tests.integration.services.preauth.sync_double import SyncDouble
from tests.integration.services.preauth.world import Preauth, running


@pytest.fixture(scope="session")
def template(infra: Infra) -> Iterator[Template]:
    with template_database(infra.postgres.url, ["preauth"]) as migrated:
        yield migrated


@pytest.fixture
def database(template: Template) -> Iterator[TestDatabase]:
    with template.copy() as copied:
        yield copied


@pytest.fixture
async def preauth(database: TestDatabase, tmp_path: Path) -> AsyncIterator[Preauth]:
    async with running(database, tmp_path) as one:
        yield one


@pytest.fixture
def sync(preauth: Preauth, monkeypatch: pytest.MonkeyPatch) -> SyncDouble:
    double = SyncDouble()
    monkeypatch.setattr(preauth.service.requester, "ask", double.ask)
    return double
