"""Where everything private lives: `.local/` beside the checkout, or EXPRESSYNC_HOME."""

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from deploy.local.infra.folder import Folder

SERVICES: Final = ("preauth", "sync", "audit", "admin_api")
Kind = Literal["live", "demo", "test"]


def root() -> Path:
    """The checkout this program runs from; the current folder for an installed wheel."""
    checkout = Path(__file__).resolve().parents[2]
    return checkout if (checkout / "pyproject.toml").is_file() else Path.cwd()


@dataclass(frozen=True, slots=True)
class Home:
    """The private folder of one stack. `live` (expressync up) and `demo` share nothing but downloaded packages."""

    base: Path
    kind: Kind

    @classmethod
    def of(cls, kind: Kind) -> "Home":
        given = os.environ.get("EXPRESSYNC_HOME")
        return cls(Path(given).absolute() if given else root() / ".local", kind)

    @property
    def folder(self) -> Path:
        return self.base / self.kind

    @property
    def packages(self) -> Path:
        return self.base / "packages"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    def note_console(self, url: str) -> None:
        """Remember where this stack's console is."""
        Folder(self.folder).write("console", url)

    def console(self) -> str | None:
        """Where it is, or was when the stack was up last."""
        path = self.folder / "console"
        return path.read_text() if path.exists() else None

    def secret(self, name: str) -> str:
        """A generated secret, made on first use and kept in a file that only its owner may read."""
        folder = Folder(self.folder)
        path = self.folder / "secrets.json"
        known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
        if name not in known:
            known[name] = secrets.token_urlsafe(32)
            folder.write("secrets.json", json.dumps(known, indent=1))
        return known[name]
