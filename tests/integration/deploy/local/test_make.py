"""What `make clean` and a commit do, in a checkout of their own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[4]
ENVIRONMENT = Path(sys.executable).parents[1]
# Of what runs the tests (`make test`, a commit's hook): to the programs here they would mean something else.
OURS = ("EXPRESSYNC_", "GIT_", "PYTHON", "MAKE", "MFLAGS")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The code, and an `expressync` that runs it there."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", ".pre-commit-config.yaml"):
        shutil.copy(ROOT / name, folder)
    for name in ("deploy", "services", "shared"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / ".venv/bin").mkdir(parents=True)
    program = folder / ".venv/bin/expressync"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m deploy.local.cli "$@"\n')
    program.chmod(0o755)
    return folder


def ran(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(OURS)}
    return subprocess.run(
        command,
        cwd=folder,
        env={**kept, "XDG_CONFIG_HOME": str(folder), "PRE_COMMIT_HOME": str(folder / ".pre-commit")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )


def test_clean_removes_what_was_made_and_keeps_and_names_the_stacks_data(checkout: Path) -> None:
    """The ledger of a real stack stays where nobody confirms, and the last word is where it is and how it goes."""
    for name in (".local/demo", ".local/live", ".local/packages/rabbitmq", ".mypy_cache", "shared/__pycache__"):
        (checkout / name).mkdir(parents=True)
    done = ran(checkout, "make", "clean")
    assert (done.returncode, "rror" in done.stdout) == (0, False), done.stdout
    assert "rm -rf .local/live" in done.stdout.splitlines()[-1]
    assert [one.name for one in (checkout / ".local").iterdir()] == ["live"]
    assert not [*checkout.rglob("__pycache__"), *checkout.glob(".mypy_cache"), *checkout.glob(".venv")]
    shutil.rmtree(checkout / ".local/live")
    assert ran(checkout, "make", "clean").returncode == 0
    assert not (checkout / ".local").exists()


def step(command: str) -> str:
    """What a command does, without how it is told to and to what."""
    return " ".join(word for word in command.split() if word != "." and not word.startswith("--"))


def test_a_commit_is_checked_as_make_check_does(checkout: Path) -> None:
    """Each step of `make check` is a hook; one that finds something stops the commit and mends what it can."""
    shutil.rmtree(checkout / ".venv")
    (checkout / ".venv").symlink_to(ENVIRONMENT)
    (local,) = yaml.safe_load((checkout / ".pre-commit-config.yaml").read_text())["repos"]
    steps = ran(checkout, "make", "--dry-run", "--old-file=.venv/.done", "check").stdout.splitlines()
    assert sorted(step(hook["entry"]) for hook in local["hooks"]) == sorted(map(step, steps))
    (checkout / "crooked.py").write_text("a   =  [ 1,2 ]\n")
    for command in ("init --quiet", "add crooked.py .pre-commit-config.yaml"):
        assert ran(checkout, "git", *command.split()).returncode == 0
    found = ran(checkout, ".venv/bin/pre-commit", "run", "ruff-format")
    assert found.returncode == 1, found.stdout
    assert (checkout / "crooked.py").read_text() == "a = [1, 2]\n"
    assert ran(checkout, "git", "add", "crooked.py").returncode == 0
    assert ran(checkout, ".venv/bin/pre-commit", "run", "ruff-format").returncode == 0
