import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from deploy.local.doctor.database.ask import check
from deploy.local.doctor.examination import Check, run
from deploy.local.doctor.target import Target
from deploy.local.environment import DATABASE_ADMIN, owners
from deploy.local.infra.postgres import Postgres
from deploy.local.infra.server import Server
from shared.database.migrations import upgrade
from tests.integration.deploy.local.doctor.conftest import SECRET, answers, by_id


def other(url: str, *, user: str = "", password: str = "", path: str = "") -> str:
    parts = urlsplit(url)
    netloc = f"{user or parts.username}:{password or parts.password}@{parts.hostname}:{parts.port}"
    return urlunsplit(parts._replace(netloc=netloc, path=path or parts.path))


@contextmanager
def done(target: Target, statement: str, undo: str = "") -> Iterator[None]:
    with psycopg.connect(target.given[DATABASE_ADMIN], autocommit=True) as connection:
        connection.execute(statement.encode())
        yield
        if undo:
            connection.execute(undo.encode())


async def test_a_migrated_database_is_fine(migrated: Target) -> None:
    """Reachable, entitled, complete, current and closed: each check says yes, and the server is named."""
    results = await check(migrated)
    assert answers(results) == dict.fromkeys(("reachable", "rights", "roles", "migrations", "isolation"), "yes")
    assert "given by its URL" in results[0].why


async def test_an_empty_database_lacks_everything_and_gets_nothing(database: Target) -> None:
    """A database that was never migrated is told, and the doctor neither creates a schema nor makes a password."""
    results = by_id(await check(database))
    assert results["database.reachable"].answer == "yes"
    assert results["database.roles"].answer == "no"
    assert "schema preauth" in results["database.roles"].why
    assert results["database.migrations"].answer == "no"
    with psycopg.connect(database.given[DATABASE_ADMIN]) as connection:
        assert connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'preauth'").fetchone() is None
    assert not database.home.base.exists()


async def test_a_schema_that_is_behind_is_named_with_both_revisions(migrated: Target) -> None:
    """The version table is compared with the newest migration of the code."""
    with done(migrated, "UPDATE sync.alembic_version SET version_num = '0000'"):
        found = by_id(await check(migrated))["database.migrations"]
    assert found.answer == "no"
    assert "sync is at 0000, and the code expects" in found.why
    assert "newer release" in (found.remedy or "")


async def test_a_schema_without_tables_is_named(migrated: Target) -> None:
    """A migration that never ran is told like one that is missing."""
    with done(migrated, "DROP TABLE audit.alembic_version"):
        found = by_id(await check(migrated))["database.migrations"]
    assert "audit is empty" in found.why
    assert "expressync migrate" in (found.remedy or "")


@pytest.mark.parametrize(
    ("statement", "undo", "said"),
    [
        (
            """GRANT USAGE ON SCHEMA sync TO expressync_preauth;
               GRANT SELECT ON ALL TABLES IN SCHEMA sync TO expressync_preauth""",
            "",
            "preauth can read sync",
        ),
        (
            "ALTER ROLE expressync_audit SUPERUSER",
            "ALTER ROLE expressync_audit NOSUPERUSER",
            "audit can read admin_api, preauth and sync",
        ),
    ],
)
async def test_a_role_that_can_read_another_schema_is_named(
    migrated: Target, statement: str, undo: str, said: str
) -> None:
    """A grant too many and a superuser are both found, by signing in as the role."""
    with done(migrated, statement, undo):
        found = by_id(await check(migrated))["database.isolation"]
    assert found.answer == "no"
    assert said in found.why


async def test_a_role_with_another_password_is_named(migrated: Target) -> None:
    """A service that could not sign in is told before it fails."""
    with done(migrated, f"ALTER ROLE expressync_sync PASSWORD '{SECRET}'"):
        results = by_id(await check(migrated))
    assert results["database.roles"].answer == "no"
    assert "expressync_sync" in results["database.roles"].why
    assert results["database.isolation"].answer == "unknown"


async def test_a_given_address_is_tried_and_named_and_followed(migrated: Target) -> None:
    """Where the operator chose role and password, the finding names the setting, and its remedy is one. The role that
    the tables were made for is renamed, as a migration asks for.
    """
    role = next(one.role for one in owners(migrated.home, migrated.given) if one.service == "sync")
    variable = "EXPRESSYNC_SYNC_DATABASE_URL"
    url = other(migrated.given[DATABASE_ADMIN], user="doctor_biller", password="first")
    target = replace(migrated, given={**migrated.given, variable: url})
    assert "There is no role doctor_biller yet" in by_id(await check(target))["database.roles"].why
    renamed = "ALTER ROLE {} RENAME TO {}".format
    with done(migrated, renamed(role, "doctor_biller"), renamed("doctor_biller", role)):
        upgrade(migrated.given[DATABASE_ADMIN], owners(migrated.home, target.given))
        assert {one.answer for one in await check(target)} == {"yes"}
        changed = replace(migrated, given={**migrated.given, variable: url.replace("first", SECRET)})
        found = by_id(await check(changed))["database.roles"]
        assert (found.answer, "sign in as doctor_biller" in found.why) == ("no", True)
        assert variable in (found.remedy or "")
        upgrade(migrated.given[DATABASE_ADMIN], owners(migrated.home, changed.given))
        assert {one.answer for one in await check(changed)} == {"yes"}
    # With the password that the others know.
    upgrade(migrated.given[DATABASE_ADMIN], owners(migrated.home, migrated.given))


async def test_an_administrator_without_rights_is_told_before_it_fails(migrated: Target) -> None:
    """`expressync up` needs to create roles and schemas, so a user who may not is a finding."""
    url = migrated.given[DATABASE_ADMIN]
    plain = f"""
        CREATE ROLE plain LOGIN PASSWORD '{SECRET}';
        GRANT CONNECT ON DATABASE {urlsplit(url).path[1:]} TO plain;
        GRANT USAGE ON SCHEMA preauth, sync, audit, admin_api TO plain;
        GRANT SELECT ON preauth.alembic_version, sync.alembic_version TO plain;
        GRANT SELECT ON audit.alembic_version, admin_api.alembic_version TO plain;
    """
    with done(migrated, plain, "DROP OWNED BY plain; DROP ROLE plain"):
        target = Target(migrated.home, None, {DATABASE_ADMIN: other(url, user="plain", password=SECRET)})
        results = by_id(await check(target))
    assert results["database.reachable"].answer == "yes"
    assert results["database.rights"].answer == "no"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"password": SECRET}, "password authentication failed"),
        ({"path": "/nowhere"}, 'database "nowhere" does not exist'),
    ],
)
async def test_a_refusal_is_told_in_postgresqls_words(database: Target, change: dict[str, str], words: str) -> None:
    """A wrong password and a wrong database are told apart, and the password stays unsaid."""
    url = other(database.given[DATABASE_ADMIN], **change)
    results = await check(Target(database.home, None, {DATABASE_ADMIN: url}))
    assert [one.answer for one in results] == ["no", "unknown", "unknown", "unknown", "unknown"]
    assert words in results[0].why
    assert SECRET not in str(results)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:{}@127.0.0.1:1/x",
        "postgresql://127.0.0.1:1/x?password={}",
        "postgresql//{}",
        "postgresql://u:{}@h:port/x",
    ],
)
async def test_an_address_where_nobody_is_or_that_is_none_is_told(target: Callable[..., Target], url: str) -> None:
    """A closed port and a malformed URL end in a finding and not in an error."""
    results = await check(target(**{DATABASE_ADMIN: url.format(SECRET)}))
    assert results[0].answer == "no"
    assert SECRET not in str(results)


async def test_a_private_database_is_told_to_be_down_and_is_not_started(target: Callable[..., Target]) -> None:
    """Where the stack does not run, the remedy is to start it; the doctor does not."""
    installation = target()
    postgres = Postgres(installation.home.folder / "postgres")
    results = await check(installation)
    assert (results[0].answer, results[0].remedy) == ("no", "Start it with `expressync up`.")
    fallen = await check(replace(installation, launcher_pid=os.getpid()))
    assert fallen[0].remedy == "Start it with `expressync down --keep` and `expressync up`."
    postgres.start()
    try:
        upgrade(postgres.url, owners(installation.home, {}))
        up = await check(installation)
        assert {one.answer for one in up} == {"yes"}
        assert "the private one" in up[0].why
    finally:
        postgres.stop()
    assert (await check(installation))[0].why == "The private PostgreSQL is not running."
    assert not postgres.folder.locked


async def test_a_database_that_says_nothing_does_not_hold_the_doctor_up(
    servers: Callable[[str], Server], database: Target
) -> None:
    """A frozen server accepts connections and never answers: the check ends by itself, and finds it."""
    servers("postgres").freeze()
    try:
        (found, *_) = await run(Check(("database.reachable",), lambda: check(database), deadline_s=10))
    finally:
        servers("postgres").thaw()
    assert found.answer == "no"
    assert "timeout" in found.why
