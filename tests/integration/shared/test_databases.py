"""What a test finds in a database that the test before it had."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests import databases
from tests.databases import Template, TestDatabase, template_database
from tests.infra import Infra

TABLES = b"""
    SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND n.nspname IN ('preauth', 'audit') ORDER BY 1, 2
"""
ENTRY = b"""
    INSERT INTO audit.entry (event_id, type, source, subject, subject_version, time, recorded_at, actor_kind, actor_id,
                             correlation_id, data_schema, known, body)
    VALUES (gen_random_uuid(), '', '', '', 1, now(), now(), '', '', gen_random_uuid(), '', true, '')
"""
TAP = b"""
    INSERT INTO preauth.tap (received_at, tap_id, charge_box_id, id_tag, kind, via, reason)
    VALUES ('2031-05-05Z', gen_random_uuid(), 'CP-1', '04', 'start', 'hook', 'nothing_armed')
"""


@pytest.fixture(scope="module")
def template(infra: Infra) -> Iterator[Template]:
    with template_database(infra.postgres.url, ["preauth", "audit"]) as migrated:
        yield migrated


def ask(database: TestDatabase, *statements: bytes) -> list[tuple[Any, ...]]:
    """The rows of the last one."""
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        *_, last = [connection.execute(statement) for statement in statements]
        return last.fetchall() if last.description else []


def content(database: TestDatabase) -> dict[str, Any]:
    """Each table's rows, and how far each sequence is."""
    found: dict[str, Any] = {}
    with psycopg.connect(database.admin_url) as connection:
        for schema, table in connection.execute(TABLES).fetchall():
            name = sql.Identifier(schema, table)
            rows = sql.SQL("SELECT row_to_json(t)::text FROM {} t ORDER BY 1").format(name)
            found[f"{schema}.{table}"] = connection.execute(rows).fetchall()
        found["sequences"] = connection.execute(
            "SELECT schemaname, sequencename, last_value FROM pg_sequences ORDER BY 1, 2"
        ).fetchall()
    return found


def test_the_next_test_finds_nothing_of_the_one_before(template: Template) -> None:
    """Rows go, what the migrations put in is back, numbers begin anew; also where the service made a month between."""
    with template.copy() as first:
        before = content(first)
        ask(first, ENTRY, ENTRY, b"SELECT * FROM preauth.keep_tap_partitions('2031-05-05Z', 1, 36500)", TAP)
        ask(first, b"INSERT INTO audit.subject_version VALUES ('card/1', 7)")
        ask(first, b"UPDATE audit.alembic_version SET version_num = '9'", b"DELETE FROM preauth.alembic_version")
        assert content(first) != before
    with template.copy() as second:
        assert second == first
        assert content(second) == before
        assert ask(second, ENTRY, b"SELECT position FROM audit.entry") == [(1,)]
        ask(second, TAP)
        assert ask(second, b"SELECT tableoid::regclass::text FROM preauth.tap") == [("preauth_journal.tap_2031_05",)]


@pytest.mark.parametrize(
    "change",
    [
        b"ALTER TABLE audit.entry ALTER COLUMN known SET DEFAULT true",
        b"GRANT UPDATE (body) ON audit.entry TO test_audit",
        b"UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'audit.ix_entry_time'::regclass",
        b"DROP INDEX audit.ix_entry_time",
        b"GRANT UPDATE ON audit.entry TO test_audit",
        b"ALTER TABLE audit.entry ALTER COLUMN body DROP NOT NULL",
        b"GRANT USAGE ON SCHEMA audit TO test_preauth",
    ],
)
def test_a_database_that_was_changed_is_no_other_tests(template: Template, change: bytes) -> None:
    """Emptied it would still be another one than the migrations make."""
    with template.copy() as changed:
        ask(changed, change)
    with template.copy() as following:
        assert following != changed


def test_a_database_that_somebody_still_uses_is_no_other_tests(
    template: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a test left running would write into the next one's."""
    monkeypatch.setattr(databases, "LEFT_WITHIN_S", 0.1)
    with template.copy() as used:
        left = psycopg.connect(used.admin_url)
    with left, template.copy() as following:
        assert following != used
