"""`python3 -m deploy.local.bootstrap .venv`: a virtual environment with pip. Runs before anything is installed.

Debian and Ubuntu ship `ensurepip`, which puts pip into a virtual environment, in a package of its own (python3-venv)
that needs root to install. Where it is missing, pip comes from the package that would bring it, unpacked under
`.local/packages`.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import venv
from pathlib import Path

from deploy.local.infra.errors import InfraError
from deploy.local.infra.packages import Bundle, provide

OLDEST = (3, 11)
NEWEST = (3, 13)
PACKAGES = Path(__file__).resolve().parents[2] / ".local" / "packages"
SYSTEM = Path("/")
# Where Debian's packages keep wheels, below the root of the system or of an unpacked package.
WHEELS = Path("usr/share/python-wheels")
PIP = Bundle(
    "pip",
    wanted=("python3-pip-whl",),
    needed=re.compile(r"^python3-pip-whl$"),
    ours=re.compile(r"^python3-pip-whl$"),
    otherwise="or install the package python3-venv.",
)


def main(folder: Path) -> None:
    """Create the environment, with its pip.

    :raises InfraError: when this Python is too old or too new, or pip is nowhere to be had.
    """
    is_what = f"{sys.executable} is what `python3` means here"
    if sys.version_info < OLDEST:
        raise InfraError(
            f"Python {sys.version_info.major}.{sys.version_info.minor} is too old for ExpresSync.",
            f"{is_what}; {OLDEST[0]}.{OLDEST[1]} or newer is needed.",
            "Install a newer one and name it: make PYTHON=python3.12 ...",
        )
    if sys.version_info[:2] > NEWEST:
        raise InfraError(
            f"Python {sys.version_info.major}.{sys.version_info.minor} is too new for ExpresSync.",
            f"{is_what}; requirements.lock has packages for up to {NEWEST[0]}.{NEWEST[1]}.",
            "Name one of those: make PYTHON=python3.13 ...",
        )
    if importlib.util.find_spec("ensurepip") is not None:
        venv.create(folder, with_pip=True, symlinks=True)
        return
    wheel = pip_wheel()
    venv.create(folder, with_pip=False, symlinks=True)
    # A wheel is a zip archive, and pip runs from it.
    install = [str(folder / "bin/python"), f"{wheel}/pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*install, "--no-index", "--no-deps", str(wheel)], check=True)


def pip_wheel() -> Path:
    """The system's, or else the one of the unpacked package."""
    found = _wheels(SYSTEM) or _wheels(provide(PIP, PACKAGES))
    if not found:
        raise InfraError(
            "There is no pip.",
            f"The package {PIP.wanted[0]} holds none in /{WHEELS}.",
            "Install the package python3-venv.",
        )
    return found[-1]


def _wheels(root: Path) -> list[Path]:
    return sorted((root / WHEELS).glob("pip-*.whl"))


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except InfraError as error:
        sys.exit(str(error))
