"""How the demo ends."""

import io
import json

import pytest
from rich.console import Console

from deploy.demo.story.play import Check
from deploy.local.demo import summary

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
