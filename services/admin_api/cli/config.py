"""Where to ask, and with which token: the environment, or what `expressync login` stored."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from services.admin_api.cli.errors import USAGE, CliError

URL: Final = "EXPRESSYNC_URL"
TOKEN: Final = "EXPRESSYNC_TOKEN"  # noqa: S105 - the variable's name
DEFAULT_URL: Final = "http://127.0.0.1:8090"
_LOOPBACK: Final = {"127.0.0.1", "::1", "localhost"}


@dataclass(frozen=True, slots=True, repr=False)
class Access:
    url: str
    token: str | None


def path() -> Path:
    """The file that `login` writes (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_CONFIG_HOME") or ""
    folder = Path(base) if Path(base).is_absolute() else Path.home() / ".config"
    return folder / "expressync" / "credentials.json"


def load(url: str | None = None) -> Access:
    """The address and the token to use. A stored token goes only to the address it was stored for.

    :raises CliError: when the file cannot be read.
    """
    stored = kept()
    chosen = (url or os.environ.get(URL) or (stored.url if stored else DEFAULT_URL)).rstrip("/")
    token = os.environ.get(TOKEN) or (stored.token if stored and stored.url == chosen else None)
    return Access(chosen, token)


def kept() -> Access | None:
    """What `login` wrote.

    :raises CliError: when the file cannot be read.
    """
    file = path()
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return Access(str(found["url"]).rstrip("/"), str(found["token"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CliError(
            f"{file} cannot be read.", f"{type(error).__name__}: {error}.", "Run `expressync login` again."
        ) from error


def save(access: Access) -> Path:
    """Write the file, readable by its owner only from the moment it exists."""
    file = path()
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = file.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        json.dump({"url": access.url, "token": access.token}, opened)
    fresh.replace(file)
    return file


def forget() -> None:
    path().unlink(missing_ok=True)


def refuse_clear_text(url: str, *, allowed: bool) -> None:
    """:raises CliError: where a secret would cross a network unencrypted."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise CliError(
            f"{url!r} is no address.", "It has to begin with http:// or https://.", "Give another --url.", code=USAGE
        )
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK and not allowed:
        raise CliError(
            "Nothing was sent.",
            f"{url} is not encrypted: everybody on the way could read the password and the token.",
            "Use an https address, or --allow-http if you trust the network.",
            code=USAGE,
        )
