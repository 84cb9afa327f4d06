"""How many chargers a process has file descriptors for."""

import resource

import pytest

from services.preauth.gateway import descriptors
from services.preauth.gateway.descriptors import Room


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
