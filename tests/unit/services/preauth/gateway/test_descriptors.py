"""How many chargers a process has file descriptors for."""

import resource
from pathlib import Path
from typing import Any

import pytest

from services.preauth.gateway import descriptors
from services.preauth.gateway.descriptors import Room
from services.preauth.main import wire
from services.preauth.settings import PreauthSettings


@pytest.mark.parametrize(
    ("limit", "room"),
    [(256, Room(64, 64)), (1024, Room(256, 256)), (20_000, Room(8464, 2048)), (1_048_576, Room(522_752, 2048))],
)
def test_chargers_get_what_others_leave(limit: int, room: Room) -> None:
    """Two descriptors each, after those that are needed besides; of few everybody gets a part."""
    assert descriptors.room(limit) == room
    assert 2 * room.chargers + room.unasked < limit
    assert descriptors.too_small(limit, room.chargers) is None
    assert f"enough for {room.chargers} chargers" in (descriptors.too_small(limit, room.chargers + 1) or "")


def test_a_process_allows_itself_what_it_may() -> None:
    """The soft limit, often 1024, becomes the hard one."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before[1] // 2, before[1]))
        assert descriptors.raised() == before[1]
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
        assert descriptors.raised() == before[1]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize(("limit", "holds", "told"), [(4096, 1024, "enough for 1024 chargers"), (20_000, 5000, None)])
async def test_a_limit_that_is_too_small_is_told_and_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit: int, holds: int, told: str | None
) -> None:
    """The gateway holds as many chargers as it has descriptors for, and readiness says that these are too few."""
    monkeypatch.setattr(descriptors, "raised", lambda: limit)
    values: dict[str, Any] = {"database_url": "postgresql://x", "amqp_url": "amqp://x", "spool_dir": tmp_path}
    ports: dict[str, Any] = {"port": 0, "ops_port": 0, "ocpp_port": 0}
    settings = PreauthSettings(**values, **ports, steve_ocpp_url="ws://steve/x")
    assert settings.ocpp_max_chargers == 5000
    service, _, _ = wire(settings)
    [gateway] = [part for part in service.parts if part.name == "gateway"]
    assert gateway.config.max_chargers == holds  # type: ignore[attr-defined]
    note = await service.notes["descriptors"]()
    assert note is None if told is None else told in (note or "")
    assert "descriptors" not in service.checks, "it is ready all the same"
