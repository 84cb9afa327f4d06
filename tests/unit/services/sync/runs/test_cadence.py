"""How often SteVe is looked at."""

import pytest
from annotated_types import Le

from services.sync.settings import SyncSettings


@pytest.mark.parametrize("name", ["poll_s", "idle_poll_s", "dormant_poll_s"])
def test_a_session_is_seen_within_thirty_seconds_in_any_mode(name: str) -> None:
    """However it is set, the look itself has a third of that time."""
    field = SyncSettings.model_fields[name]
    [most] = [one.le for one in field.metadata if isinstance(one, Le)]
    assert most == 20
    assert field.default <= most
