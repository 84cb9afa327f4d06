"""One schema, one role and one migration history a service."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa
from alembic import command, context, op
from alembic.config import Config
from psycopg import sql

from shared.database.engine import conninfo
from shared.database.tables import NAMING, bus_tables_v1


@dataclass(frozen=True, slots=True)
class Owner:
    """A service's place in the database: `role` may use `schema` and no other.

    `password` is the role's; None leaves the one it has, or none: there are other ways to sign in than by password.
    """

    service: str
    schema: str
    role: str
    password: str | None


class NoServicesRoleError(Exception):
    """A role that would be cut down to one service's rights is somebody else's too."""

    def __init__(self, role: str, service: str, whose: str) -> None:
        super().__init__(f"{role} cannot be the role of {service}: it is {whose}")


class AnotherRolesTablesError(Exception):
    """A service is given a role other than the one that its tables were made for."""

    def __init__(self, owner: Owner, entitled: str) -> None:
        super().__init__(
            f"the tables of {owner.service} were made for {entitled}, and {owner.role} has no right to them"
        )
        self.owner = owner
        self.entitled = entitled


class SharedDatabaseError(Exception):
    """A database that would become ours holds what is not: others work with it."""

    def __init__(self, tables: Sequence[str], count: int) -> None:
        more = f" and {count - len(tables)} more" if count > len(tables) else ""
        super().__init__(f"it holds tables that are not ExpresSync's: {', '.join(tables)}{more}")


def provision(admin_url: str, owners: Sequence[Owner]) -> None:
    """Create schemas and roles as needed, set the passwords, and shut each role out of everything else.

    The database is ours alone, and so nobody else keeps a right in it by being anybody (PUBLIC).

    `admin_url` may create roles. Tables belong to the administrator, so that a service can neither alter its
    tables nor grant them away; it may read and write rows. Safe to repeat.

    :raises NoServicesRoleError, AnotherRolesTablesError, SharedDatabaseError: before anything is changed.
    """
    with psycopg.connect(conninfo(admin_url), autocommit=True) as connection:
        # Roles belong to the whole server and schemas to the database: who provisions at the same time waits here. The
        # lock goes with the connection.
        connection.execute("SELECT pg_advisory_lock(hashtext('expressync.provision'))")
        _refuse_others_roles(connection, owners)
        _refuse_others_tables(connection, owners)
        _refuse_others_database(connection, owners)
        database = connection.info.dbname
        connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        connection.execute(
            sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(database)),
        )
        for owner in owners:
            schema, role = sql.Identifier(owner.schema), sql.Identifier(owner.role)
            has = "SELECT rolsuper, rolcreatedb FROM pg_roles WHERE rolname = %s"
            known = connection.execute(has, [owner.role]).fetchone()
            # To take away what a role has not needs the right to give it, which an administrator may lack.
            taken = [right for right, had in zip(("NOSUPERUSER", "NOCREATEDB"), known or (), strict=False) if had]
            connection.execute(
                sql.SQL("{} ROLE {} LOGIN NOCREATEROLE NOINHERIT {} {}").format(
                    sql.SQL("ALTER" if known else "CREATE"),
                    role,
                    sql.SQL(" ").join(map(sql.SQL, taken)),
                    _password(connection, owner),
                )
            )
            for statement in (
                "GRANT CONNECT ON DATABASE {database} TO {role}",
                "CREATE SCHEMA IF NOT EXISTS {schema}",
                "GRANT USAGE ON SCHEMA {schema} TO {role}",
                "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role}",
                "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT USAGE ON SEQUENCES TO {role}",
            ):
                connection.execute(
                    sql.SQL(statement).format(database=sql.Identifier(database), schema=schema, role=role)
                )


def _refuse_others_roles(connection: psycopg.Connection[Any], owners: Sequence[Owner]) -> None:
    taken = {connection.info.user: "the administrator's"}
    for owner in owners:
        if owner.role in taken:
            raise NoServicesRoleError(owner.role, owner.service, taken[owner.role])
        taken[owner.role] = f"that of {owner.service}"


def _refuse_others_tables(connection: psycopg.Connection[Any], owners: Sequence[Owner]) -> None:
    """The rights to tables come with their migrations, some of them column by column: a role that comes later has none.

    Alembic's table is every schema's first. Whoever may only read, for figures say, is nobody's predecessor.
    """
    for owner in owners:
        entitled = connection.execute(
            "SELECT pg_get_userbyid(may.grantee)::text"
            " FROM pg_class JOIN pg_namespace ON relnamespace = pg_namespace.oid, aclexplode(relacl) AS may"
            " WHERE nspname = %s AND relname = 'alembic_version'"
            " AND may.privilege_type = 'INSERT' AND may.grantee NOT IN (0, relowner)",
            [owner.schema],
        ).fetchall()
        roles = [str(role) for (role,) in entitled]
        if roles and owner.role not in roles:
            raise AnotherRolesTablesError(owner, roles[0])


def _refuse_others_database(connection: psycopg.Connection[Any], owners: Sequence[Owner]) -> None:
    """One that is ours already is not asked: what somebody has put beside our tables since is theirs to know.

    Alembic's table is every schema's first. What an extension brings along belongs to nobody.
    """
    found = connection.execute(
        "SELECT count(*) OVER (), nspname || '.' || relname"
        " FROM pg_class JOIN pg_namespace ON relnamespace = pg_namespace.oid"
        " WHERE relkind IN ('r', 'p', 'm', 'f') AND nspname <> 'information_schema' AND nspname !~ '^pg_'"
        " AND NOT EXISTS (SELECT FROM pg_depend"
        "   WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype = 'e')"
        " AND NOT EXISTS (SELECT FROM pg_class AS one JOIN pg_namespace AS place ON one.relnamespace = place.oid"
        "   WHERE place.nspname = ANY(%s) AND one.relname = 'alembic_version')"
        " ORDER BY 2 LIMIT 3",
        [[owner.schema for owner in owners]],
    ).fetchall()
    if found:
        raise SharedDatabaseError([str(table) for _, table in found], int(found[0][0]))


def _password(connection: psycopg.Connection[Any], owner: Owner) -> sql.Composable:
    if owner.password is None:
        return sql.SQL("")
    # Hashed here: a statement may be logged by the server, and a password in it with it.
    hashed = connection.pgconn.encrypt_password(owner.password.encode(), owner.role.encode(), b"scram-sha-256")
    return sql.SQL("PASSWORD {}").format(sql.Literal(hashed.decode()))


def alembic_config(owner: Owner, admin_url: str) -> Config:
    """Alembic's view of one service: its scripts, its schema, the administrator's connection."""
    config = Config()
    config.set_main_option("script_location", str(Path(_root(), "services", owner.service, "migrations")))
    config.set_main_option("path_separator", "os")
    config.attributes.update(url=admin_url, schema=owner.schema, role=owner.role)
    return config


def _root() -> Path:
    return Path(__file__).resolve().parents[2]


def upgrade(admin_url: str, owners: Sequence[Owner]) -> None:
    """Bring every service's schema to its newest version; blocking."""
    provision(admin_url, owners)
    for owner in owners:
        command.upgrade(alembic_config(owner, admin_url), "head")


def run_environment(metadata: sa.MetaData) -> None:
    """What each service's `migrations/env.py` consists of."""
    attributes = context.config.attributes
    schema = str(attributes["schema"])
    url = "postgresql+psycopg://" + conninfo(attributes["url"]).removeprefix("postgresql://")
    # No pool: a migration that fails must close its connection, and with it give up the lock.
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=metadata,
            version_table_schema=schema,
            include_schemas=True,
            include_name=lambda name, kind, _: name == schema if kind == "schema" else True,
            transaction_per_migration=True,
        )
        # Migrations that run beside each other (two replicas starting) queue here instead of colliding.
        connection.execute(sa.text("SELECT pg_advisory_lock(hashtext(:name))"), {"name": f"expressync.{schema}"})
        connection.commit()
        with context.begin_transaction():
            context.run_migrations()
        connection.execute(sa.text("SELECT pg_advisory_unlock(hashtext(:name))"), {"name": f"expressync.{schema}"})
        connection.commit()


def create_bus_tables(schema: str) -> None:
    """First step of each service's first migration: outbox, inbox, subject versions, request results."""
    metadata = sa.MetaData(schema=schema, naming_convention=NAMING)
    bus_tables_v1(metadata)
    metadata.create_all(op.get_bind(), checkfirst=False)


def drop_bus_tables(schema: str) -> None:
    metadata = sa.MetaData(schema=schema, naming_convention=NAMING)
    bus_tables_v1(metadata)
    metadata.drop_all(op.get_bind(), checkfirst=False)
