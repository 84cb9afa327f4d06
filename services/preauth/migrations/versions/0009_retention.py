"""Forgetting: months that are made although taps of theirs came early, and devices by when they were last seen."""

from importlib import import_module

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

SCHEMA = "preauth"
BEFORE = import_module("services.preauth.migrations.versions.0001_taps_and_pairings").KEEP_PARTITIONS

# As before, and: what a clock that was far off put into the default partition moves into its month when that is made
# (it could not be attached otherwise), and goes when it is old; a month that somebody reads is dropped the next time,
# without taking back what was made.
KEEP_PARTITIONS = """
CREATE OR REPLACE FUNCTION preauth.keep_tap_partitions(now_at timestamptz, ahead integer, keep_days integer)
RETURNS TABLE (partition text, done text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms' SET timezone = 'UTC'
AS $$
DECLARE
    month timestamptz := date_trunc('month', now_at);
    starts timestamptz;
    ends timestamptz;
    name text;
    old record;
BEGIN
    FOR n IN -1 .. ahead LOOP
        starts := month + make_interval(months => n);
        ends := month + make_interval(months => n + 1);
        name := 'tap_' || to_char(starts, 'YYYY_MM');
        IF to_regclass('preauth_journal.' || name) IS NULL THEN
            EXECUTE format(
                'CREATE TABLE preauth_journal.%I (LIKE preauth.tap INCLUDING DEFAULTS INCLUDING CONSTRAINTS)'
                ' WITH (fillfactor = 80)', name);
            EXECUTE format(
                'WITH early AS (DELETE FROM preauth_journal.tap_default WHERE received_at >= %L AND received_at < %L'
                ' RETURNING *) INSERT INTO preauth_journal.%I SELECT * FROM early', starts, ends, name);
            EXECUTE format(
                'ALTER TABLE preauth.tap ATTACH PARTITION preauth_journal.%I FOR VALUES FROM (%L) TO (%L)',
                name, starts, ends);
            partition := name; done := 'made';
            RETURN NEXT;
        END IF;
    END LOOP;
    FOR old IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'preauth.tap'::regclass AND c.relname ~ '^tap_[0-9]{4}_[0-9]{2}$'
          AND to_timestamp(substr(c.relname, 5), 'YYYY_MM') + interval '1 month'
              <= now_at - make_interval(days => keep_days)
    LOOP
        BEGIN
            EXECUTE format('DROP TABLE preauth_journal.%I', old.relname);
            partition := old.relname; done := 'dropped';
            RETURN NEXT;
        EXCEPTION WHEN lock_not_available THEN
            partition := old.relname; done := 'in use';
            RETURN NEXT;
        END;
    END LOOP;
    DELETE FROM preauth_journal.tap_default WHERE received_at < now_at - make_interval(days => keep_days);
    IF FOUND THEN
        partition := 'tap_default'; done := 'trimmed';
        RETURN NEXT;
    END IF;
END
$$
"""


def upgrade() -> None:
    op.execute(KEEP_PARTITIONS)
    op.add_column(
        "known_device",
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        schema=SCHEMA,
    )


def downgrade() -> None:
    op.drop_column("known_device", "seen_at", schema=SCHEMA)
    op.execute(BEFORE.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
