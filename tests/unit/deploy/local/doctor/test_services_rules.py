from dataclasses import replace
from typing import Any

import pytest

from deploy.local.doctor.services import rules
from deploy.local.doctor.services.rules import Found

READY = Found(True, True, "http://127.0.0.1:8192/readyz", "expressync up", "/logs/sync.log", checks={"database": "ok"})


@pytest.mark.parametrize(
    ("change", "answer", "words", "remedy"),
    [
        ({}, "yes", "all it needs", None),
        # Started by other means than the launcher: it answers, and that is what counts.
        ({"launcher": False, "ours": False}, "yes", "all it needs", None),
        ({"launcher": False, "ours": False, "checks": None}, "no", "nothing answers", "`expressync up`"),
        ({"ours": False, "checks": None}, "no", "its launcher is", "/logs/sync.log"),
        ({"checks": None, "problem": "ConnectError"}, "unknown", "ConnectError", "/logs/sync.log"),
        (
            {"checks": {"database": "ok", "broker": "the broker is not connected"}},
            "no",
            "broker: the broker is not connected",
            "Repair",
        ),
        ({"notes": {"room": "it holds 200, and is to hold 500"}}, "no", "room: it holds 200", "anew"),
        ({"launcher": False, "ours": False, "other": "demo"}, "no", "the demo stack's", "`expressync up`"),
    ],
)
def test_how_a_service_stands(change: dict[str, Any], answer: str, words: str, remedy: str | None) -> None:
    """Ready, lacking something, silent, not started, or another stack's: each is told apart."""
    found = rules.judge("sync", replace(READY, **change))
    assert (found.id, found.answer) == ("services.sync", answer)
    assert words in found.why
    assert (found.remedy is None) if remedy is None else remedy in (found.remedy or "")
