"""`expressync up`: the four services on this machine, against a real SteVe and Lago."""

import json
import threading
from pathlib import Path
from typing import Final

from deploy.local.configuration import SETTINGS, problems
from deploy.local.environment import DATABASE_ADMIN, Environment, database_variable, owners, read_dotenv
from deploy.local.home import SERVICES, Home
from deploy.local.infra.errors import InfraError
from deploy.local.infra.external import external_postgres
from deploy.local.infra.postgres import Postgres
from deploy.local.operator import first_operator
from deploy.local.running import noted, until_told
from deploy.local.schemas import bring_current
from deploy.local.stack import Say, Stack

WATCH_EVERY_S: Final = 1.0


def _say(sentence: str) -> None:
    print(sentence, flush=True)


def _say_json(sentence: str) -> None:
    print(json.dumps({"said": sentence}), flush=True)


def run_up(env_file: Path, *, as_json: bool = False) -> int:
    """Start everything, stay until Ctrl-C or SIGTERM, take everything down again.

    As JSON: one object a line, `{"said": ...}`, and once all is up `{"console", "hook", "operator",
    "one_time_password"}`, the last two null once an operator has chosen a password.
    """
    say = _say_json if as_json else _say
    home = Home.of("live")
    given = read_dotenv(env_file)
    if not env_file.is_file():
        say(f"There is no {env_file}; settings come from the environment alone. See .env.example.")
    _check(given)
    with noted(home):
        # May download RabbitMQ's packages for minutes, which Ctrl-C simply ends: nothing is started before.
        stack = Stack(home, given, say)
        with until_told() as told:
            _stay_up(stack, say, told, as_json=as_json)
    return 0


def _stay_up(stack: Stack, say: Say, told: threading.Event, *, as_json: bool) -> None:
    try:
        stack.start(told=told)
        stack.wait_ready(stop=told)
        if not told.is_set():
            _welcome(stack, as_json=as_json)
        while not told.wait(WATCH_EVERY_S):
            stack.keep_up()
        say("Stopping.")
    finally:
        stack.stop()


def _welcome(stack: Stack, *, as_json: bool) -> None:
    console = f"http://{stack.host('admin_api')}:{stack.port('admin_api')}/"
    hook = f"http://{stack.host('preauth')}:{stack.port('preauth')}/api/ocpp/pre-authorize"
    first = first_operator(stack)
    name, password = (first.operator, first.password) if first is not None else (None, None)
    if as_json:
        print(
            json.dumps({"console": console, "hook": hook, "operator": name, "one_time_password": password}), flush=True
        )
        return
    _say(f"Console: {console}")
    if name is not None:
        _say(f"Sign in as {name} with the one-time password {password}")
    _say(f"Hook for a patched SteVe: {hook}")
    _say("Up. Ctrl-C stops everything.")


def _check(given: dict[str, str]) -> None:
    """Before servers are started for services that would refuse to.

    :raises InfraError: naming every setting that is missing, wrong or unknown.
    """
    environment = Environment(given, {})
    wrong = dict.fromkeys(problem for service in SETTINGS for problem in problems(service, environment.of(service)))
    if wrong:
        raise InfraError(
            "Nothing was started: the settings are missing or wrong.",
            "\n".join(f"  {problem}" for problem in wrong),
            "Copy .env.example to .env and fill it in; `expressync doctor` checks it. `expressync demo` needs none.",
        )


def run_migrate(env_file: Path, *, as_json: bool = False) -> int:
    """Bring the schemas of the given database, or of the private one, to their newest version."""
    home = Home.of("live")
    given = read_dotenv(env_file)
    admin_url = given.get(DATABASE_ADMIN)
    addressed = [name for service in SERVICES if (name := database_variable(service)) in given]
    if addressed and not admin_url:
        raise InfraError(
            "Nothing was migrated.",
            f"{addressed[0]} is set and {DATABASE_ADMIN} is not: the schemas would be made in a private PostgreSQL.",
            f"Set {DATABASE_ADMIN} to the same database, as a role that may create roles and schemas.",
        )
    to_own = owners(home, given)
    postgres = external_postgres(admin_url) if admin_url else Postgres(home.folder / "postgres")
    if isinstance(postgres, Postgres) and postgres.folder.locked:
        raise InfraError(
            "The private PostgreSQL is in use.",
            "A stack is up; it migrated when it started.",
            "Restart it with `expressync down --keep` and `expressync up`.",
        )
    postgres.start()
    try:
        bring_current(postgres.url, to_own)
    finally:
        postgres.stop()
    if as_json:
        print(json.dumps({"current": [owner.schema for owner in to_own]}))
    else:
        _say("The schemas of all four services are current.")
    return 0
