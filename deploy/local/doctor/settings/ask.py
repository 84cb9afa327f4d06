"""Loads each service's settings as the service would."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Final

from deploy.local.doctor.result import Result, yes
from deploy.local.doctor.settings import rules
from deploy.local.doctor.target import KNOWN, SETTINGS, VARIABLES, Target
from deploy.local.environment import AMQP
from shared.runtime import settings as configuration
from shared.runtime.settings import BadConfigurationError

# Made by the launcher where it is not given; only that there is one matters here.
_MADE: Final = {AMQP: "amqp://made-by-the-launcher/"}
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
        ),
        rules.names(ours, KNOWN, list(SETTINGS)),
    ]
    for service in SETTINGS:
        environment = target.environment(service)
        results.append(rules.service(service, _problems(service, environment), environment))
    if target.home.kind == "demo":
        return [*results, yes("settings.applied", "The demo makes its settings when it starts.")]
    started = {service: _operators(service, values, target) for service, values in target.running.items()}
    now = {service: _operators(service, target.environment(service), target) for service in SETTINGS}
    return [*results, rules.applied(now, started)]


def _operators(service: str, values: Mapping[str, str], target: Target) -> dict[str, str]:
    made = {AMQP, *(name for name in VARIABLES[service] if name.endswith(_ADDED))} - target.given.keys()
    return {name: value for name, value in values.items() if name in VARIABLES[service] and name not in made}


def _problems(service: str, environment: Mapping[str, str]) -> list[str]:
    made = {**_MADE, f"EXPRESSYNC_{service.upper()}_DATABASE_URL": "postgresql://made-by-the-launcher/"}
    with _as_environment({**made, **environment}):
        try:
            configuration.load(SETTINGS[service])
        except BadConfigurationError as error:
            return error.problems
    return []


@contextlib.contextmanager
def _as_environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
