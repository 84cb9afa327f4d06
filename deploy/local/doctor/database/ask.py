"""Asks PostgreSQL, as the administrator and as each service's role. Reads only."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, Final

import psycopg
from alembic.script import ScriptDirectory
from psycopg import sql
from sqlalchemy.exc import ArgumentError

from deploy.local.doctor import place
from deploy.local.doctor.database import rules
from deploy.local.doctor.database.rules import Found, Role, last_words
from deploy.local.doctor.place import Place
from deploy.local.doctor.result import Result
from deploy.local.doctor.target import Target
from deploy.local.environment import database_variable, given_owner, role_url
from deploy.local.home import SERVICES
from deploy.local.infra.errors import InfraError
from shared.database.engine import conninfo
from shared.database.migrations import Owner, alembic_config

CONNECT_TIMEOUT_S: Final = 4
Connection = psycopg.AsyncConnection[tuple[Any, ...]]

_ADMINISTRATOR: Final = """
SELECT rolsuper OR (rolcreaterole AND has_database_privilege(current_database(), 'CREATE'))
  FROM pg_roles WHERE rolname = current_user
"""
# A superuser has every privilege, so a role that is one is found here as well.
_READABLE: Final = """
SELECT DISTINCT n.nspname
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = ANY(%s) AND c.relkind IN ('r', 'p', 'v', 'm')
   AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
 ORDER BY 1
"""


async def connect(url: str) -> Connection:
    """A connection that only reads.

    :raises psycopg.Error: as libpq says it. :raises ValueError: the URL cannot be read.
    """
    try:
        info = conninfo(url)
    except (ArgumentError, ValueError):
        raise ValueError("the URL cannot be read; write it like postgresql://user:password@host:5432/name.") from None
    options = "-c default_transaction_read_only=on -c statement_timeout=4000 -c application_name=expressync-doctor"
    return await psycopg.AsyncConnection.connect(
        info, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S, options=options
    )


async def check(target: Target) -> list[Result]:
    where = await asyncio.to_thread(place.database, target)
    return rules.judge(await ask(target, where))


async def ask(target: Target, where: Place) -> Found:
    """What PostgreSQL says; nothing is raised for what it does not."""
    if where.running is False or where.url is None:
        return Found(where.way, where.shown, running=False, start=where.start)
    log = str(target.home.folder / "postgres" / "postgres.log")
    owners = [_owner(target, name) for name in SERVICES]
    try:
        async with await connect(where.url) as connection:
            version = connection.info.server_version
            may_administer = await _one(connection, _ADMINISTRATOR)
            schemas = await _names(connection, "SELECT nspname FROM pg_namespace WHERE nspname = ANY(%s)", SERVICES)
            wanted = [owner.role for owner in owners]
            roles = await _names(connection, "SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)", wanted)
            versions = {str(name): await _revisions(connection, name) for name in SERVICES if name in schemas}
    except (psycopg.Error, ValueError) as error:
        return Found(where.way, where.shown, start=where.start, log=log, problem=last_words(str(error)))
    access = await asyncio.gather(*(_role(target, where.url, owner) for owner in owners if owner.role in roles))
    scripts = await asyncio.to_thread(_scripts, owners)
    return Found(
        where.way,
        where.shown,
        server_version=f"{version // 10000}.{version % 10000}",
        may_administer=bool(may_administer),
        schemas=frozenset(schemas),
        roles=frozenset(roles),
        role_of={owner.service: owner.role for owner in owners},
        versions=versions,
        heads={name: tuple(script.get_heads()) for name, script in scripts.items()},
        unknown=frozenset(name for name, has in versions.items() if not _knows(scripts[name], has)),
        access=dict(access),
    )


def _owner(target: Target, service: str) -> Owner:
    # An address that names no role is told where one cannot sign in with it.
    with contextlib.suppress(InfraError):
        if (given := given_owner(service, target.given)) is not None:
            return given
    return Owner(service, service, f"expressync_{service}", target.database_password(service))


def _scripts(owners: Sequence[Owner]) -> dict[str, ScriptDirectory]:
    """Each service's migrations, read and not run."""
    scripts = {owner.service: ScriptDirectory.from_config(alembic_config(owner, "")) for owner in owners}
    for script in scripts.values():
        script.get_heads()
    return scripts


def _knows(script: ScriptDirectory, revisions: Sequence[str]) -> bool:
    known = {one.revision for one in script.walk_revisions()}
    return known.issuperset(revisions)


async def _role(target: Target, admin_url: str, owner: Owner) -> tuple[str, Role]:
    variable = database_variable(owner.service)
    known = target.environment(owner.service).get(variable)
    if not known and not owner.password:
        return owner.service, Role(attempted=False)
    others = [name for name in SERVICES if name != owner.schema]
    try:
        async with await connect(known or role_url(admin_url, owner)) as connection:
            return owner.service, Role(attempted=True, reads=tuple(await _names(connection, _READABLE, others)))
    except (psycopg.Error, ValueError) as error:
        given_in = variable if target.given.get(variable) else None
        return owner.service, Role(attempted=True, problem=last_words(str(error)).rstrip("."), given_in=given_in)


async def _one(connection: Connection, statement: str) -> object:
    row = await (await connection.execute(statement.encode())).fetchone()
    return row[0] if row else None


async def _names(connection: Connection, statement: str, wanted: Sequence[str]) -> list[str]:
    rows = await connection.execute(statement.encode(), [list(wanted)])
    return [str(row[0]) for row in await rows.fetchall()]


async def _revisions(connection: Connection, schema: str) -> tuple[str, ...]:
    table = sql.Identifier(schema, "alembic_version")
    try:
        rows = await connection.execute(sql.SQL("SELECT version_num FROM {} ORDER BY 1").format(table))
    except psycopg.errors.UndefinedTable:
        return ()
    return tuple(str(row[0]) for row in await rows.fetchall())
