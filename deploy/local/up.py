"""`expressync up`: the four services on this machine, against a real SteVe and Lago."""

from pathlib import Path
from typing import Final

from deploy.local.environment import DATABASE_ADMIN, owners, read_dotenv
from deploy.local.home import Home
from deploy.local.infra.errors import InfraError
from deploy.local.infra.external import external_postgres
from deploy.local.infra.postgres import Postgres
from deploy.local.operator import first_operator
from deploy.local.running import noted, until_told
from deploy.local.stack import Stack
from shared.database.migrations import upgrade

WATCH_EVERY_S: Final = 1.0


def _say(sentence: str) -> None:
    print(sentence, flush=True)


def run_up(env_file: Path) -> int:
    """Start everything, stay until Ctrl-C or SIGTERM, take everything down again."""
    home = Home.of("live")
    given = read_dotenv(env_file)
    if not env_file.is_file():
        _say(f"There is no {env_file}; settings come from the environment alone. See .env.example.")
    with until_told() as told, noted(home):
        stack = Stack(home, given, _say)
        try:
            stack.start()
            stack.wait_ready(stop=told)
            if not told.is_set():
                _say(f"Console: http://127.0.0.1:{stack.port('admin_api')}/")
                first = first_operator(stack)
                if first is not None:
                    _say(f"Sign in as {first.operator} with the one-time password {first.password}")
                _say(f"Hook for a patched SteVe: http://127.0.0.1:{stack.port('preauth')}/api/ocpp/pre-authorize")
                _say("Up. Ctrl-C stops everything.")
            while not told.wait(WATCH_EVERY_S):
                stack.keep_up()
            _say("Stopping.")
        finally:
            stack.stop()
    return 0


def run_migrate(env_file: Path) -> int:
    """Bring the schemas of the given database, or of the private one, to their newest version."""
    home = Home.of("live")
    admin_url = read_dotenv(env_file).get(DATABASE_ADMIN)
    postgres = external_postgres(admin_url) if admin_url else Postgres(home.folder / "postgres")
    try:
        postgres.start()
    except InfraError:
        if admin_url:
            raise
        raise InfraError(
            "The private PostgreSQL is in use.",
            "A stack is up; it migrated when it started.",
            "Restart it with `expressync down --keep` and `expressync up`.",
        ) from None
    try:
        upgrade(postgres.url, owners(home))
    finally:
        postgres.stop()
    _say("The schemas of all four services are current.")
    return 0
