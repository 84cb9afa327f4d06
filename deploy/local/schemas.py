"""The schemas of the four services, in a private or a given PostgreSQL."""

import psycopg
from alembic.util import CommandError
from sqlalchemy.exc import SQLAlchemyError

from deploy.local.environment import owners
from deploy.local.home import Home
from deploy.local.infra.errors import InfraError
from shared.database.migrations import upgrade


def bring_current(admin_url: str, home: Home) -> None:
    """Create or update schemas, roles and rights. Safe to repeat; blocks.

    :raises InfraError: when the database refuses it, or is newer than this program.
    """
    try:
        upgrade(admin_url, owners(home))
    except CommandError as error:
        raise InfraError(
            "The schemas are newer than this program.", f"{error}.", "Run the newer release, or restore a backup."
        ) from error
    except (psycopg.Error, SQLAlchemyError) as error:
        cause = error.__cause__ if isinstance(error.__cause__, psycopg.Error) else error
        why = " ".join(str(cause).split())
        raise InfraError(
            "The schemas could not be made current.", f"PostgreSQL says: {why}", "`expressync doctor` tells more."
        ) from error
