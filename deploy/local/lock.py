"""`requirements.lock`: `make lock` resolves it anew, `make lock-check` tries it under each supported Python found here.

One file for all supported Pythons and platforms, with hashes, and without the address of an index: every machine has
its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Final

from deploy.local.home import root
from deploy.local.infra.errors import InfraError

SUPPORTED: Final = ("3.11", "3.12", "3.13")
LOCK: Final = root() / "requirements.lock"
TOOLS: Final = root() / ".local" / "tools"
# Neither addresses nor paths: the file is the same wherever it is made.
COMPILE: Final = (
    *("pip", "compile", "pyproject.toml", "--all-extras", "--universal", f"--python-version={SUPPORTED[0]}"),
    *("--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url", "--quiet"),
)


def interpreters() -> dict[str, str]:
    """The supported Pythons of this machine by version: of the PATH, or pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found = {}
    for version in SUPPORTED:
        candidates = [shutil.which(f"python{version}"), *map(str, sorted(pyenv.glob(f"{version}.*/bin/python")))]
        for candidate in candidates:
            # A pyenv shim exists for every version, also for those that are switched off.
            if candidate and subprocess.run([candidate, "-c", ""], check=False, capture_output=True).returncode == 0:
                found[version] = candidate
                break
    return found


def check(say: Callable[[str], None] = print) -> bool:
    """Let each Python's pip plan the installation, hashes compared, without installing. Whether all could.

    :raises InfraError: when this machine has no supported Python but the one that asks.
    """
    found = interpreters()
    for version in SUPPORTED:
        if version not in found:
            say(f"Python {version}: not found here, so not tried.")
    if not found:
        raise InfraError("Nothing was checked.", f"There is no Python {', '.join(SUPPORTED)} here.", "Install one.")
    outcomes = [_try(version, python, say) for version, python in found.items()]
    return all(outcomes)


def _try(version: str, python: str, say: Callable[[str], None]) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([python, "-m", "venv", folder], check=True)
        pip = [f"{folder}/bin/pip", "install", "--disable-pip-version-check", "--quiet"]
        done = subprocess.run(
            [*pip, "--dry-run", "--require-hashes", "--only-binary=:all:", "-r", str(LOCK)],
            capture_output=True,
            text=True,
            check=False,
        )
    say(f"Python {version} ({python}): {'fine' if done.returncode == 0 else done.stderr.strip()}")
    return done.returncode == 0


def write() -> None:
    """Resolve anew. Versions that the lock has stay where they still fit; delete the file for the newest of all."""
    if not (TOOLS / "bin/uv").exists():
        venv.create(TOOLS, with_pip=True, clear=True)
        subprocess.run([TOOLS / "bin/pip", "install", "--quiet", "--disable-pip-version-check", "uv"], check=True)
    subprocess.run(
        [TOOLS / "bin/uv", *COMPILE, f"--output-file={LOCK.name}"], check=True, cwd=root(), env=_environment()
    )


def _environment() -> dict[str, str]:
    """Uv does not read where pip is told to look."""
    asked = subprocess.run(
        [TOOLS / "bin/pip", "config", "get", "global.index-url"], capture_output=True, text=True, check=False
    )
    index = os.environ.get("PIP_INDEX_URL") or asked.stdout.strip()
    return {**({"UV_DEFAULT_INDEX": index} if index else {}), **os.environ}


if __name__ == "__main__":
    try:
        if "--check" in sys.argv:
            sys.exit(0 if check() else 1)
        write()
    except InfraError as error:
        sys.exit(str(error))
