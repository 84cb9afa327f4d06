"""The Chromium of the browser tests: a given one, the machine's, or the distribution's packages unpacked here.

Without any, the browser tests skip and say what to do; `EXPRESSYNC_REQUIRE_BROWSER` makes that a failure.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape

import pytest

from deploy.local.infra.errors import InfraError
from deploy.local.infra.packages import Bundle, provide

GIVEN: Final = "EXPRESSYNC_CHROMIUM"
REQUIRED: Final = "EXPRESSYNC_REQUIRE_BROWSER"
NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
PACKAGES: Final = Path(__file__).parents[2] / ".local" / "packages"
BUNDLE: Final = Bundle(
    "Chromium",
    wanted=("chromium", "fonts-dejavu-core"),
    # Libraries that the machine has are not planned, so its own are used. Nothing that only a desktop needs.
    needed=re.compile(r"^(chromium|chromium-common|fonts-dejavu-core|lib.+)$"),
    ours=re.compile(r"^chromium(-.+)?$"),
    otherwise=f"install the package chromium, or name a Chromium in {GIVEN}.",
)
ARGUMENTS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass(frozen=True)
class Chromium:
    path: str
    env: dict[str, str] = field(default_factory=dict)

    @property
    def launch(self) -> dict[str, Any]:
        """What Playwright's `launch` takes."""
        return {"executable_path": self.path, "args": [*ARGUMENTS], "env": {**os.environ, **self.env}}


@functools.cache
def find() -> Chromium:
    """:raises InfraError: when there is none."""
    if given := os.environ.get(GIVEN):
        if not os.access(given, os.X_OK):
            raise InfraError(f"{GIVEN} names {given}.", "It is no program.", f"Correct {GIVEN}, or leave it out.")
        return Chromium(given)
    for name in NAMES:
        if found := shutil.which(name):
            return Chromium(found)
    return in_tree(provide(BUNDLE, PACKAGES))


def in_tree(root: Path) -> Chromium:
    """The one in a folder of unpacked packages, with what it needs to find its libraries and fonts there.

    :raises InfraError: when it is not there: Ubuntu's package is empty, and fetches a snap.
    """
    program = root / "usr/lib/chromium/chromium"
    if not program.exists():
        raise InfraError(
            "There is no Chromium to run the browser tests with.",
            f"The distribution's package, unpacked in {root}, holds none.",
            f"Install one, so that it is in the PATH, or name it in {GIVEN}.",
        )
    libraries = [path for path in (*root.glob("usr/lib/*-linux-gnu*"), *root.glob("lib/*-linux-gnu*")) if path.is_dir()]
    fonts = root / "fonts.conf"
    if not fonts.exists():
        folders = "".join(f"<dir>{escape(str(base))}/usr/share/fonts</dir>" for base in (root, ""))
        fonts.write_text(f"<fontconfig>{folders}</fontconfig>\n")
    env = {"LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries)), "FONTCONFIG_FILE": str(fonts)}
    return Chromium(str(program), env)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before the fixtures of a browser test are made."""
    if item.get_closest_marker("browser") is None:
        return
    try:
        find()
    except InfraError as error:
        if os.environ.get(REQUIRED):
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
