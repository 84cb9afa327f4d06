from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from psycopg import errors
from psycopg_pool import PoolTimeout

from services.admin_api import tables as admin_api
from services.audit import tables as audit
from services.preauth import tables as preauth
from services.sync import tables as sync
from shared.database.engine import Database, is_unavailable
from shared.database.migrations import alembic_config, provision
from shared.runtime.log import mask
from tests.databases import OWNERS, SERVICES, TestDatabase, fresh_database
from tests.infra import Infra

METADATA = {
    "preauth": preauth.metadata,
    "sync": sync.metadata,
    "audit": audit.metadata,
    "admin_api": admin_api.metadata,
}


@pytest.fixture(scope="module")
def house(infra: Infra) -> Iterator[TestDatabase]:
    with fresh_database(infra.postgres.url, SERVICES) as database:
        yield database


@pytest.mark.parametrize("service", SERVICES)
def test_a_role_cannot_touch_another_services_schema(house: TestDatabase, service: str) -> None:
    """Each service's role is refused every table of every other service, and may create none anywhere."""
    with psycopg.connect(house.url(service), autocommit=True) as connection:
        for other in SERVICES:
            statement = f"SELECT count(*) FROM {other}.outbox"
            if other == service:
                connection.execute(statement)
                continue
            for refused in (statement, f"DELETE FROM {other}.outbox", f"INSERT INTO {other}.inbox DEFAULT VALUES"):
                with pytest.raises(errors.InsufficientPrivilege):
                    connection.execute(refused)
        for schema in (*SERVICES, "public"):
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(f"CREATE TABLE {schema}.mine (a int)")


def test_audit_can_neither_change_nor_delete_an_entry(house: TestDatabase) -> None:
    """The service that remembers has no right to forget."""
    with psycopg.connect(house.url("audit"), autocommit=True) as connection:
        for refused in ("UPDATE audit.entry SET type = 'x'", "DELETE FROM audit.entry", "TRUNCATE audit.entry"):
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(refused)


@pytest.mark.parametrize("service", SERVICES)
def test_migrations_lead_to_the_tables_and_back(infra: Infra, service: str) -> None:
    """Up gives exactly what the code's tables say; down to nothing and up again gives it once more."""
    with fresh_database(infra.postgres.url, [service]) as database:
        config = alembic_config(OWNERS[service], database.admin_url)
        command.downgrade(config, "base")
        command.upgrade(config, "head")
        engine = sa.create_engine(database.admin_url.replace("postgresql://", "postgresql+psycopg://"))
        with engine.connect() as connection:
            context = MigrationContext.configure(
                connection,
                opts={
                    "version_table_schema": service,
                    "include_schemas": True,
                    "compare_server_default": False,
                    "include_name": lambda name, kind, _: name == service if kind == "schema" else True,
                },
            )
            assert compare_metadata(context, METADATA[service]) == []
        engine.dispose()


def test_migrating_twice_changes_nothing(infra: Infra) -> None:
    """A second run finds everything current, keeps the data, and sets the passwords that are asked for."""
    from shared.database.migrations import upgrade  # noqa: PLC0415

    with fresh_database(infra.postgres.url, ["audit"]) as database:
        with psycopg.connect(database.admin_url, autocommit=True) as connection:
            connection.execute("INSERT INTO audit.subject_version VALUES ('card/1', 7)")
        upgrade(database.admin_url, [OWNERS["audit"]])
        with psycopg.connect(database.url("audit")) as connection:
            assert connection.execute("SELECT version FROM audit.subject_version").fetchone() == (7,)


def test_migrations_that_run_beside_each_other_queue(infra: Infra) -> None:
    """Several replicas may start at once: each provisions and migrates, one after the other."""
    with fresh_database(infra.postgres.url) as database, ThreadPoolExecutor(max_workers=4) as pool:
        for done in [pool.submit(provision, database.admin_url, list(OWNERS.values())) for _ in range(12)]:
            done.result()


def test_a_role_has_the_password_that_was_made_for_it(house: TestDatabase) -> None:
    """The password is kept as a SCRAM secret, and lets in who knows it and nobody else."""
    with psycopg.connect(house.url("audit")):
        pass
    with psycopg.connect(house.admin_url) as connection:
        kept = connection.execute(
            "SELECT rolpassword FROM pg_authid WHERE rolname = %s", [OWNERS["audit"].role]
        ).fetchone()
    assert kept is not None
    assert str(kept[0]).startswith("SCRAM-SHA-256$")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(house.url("audit").replace("audit-pw", "wrong"))


async def test_an_error_does_not_tell_what_was_written(house: TestDatabase) -> None:
    """A failing statement is logged; the values in it, which may be hashes and names, are not."""
    database = Database(house.url("audit"), application="test", schema="audit")
    await database.open()
    try:
        async with database.read() as tx:
            with pytest.raises(sa.exc.DBAPIError) as failed:
                await tx.execute(sa.text("SELECT 1 / :zero, :secret"), {"zero": 0, "secret": "argon2id-s3cret"})
        assert "s3cret" not in repr(failed.value)
        assert "s3cret" not in str(failed.value)
        # PostgreSQL itself repeats the row; what goes into logs does not.
        with pytest.raises(sa.exc.IntegrityError, match="s3cret") as refused:
            async with database.write() as tx:
                await tx.execute(sa.text("INSERT INTO audit.subject_version VALUES (:it, NULL)"), {"it": "s3cret"})
        assert "s3cret" not in f"{mask(str(refused.value))} {mask(repr(refused.value))}"
    finally:
        await database.close()


async def test_a_read_cannot_write(house: TestDatabase) -> None:
    """What is opened for reading refuses changes, whatever the SQL says."""
    database = Database(house.url("audit"), application="test", schema="audit")
    await database.open()
    try:
        async with database.read() as tx:
            with pytest.raises(sa.exc.DBAPIError, match="read-only"):
                await tx.execute(sa.text("INSERT INTO audit.subject_version VALUES ('card/2', 1)"))
    finally:
        await database.close()


async def test_a_lost_database_is_told_from_a_fault_of_ours(house: TestDatabase) -> None:
    """A refused connection is worth waiting for; a wrong statement is not."""
    gone = Database("postgresql://x:y@127.0.0.1:1/z", application="test", schema="audit")
    gone.pool.timeout = 0.3
    await gone.open()
    here = Database(house.url("audit"), application="test", schema="audit")
    await here.open()
    try:
        with pytest.raises(PoolTimeout) as lost:
            await gone.ready()
        assert is_unavailable(lost.value)
        async with here.read() as tx:
            with pytest.raises(sa.exc.ProgrammingError) as ours:
                await tx.execute(sa.text("SELECT nothing FROM nowhere"))
        assert not is_unavailable(ours.value)
    finally:
        await gone.close()
        await here.close()
