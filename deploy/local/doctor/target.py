"""Which installation is looked at: that of `.env` and the environment, or a demo that runs here."""

import contextlib
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import psutil

from deploy.local.configuration import SETTINGS, VARIABLES
from deploy.local.environment import AMQP, DATABASE_ADMIN, Environment, read_dotenv
from deploy.local.home import SERVICES, Home
from deploy.local.infra.errors import InfraError
from deploy.local.running import launcher
from shared.runtime.settings import variable_name

KNOWN: Final[frozenset[str]] = frozenset({DATABASE_ADMIN, AMQP}).union(*VARIABLES.values())
# Long enough not to be a word of a sentence; the demo's own "demo" is none.
LEAST_SECRET: Final = 6


@dataclass(frozen=True, slots=True)
class Target:
    """`given` is the operator's; `running` is the environment of each service that a launcher keeps up here."""

    home: Home
    env_file: Path | None
    given: Mapping[str, str]
    running: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    launcher_pid: int | None = None

    @property
    def up(self) -> str:
        """The command that starts this installation."""
        return "expressync up" if self.home.kind == "live" else "expressync demo"

    def environment(self, service: str) -> Mapping[str, str]:
        """What this service is, or would be, started with, as far as it is known."""
        if self.home.kind == "demo":
            return self.running.get(service, {})
        return Environment(self.given, {}).of(service)

    def setting(self, service: str, name: str) -> str:
        """A setting as text: given, or its default, or "". Works also where others beside it are wrong."""
        cls = SETTINGS[service]
        one = cls.model_fields[name]
        given = self.environment(service).get(variable_name(cls, name, one))
        if given:
            return given
        default = None if one.is_required() else one.get_default(call_default_factory=True)
        return "" if default is None or hasattr(default, "get_secret_value") else str(default)

    def database_password(self, service: str) -> str | None:
        """The generated password of a service's role, where one was made. Makes none."""
        try:
            known: dict[str, str] = json.loads((self.home.folder / "secrets.json").read_text())
        except (OSError, ValueError):
            return None
        return known.get(f"database.{service}")

    def secrets(self) -> set[str]:
        """Every secret value that is known here, to keep it out of what is said."""
        found: set[str] = set()
        for variables in (self.given, *self.running.values()):
            for name, value in variables.items():
                found.update(_secrets_in(name, value))
        with contextlib.suppress(OSError, ValueError):
            found.update(json.loads((self.home.folder / "secrets.json").read_text()).values())
        for server in ("postgres", "rabbitmq"):
            with contextlib.suppress(OSError):
                found.add((self.home.folder / server / "password").read_text())
        return {one for one in found if len(one) >= LEAST_SECRET}


def _secrets_in(name: str, value: str) -> Iterator[str]:
    if name.upper().endswith(("PASSWORD", "KEY", "KEYS", "TOKEN", "SECRET")):
        yield value
        yield from (part.strip() for part in value.split(","))
    if "://" in value:
        with contextlib.suppress(ValueError):
            password = urlsplit(value).password
            if password:
                yield from (password, unquote(password))


def find_target(env_file: Path) -> Target:
    """The installation of `.env` and the environment; without either, the demo where one runs.

    :raises InfraError: when the file that was named cannot be read.
    """
    if not env_file.exists() and env_file != Path(".env"):
        raise InfraError(f"There is no {env_file}.", "It was named, and is not there.", "Correct --env-file.")
    try:
        given = read_dotenv(env_file)
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InfraError(
            f"{env_file} cannot be read.", f"The system says: {what}.", "Correct the file or its rights."
        ) from error
    live, demo = Home.of("live"), Home.of("demo")
    found = env_file if env_file.is_file() else None
    if found is None and not (KNOWN & given.keys()) and launcher(live) is None and launcher(demo) is not None:
        return running_in(Target(demo, None, {}))
    return running_in(Target(live, found, given))


def running_in(target: Target) -> Target:
    process = launcher(target.home)
    if process is None:
        return target
    running = {}
    with contextlib.suppress(psutil.Error):
        for child in process.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                service = _service(child.cmdline())
                if service is not None:
                    running[service] = child.environ()
    return Target(target.home, target.env_file, target.given, running, process.pid)


def _service(command: list[str]) -> str | None:
    """Which service a command line runs: `python -m services.<service>`."""
    for flag, module in itertools.pairwise(command):
        name = module.removeprefix("services.")
        if flag == "-m" and module.startswith("services.") and name in SERVICES:
            return name
    return None
