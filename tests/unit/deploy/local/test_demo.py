"""How the demo is kept up, and how it ends."""

import io
import json
import threading
from pathlib import Path

import pytest
from rich.console import Console

from deploy.demo.story.play import Check
from deploy.local import demo
from deploy.local.demo import Demo, summary
from deploy.local.environment import AMQP
from deploy.local.infra.errors import InfraError

DONE, FAILED = Check("a tap is decided", passed=True), Check("a Wh is counted", passed=False, found="0 kWh")


@pytest.mark.parametrize(
    ("checks", "code"), [([DONE], 0), ([DONE, DONE], 0), ([DONE, FAILED], 1), ([FAILED], 1), ([], 1)]
)
@pytest.mark.parametrize("as_json", [True, False])
def test_the_exit_code_is_0_only_when_all_was_checked_and_passed(
    checks: list[Check], code: int, capsys: pytest.CaptureFixture[str], *, as_json: bool
) -> None:
    """CI goes by it: one failed check is a failed demo, and so is a story that came to no check."""
    page = io.StringIO()
    assert summary(checks, Console(file=page), as_json=as_json) == code
    if as_json:
        said = json.loads(capsys.readouterr().out)
        assert (said["passed"], len(said["checks"])) == (code == 0, len(checks))
    else:
        assert f"{sum(check.passed for check in checks)} of {len(checks)} checks passed." in page.getvalue()
        assert ("0 kWh" in page.getvalue()) == (FAILED in checks)


def test_what_goes_wrong_ends_no_watching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever keeps something from being started again is said once, and looked at again all the same."""
    monkeypatch.setenv("EXPRESSYNC_HOME", str(tmp_path))
    monkeypatch.setenv(AMQP, "amqp://h/")
    monkeypatch.setattr(demo, "KEEP_UP_EVERY_S", 0.001)
    refusal = InfraError("sync refuses to start.", "No key.", "Give one.")
    wrong = [OSError("no more files"), RuntimeError("can't start new thread"), refusal, refusal]
    page, well = io.StringIO(), threading.Event()
    one = Demo(Console(file=page, width=200))

    def keep_up() -> None:
        if wrong:
            raise wrong.pop(0)
        well.set()

    monkeypatch.setattr(one, "keep_up", keep_up)
    with one.kept_up():
        assert well.wait(10)
    assert [line.split("  ", 1)[1].strip() for line in page.getvalue().splitlines()] == [
        "OSError('no more files')",
        'RuntimeError("can\'t start new thread")',
        "sync refuses to start. No key.",
    ]
