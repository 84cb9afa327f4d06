import os
from pathlib import Path

import pytest

from deploy.local.configuration import problems
from deploy.local.infra.errors import InfraError
from deploy.local.up import run_up

COMPLETE = {
    "EXPRESSYNC_SYNC_STEVE_ID": "main",
    "EXPRESSYNC_SYNC_STEVE_URL": "http://steve",
    "EXPRESSYNC_SYNC_STEVE_USER": "api",
    "EXPRESSYNC_SYNC_LAGO_URL": "http://lago",
    "EXPRESSYNC_SYNC_LAGO_API_KEY": "key",
}


def test_settings_are_judged_as_the_service_would_and_nothing_is_left_behind() -> None:
    """Complete settings have no problem without the launcher's part; others are named; the environment is restored."""
    before = dict(os.environ)
    assert problems("sync", COMPLETE) == []
    wrong = problems("sync", {**COMPLETE, "EXPRESSYNC_SYNC_POLL_S": "often", "EXPRESSYNC_SYNC_LAGO_ULR": "x"})
    assert len(wrong) == 2
    assert wrong[0].startswith("EXPRESSYNC_SYNC_POLL_S: ")
    assert "did you mean EXPRESSYNC_SYNC_LAGO_URL?" in wrong[1]
    assert dict(os.environ) == before


def test_nothing_is_started_for_services_that_would_refuse_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`expressync up` without settings says at once which are missing, and where to begin; it makes nothing."""
    for name in [*os.environ]:
        if name.startswith("EXPRESSYNC_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("EXPRESSYNC_HOME", str(tmp_path / "home"))
    with pytest.raises(InfraError, match="Nothing was started") as raised:
        run_up(tmp_path / ".env")
    assert "EXPRESSYNC_SYNC_STEVE_URL is not set" in raised.value.why
    assert "Copy .env.example to .env" in raised.value.remedy
    assert list(tmp_path.iterdir()) == []
