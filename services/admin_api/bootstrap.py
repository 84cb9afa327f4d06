"""`python -m services.admin_api.bootstrap`: the first operator and its one-time password, printed once.

A command and not a setting: a password in the environment outlives its use, in files, process lists and child
processes. Who runs this can write into the service's database anyway. It needs no broker; the event waits in the
outbox. Until the first operator has chosen a password, each run gives a new one-time password and voids the last.
"""

import argparse
import asyncio
import json
import logging
import sys
from datetime import timedelta

from services.admin_api.access.operators import OneTimePassword, Operators
from services.admin_api.access.passwords import Passwords
from services.admin_api.settings import AdminApiSettings
from services.admin_api.tables import metadata
from shared.bus.outbox import Outbox
from shared.contracts.identity import Actor, Cause
from shared.database.engine import Database, is_unavailable
from shared.runtime import settings as configuration
from shared.runtime.clock import utc_now, uuid7
from shared.runtime.settings import BadConfigurationError


async def first_operator(database_url: str, *, one_time: timedelta) -> OneTimePassword | None:
    """Create the first operator, or renew its unused one-time password; None once it has chosen its own.

    :param database_url: as the service's own role.
    """
    database = Database(database_url, application="expressync-admin_api-bootstrap", schema="admin_api", pool_size=1)
    await database.open()
    try:
        operators = Operators(
            database,
            Outbox(metadata, clock=utc_now, new_id=uuid7),
            Passwords(),
            one_time=one_time,
            clock=utc_now,
        )
        cause = Cause(actor=Actor(kind="system", id="admin_api"), correlation_id=uuid7())
        return await operators.first(cause)
    finally:
        await database.close()


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 whether or not there was something to do, 2 on bad configuration, 3 without a database."""
    parser = argparse.ArgumentParser(prog="python -m services.admin_api.bootstrap", description=__doc__)
    parser.add_argument("--json", action="store_true", help="for programs")
    given = parser.parse_args(arguments)
    try:
        settings = configuration.load(AdminApiSettings)
    except BadConfigurationError as error:
        configuration.stop_with(error, "expressync admin_api bootstrap")
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)  # what it would say is said in three lines below
    one_time = timedelta(hours=settings.one_time_password_hours)
    try:
        made = asyncio.run(first_operator(settings.database_url.get_secret_value(), one_time=one_time))
    except Exception as error:
        if not is_unavailable(error):
            raise
        _say("The first operator could not be created.", "The database does not answer.", "Start it, and try again.")
        return 3
    if given.json:
        found = (
            {"operator": made.operator, "one_time_password": made.password, "until": str(made.until)} if made else {}
        )
        sys.stdout.write(json.dumps({"created": made is not None, **found}) + "\n")
    elif made is None:
        sys.stdout.write("There are operators already, with passwords of their own. Nothing was changed.\n")
    else:
        sys.stdout.write(f"Operator:          {made.operator}\nOne-time password: {made.password}\n")
    return 0


def _say(*lines: str) -> None:
    sys.stderr.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
