import json
import sys
from types import SimpleNamespace

import pytest

from tests.bench import __main__ as bench


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of them: the first one fails."""

    def fail() -> dict[str, float]:
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(bench, "NAMES", ["broken", "sound"])
    for name, main in (("broken", fail), ("sound", lambda: {"ratio": 0.7})):
        monkeypatch.setitem(sys.modules, f"tests.bench.bench_{name}", SimpleNamespace(main=main))


def test_a_benchmark_that_fails_does_not_stop_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    """Its error is printed, the others print their figures, and the exit code tells of it."""
    assert bench.main([]) == 1
    told = capsys.readouterr()
    assert json.loads(told.out) == {"bench": "sound", "ratio": 0.7}
    assert "the disk is full" in told.err
    assert told.err.endswith("Failed: broken.\n")


def test_benchmarks_that_succeed_end_with_0() -> None:
    """Named ones run alone."""
    assert bench.main(["sound"]) == 0


def test_a_name_that_is_none_runs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """A typing mistake is told before anything takes its minutes."""
    assert bench.main(["sound", "suond"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "there are broken, sound" in told.err
