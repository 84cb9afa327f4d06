"""How many chargers the gateway holds, by the file descriptors that its process may have."""

from pathlib import Path

import pytest

from services.preauth.gateway import descriptors
from services.preauth.gateway.server import Gateway
from tests.databases import TestDatabase
from tests.integration.services.preauth.world import running


@pytest.mark.parametrize("case", [(4096, 1024, "enough for 1024 chargers"), (20_000, 5000, None)])
async def test_a_limit_that_is_too_small_is_told_and_kept(
    monkeypatch: pytest.MonkeyPatch, database: TestDatabase, tmp_path: Path, case: tuple[int, int, str | None]
) -> None:
    """The gateway holds as many chargers as it has descriptors for, and readiness says that these are too few."""
    limit, holds, told = case
    monkeypatch.setattr(descriptors, "raised", lambda: limit)
    async with running(database, tmp_path, steve_ocpp_url="ws://127.0.0.1:1/x", ocpp_port=0) as preauth:
        [gateway] = [part for part in preauth.service.parts if isinstance(part, Gateway)]
        assert gateway.config.max_chargers == holds
        note = await preauth.service.notes["descriptors"]()
        assert note is None if told is None else told in (note or "")
        assert "descriptors" not in preauth.service.checks, "it is ready all the same"
