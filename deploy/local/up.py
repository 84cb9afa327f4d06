"""`expressync up`: the four services on this machine, against a real SteVe and Lago."""

from pathlib import Path
from typing import Final

from deploy.local.configuration import SETTINGS, problems
from deploy.local.environment import DATABASE_ADMIN, Environment, read_dotenv
from deploy.local.home import Home
from deploy.local.infra.errors import InfraError
from deploy.local.infra.external import external_postgres
from deploy.local.infra.postgres import Postgres
from deploy.local.operator import first_operator
from deploy.local.running import noted, until_told
from deploy.local.schemas import bring_current
from deploy.local.stack import Stack

WATCH_EVERY_S: Final = 1.0


def _say(sentence: str) -> None:
    print(sentence, flush=True)


def run_up(env_file: Path) -> int:
    """Start everything, stay until Ctrl-C or SIGTERM, take everything down again."""
    home = Home.of("live")
    given = read_dotenv(env_file)
    if not env_file.is_file():
        _say(f"There is no {env_file}; settings come from the environment alone. See .env.example.")
    _check(given)
    with until_told() as told, noted(home):
        stack = Stack(home, given, _say)
        try:
            stack.start()
            stack.wait_ready(stop=told)
            if not told.is_set():
                _say(f"Console: http://{stack.host('admin_api')}:{stack.port('admin_api')}/")
                first = first_operator(stack)
                if first is not None:
                    _say(f"Sign in as {first.operator} with the one-time password {first.password}")
                _say(
                    f"Hook for a patched SteVe: http://{stack.host('preauth')}:{stack.port('preauth')}/api/ocpp/pre-authorize"
                )
                _say("Up. Ctrl-C stops everything.")
            while not told.wait(WATCH_EVERY_S):
                stack.keep_up()
            _say("Stopping.")
        finally:
            stack.stop()
    return 0


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


def run_migrate(env_file: Path) -> int:
    """Bring the schemas of the given database, or of the private one, to their newest version."""
    home = Home.of("live")
    admin_url = read_dotenv(env_file).get(DATABASE_ADMIN)
    postgres = external_postgres(admin_url) if admin_url else Postgres(home.folder / "postgres")
    if isinstance(postgres, Postgres) and postgres.folder.locked:
        raise InfraError(
            "The private PostgreSQL is in use.",
            "A stack is up; it migrated when it started.",
            "Restart it with `expressync down --keep` and `expressync up`.",
        )
    postgres.start()
    try:
        bring_current(postgres.url, home)
    finally:
        postgres.stop()
    _say("The schemas of all four services are current.")
    return 0
