from collections.abc import AsyncIterator

import pytest

from tests.databases import TestDatabase
from tests.integration.services.preauth.chargers.support import Writing, writing


@pytest.fixture
async def one(database: TestDatabase) -> AsyncIterator[Writing]:
    async with writing(database) as running:
        yield running
