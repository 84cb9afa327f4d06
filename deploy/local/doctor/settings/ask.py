"""Loads each service's settings as the service would."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dotenv.parser import parse_stream

from deploy.local.configuration import SETTINGS, VARIABLES, problems
from deploy.local.doctor.result import Result, yes
from deploy.local.doctor.settings import rules
from deploy.local.doctor.target import KNOWN, Target
from deploy.local.environment import AMQP

# What the launcher adds is not the operator's, so it cannot have been changed by one.
_ADDED: Final = ("_DATABASE_URL", "_PORT", "_SPOOL_DIR")


def check(target: Target) -> list[Result]:
    """Before anything concurrent starts: the process's environment is exchanged while settings are loaded."""
    ours = {name for name in target.given if name.startswith("EXPRESSYNC_")}
    results = [
        rules.source(
            kind=target.home.kind,
            env_file=str(target.env_file) if target.env_file else None,
            from_environment=bool(ours & KNOWN),
            running=target.launcher_pid is not None,
            unreadable=unreadable_lines(target.env_file) if target.env_file else [],
        ),
        rules.names(ours, KNOWN, list(SETTINGS)),
    ]
    for service in SETTINGS:
        environment = target.environment(service)
        results.append(rules.service(service, problems(service, environment), environment))
    folder = _spool_folder(target)
    results.append(rules.spool(str(folder), usable=can_be_written(folder)))
    if target.home.kind == "demo":
        return [*results, yes("settings.applied", "The demo makes its settings when it starts.")]
    started = {service: _operators(service, values, target) for service, values in target.running.items()}
    now = {service: _operators(service, target.environment(service), target) for service in SETTINGS}
    return [*results, rules.applied(now, started)]


def _operators(service: str, values: Mapping[str, str], target: Target) -> dict[str, str]:
    made = {AMQP, *(name for name in VARIABLES[service] if name.endswith(_ADDED))} - target.given.keys()
    return {name: value for name, value in values.items() if name in VARIABLES[service] and name not in made}


def _spool_folder(target: Target) -> Path:
    """As the launcher would have it, where nobody says otherwise."""
    given = target.environment("preauth").get("EXPRESSYNC_PREAUTH_SPOOL_DIR")
    return Path(given).absolute() if given else target.home.folder / "preauth" / "spool"


def can_be_written(folder: Path) -> bool:
    """Whether a file can be made in this folder, or the folder where it is not there yet. Makes neither."""
    there = next(one for one in (folder, *folder.parents) if os.access(one, os.F_OK))
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def unreadable_lines(env_file: Path) -> list[int]:
    """The numbers of the lines that are no `NAME=value`; they are left out when the file is read."""
    with env_file.open(encoding="utf-8") as file:
        return [found.original.line for found in parse_stream(file) if found.error]
