"""The schemas of the four services, in a private or a given PostgreSQL."""

from collections.abc import Sequence

import psycopg
from alembic.util import CommandError
from sqlalchemy.exc import SQLAlchemyError

from deploy.local.environment import DATABASE_ADMIN
from deploy.local.infra.errors import InfraError
from shared.database.migrations import AnotherRolesTablesError, NoServicesRoleError, Owner, SharedDatabaseError, upgrade


def bring_current(admin_url: str, owners: Sequence[Owner]) -> None:
    """Create or update schemas, roles and rights. Safe to repeat; blocks.

    :raises InfraError: when the database refuses it, or is newer than this program.
    """
    try:
        upgrade(admin_url, owners)
    except CommandError as error:
        raise InfraError(
            "The schemas are newer than this program.", f"{error}.", "Run the newer release, or restore a backup."
        ) from error
    except NoServicesRoleError as error:
        raise InfraError(
            "The schemas were not touched.",
            f"{error}, and would lose its other rights.",
            "Give each service a role of its own in its address, or none: `expressync up` then makes one.",
        ) from error
    except AnotherRolesTablesError as error:
        old, new = error.entitled, error.owner.role
        raise InfraError(
            "The schemas were not touched.",
            f"{error}.",
            f"Put {old} into the address of {error.owner.service} again. Or give the role its new name, which no other"
            f' may have then: ALTER ROLE "{old}" RENAME TO "{new}". It keeps its rights, and loses an MD5 password.',
        ) from error
    except SharedDatabaseError as error:
        raise InfraError(
            "The database was not touched.",
            f"ExpresSync needs one of its own, since it takes the rights to it from everybody else, and {error}.",
            f"Make one on the same server, CREATE DATABASE expressync, and name that in {DATABASE_ADMIN}.",
        ) from error
    except (psycopg.Error, SQLAlchemyError) as error:
        cause = error.__cause__ if isinstance(error.__cause__, psycopg.Error) else error
        why = " ".join(str(cause).split())
        raise InfraError(
            "The schemas could not be made current.", f"PostgreSQL says: {why}", "`expressync doctor` tells more."
        ) from error
