"""The first operator of a fresh stack, and the demo's own token: made with the database role, not over the API."""

import asyncio
from datetime import timedelta
from uuid import uuid4

from deploy.local.environment import database_variable
from deploy.local.stack import Stack
from services.admin_api.access.operators import OneTimePassword
from services.admin_api.access.tokens import Tokens
from services.admin_api.bootstrap import first_operator as make_first_operator
from services.admin_api.settings import AdminApiSettings
from services.admin_api.tables import metadata
from shared.bus.outbox import Outbox
from shared.contracts.identity import Actor, Cause
from shared.database.engine import Database
from shared.runtime.clock import utc_now, uuid7

HOURS = "EXPRESSYNC_ADMIN_API_ONE_TIME_PASSWORD_HOURS"


def _database_url(stack: Stack) -> str:
    return stack.environment.of("admin_api")[database_variable("admin_api")]


def first_operator(stack: Stack) -> OneTimePassword | None:
    """The first operator with a new one-time password; None once an operator has a password of its own."""
    # The service, which is up, has accepted what is set.
    hours = int(stack.environment.variable(HOURS) or AdminApiSettings.model_fields["one_time_password_hours"].default)
    return asyncio.run(make_first_operator(_database_url(stack), one_time=timedelta(hours=hours)))


def demo_token(stack: Stack) -> str:
    """A token, good for a day, with which the demo plays the operator, and sets up a kiosk."""

    async def make() -> str:
        database = Database(_database_url(stack), application="expressync-demo", schema="admin_api", pool_size=1)
        await database.open()
        try:
            tokens = Tokens(database, Outbox(metadata, clock=utc_now, new_id=uuid7), clock=utc_now, new_id=uuid7)
            cause = Cause(actor=Actor(kind="system", id="demo"), correlation_id=uuid7())
            async with database.write() as tx:
                name = f"demo {uuid4().hex[:8]}"
                return (await tokens.create(tx, name=name, role="admin", days=1, cause=cause)).token
        finally:
            await database.close()

    return asyncio.run(make())
