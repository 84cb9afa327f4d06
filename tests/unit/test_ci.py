"""What the judge does on a machine that lacks something."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

RUN = Path(__file__).parents[2] / ".ci" / "run"


@pytest.mark.parametrize("user", ["0", "1000"])
def test_a_machine_without_packages_is_judged_all_the_same(tmp_path: Path, user: str) -> None:
    """No chromium, no docker, and an apt-get that finds nothing: it is said, and the tests then say what to do."""
    run, tools = tmp_path / ".ci" / "run", tmp_path / "tools"
    run.parent.mkdir()
    shutil.copy(RUN, run)
    tools.mkdir()
    for name in ("bash", "dirname", "mkdir"):
        (tools / name).symlink_to(str(shutil.which(name)))
    programs = {
        "id": f"echo {user}",
        "apt-get": "exit 100",
        "apt-cache": "exit 100",
        "make": 'echo "made $1, $EXPRESSYNC_REQUIRE_BROWSER$EXPRESSYNC_REQUIRE_DOCKER"',
        "../.venv/bin/expressync": "exit 0",
        "../.venv/bin/pytest": "exit 0",
    }
    for name, does in programs.items():
        program = tools / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f"#!{shutil.which('bash')}\n{does}\n")
        program.chmod(0o755)
    without = {name: value for name, value in os.environ.items() if not name.startswith("EXPRESSYNC_")}
    done = subprocess.run(
        [str(tools / "bash"), str(run)],
        env={**without, "PATH": str(tools), "EXPRESSYNC_CONTRACTS": "none"},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("made")] == [
        "made setup, 11",
        "made check, 11",
        "made test, 11",
    ]
    assert "could not be unpacked" in done.stdout
    assert ("gave none" in done.stdout) == (user == "0")
