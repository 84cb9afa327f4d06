"""The bus's tables, the journal with its partitions, pairings, the kill switch, and the projections of a tap."""

import sqlalchemy as sa
from alembic import context, op

from shared.database.migrations import create_bus_tables, drop_bus_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SCHEMA = "preauth"
PARTITIONS = "preauth_journal"

TABLES = (
    "tap",
    "sweep",
    "remote_start",
    "pairing",
    "open_session",
    "journal_gap",
    "interception_off",
    "card_pin",
    "card",
    "bound_browser",
)

# Makes the months around `now_at`, drops those that ended more than `keep_days` ago, and returns what it did. The
# service's role owns no table, so it asks this function, which can do nothing else. A new month is made beside the
# journal and then attached, because that lock lets taps go on; dropping needs the strong lock, so it waits only a
# moment for it and is done the next time when somebody reads for long.
KEEP_PARTITIONS = """
CREATE FUNCTION preauth.keep_tap_partitions(now_at timestamptz, ahead integer, keep_days integer)
RETURNS TABLE (partition text, done text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms' SET timezone = 'UTC'
AS $$
DECLARE
    month timestamptz := date_trunc('month', now_at);
    name text;
    old record;
BEGIN
    FOR n IN -1 .. ahead LOOP
        name := 'tap_' || to_char(month + make_interval(months => n), 'YYYY_MM');
        IF to_regclass('preauth_journal.' || name) IS NULL THEN
            EXECUTE format(
                'CREATE TABLE preauth_journal.%I (LIKE preauth.tap INCLUDING DEFAULTS INCLUDING CONSTRAINTS)'
                ' WITH (fillfactor = 80)', name);
            EXECUTE format(
                'ALTER TABLE preauth.tap ATTACH PARTITION preauth_journal.%I FOR VALUES FROM (%L) TO (%L)',
                name, month + make_interval(months => n), month + make_interval(months => n + 1));
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
        EXECUTE format('DROP TABLE preauth_journal.%I', old.relname);
        partition := old.relname; done := 'dropped';
        RETURN NEXT;
    END LOOP;
END
$$
"""


def upgrade() -> None:
    create_bus_tables(SCHEMA)
    op.create_table(
        "bound_browser",
        sa.Column("id_tag", sa.Text(), nullable=False),
        sa.Column("browser", sa.LargeBinary(), nullable=False),
        sa.Column("bound_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id_tag", "browser", name=op.f("pk_bound_browser")),
        schema="preauth",
    )
    op.create_table(
        "card",
        sa.Column("id_tag", sa.Text(), nullable=False),
        sa.Column("parent_id_tag", sa.Text(), nullable=True),
        sa.Column("subject_version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id_tag", name=op.f("pk_card")),
        schema="preauth",
    )
    op.create_index("ix_card_parent_id_tag", "card", ["parent_id_tag"], unique=False, schema="preauth")
    op.create_table(
        "card_pin",
        sa.Column("id_tag", sa.Text(), nullable=False),
        sa.Column("pin_hash", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("locked_until", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id_tag", name=op.f("pk_card_pin")),
        schema="preauth",
    )
    op.create_table(
        "interception_off",
        sa.Column("charge_box_id", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("by_kind", sa.Text(), nullable=False),
        sa.Column("by_id", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("charge_box_id", name=op.f("pk_interception_off")),
        schema="preauth",
    )
    op.create_table(
        "journal_gap",
        sa.Column("gap_id", sa.UUID(), nullable=False),
        sa.Column("first_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("taps", sa.BigInteger(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("gap_id", name=op.f("pk_journal_gap")),
        schema="preauth",
    )
    op.create_table(
        "open_session",
        sa.Column("charge_box_id", sa.Text(), nullable=False),
        sa.Column("transaction_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("connector_id", sa.Integer(), nullable=False),
        sa.Column("id_tag", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("stopped_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("charge_box_id", "transaction_id", name=op.f("pk_open_session")),
        schema="preauth",
    )
    op.create_index(
        "ix_open_session_charge_box_id",
        "open_session",
        ["charge_box_id"],
        unique=False,
        schema="preauth",
        postgresql_where=sa.text("stopped_at IS NULL"),
    )
    op.create_index("ix_open_session_started_at", "open_session", ["started_at"], unique=False, schema="preauth")
    op.create_table(
        "pairing",
        sa.Column("pairing_id", sa.UUID(), nullable=False),
        sa.Column("charge_box_id", sa.Text(), nullable=False),
        sa.Column("connector_id", sa.Integer(), nullable=True),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("presence", sa.Text(), nullable=False),
        sa.Column("weak", sa.Boolean(), nullable=False),
        sa.Column("armed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("armed_by_kind", sa.Text(), nullable=False),
        sa.Column("armed_by_id", sa.Text(), nullable=False),
        sa.Column("browser", sa.LargeBinary(), nullable=True),
        sa.Column("kiosk_id", sa.UUID(), nullable=True),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("correlation_id", sa.UUID(), nullable=False),
        sa.Column("id_tag", sa.Text(), nullable=True),
        sa.Column("tap_id", sa.UUID(), nullable=True),
        sa.Column("matched_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("via", sa.Text(), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("result", sa.Text(), nullable=True),
        sa.CheckConstraint("presence IN ('operator', 'kiosk', 'qr')", name=op.f("ck_pairing_presence")),
        sa.CheckConstraint("purpose IN ('login', 'link_card', 'find_card')", name=op.f("ck_pairing_purpose")),
        sa.CheckConstraint(
            "state IN ('armed', 'matched', 'intercepted', 'consumed', 'cancelled', 'expired', 'void')",
            name=op.f("ck_pairing_state"),
        ),
        sa.PrimaryKeyConstraint("pairing_id", name=op.f("pk_pairing")),
        schema="preauth",
    )
    op.create_index("ix_pairing_armed_at", "pairing", ["armed_at"], unique=False, schema="preauth")
    op.create_index(
        "ix_pairing_charge_box_id_armed_at", "pairing", ["charge_box_id", "armed_at"], unique=False, schema="preauth"
    )
    op.create_index(
        "ix_pairing_open_expires_at",
        "pairing",
        ["expires_at"],
        unique=False,
        schema="preauth",
        postgresql_where=sa.text("state IN ('armed', 'matched')"),
    )
    op.create_index(
        "uq_pairing_armed",
        "pairing",
        ["charge_box_id"],
        unique=True,
        schema="preauth",
        postgresql_where=sa.text("state IN ('armed', 'matched')"),
    )
    op.create_table(
        "remote_start",
        sa.Column("remote_start_id", sa.UUID(), nullable=False),
        sa.Column("charge_box_id", sa.Text(), nullable=False),
        sa.Column("id_tag", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("remote_start_id", name=op.f("pk_remote_start")),
        schema="preauth",
    )
    op.create_index(
        "ix_remote_start_charge_box_id_asked_at",
        "remote_start",
        ["charge_box_id", "asked_at"],
        unique=False,
        schema="preauth",
    )
    op.create_table(
        "sweep",
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("swept_until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("what", name=op.f("pk_sweep")),
        schema="preauth",
    )
    op.create_table(
        "tap",
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("tap_id", sa.UUID(), nullable=False),
        sa.Column("charge_box_id", sa.Text(), nullable=False),
        sa.Column("connector_id", sa.Integer(), nullable=True),
        sa.Column("id_tag", sa.Text(), nullable=False),
        sa.Column("id_tag_as_sent", sa.Text(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("via", sa.Text(), nullable=False),
        sa.Column("also_via", sa.Text(), nullable=True),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("message_id", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("pairing_id", sa.UUID(), nullable=True),
        sa.Column("told", sa.Text(), nullable=True),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("in_time", sa.Boolean(), nullable=True),
        sa.Column("duration_us", sa.Integer(), nullable=True),
        sa.Column("steve_answer", sa.Text(), nullable=True),
        sa.Column("session", sa.Text(), nullable=True),
        sa.CheckConstraint("kind IN ('authorize', 'start')", name=op.f("ck_tap_kind")),
        sa.CheckConstraint("told IN ('blocked', 'passed', 'unknown')", name=op.f("ck_tap_told")),
        sa.PrimaryKeyConstraint("received_at", "tap_id", name=op.f("pk_tap")),
        schema="preauth",
        postgresql_partition_by="RANGE (received_at)",
    )
    op.create_index(
        "ix_tap_charge_box_id_received_at", "tap", ["charge_box_id", "received_at"], unique=False, schema="preauth"
    )
    op.create_index("ix_tap_id_tag_received_at", "tap", ["id_tag", "received_at"], unique=False, schema="preauth")
    op.create_index(
        "ix_tap_pairing_id",
        "tap",
        ["pairing_id"],
        unique=False,
        schema="preauth",
        postgresql_where=sa.text("pairing_id IS NOT NULL"),
    )
    role = context.config.attributes["role"]
    op.execute(f"CREATE SCHEMA {PARTITIONS}")
    # Takes what no month takes (a clock that is far off), so that no tap is ever refused; normally empty.
    op.execute(f"CREATE TABLE {PARTITIONS}.tap_default PARTITION OF {SCHEMA}.tap DEFAULT WITH (fillfactor = 80)")
    op.execute(KEEP_PARTITIONS)
    arguments = "timestamptz, integer, integer"
    op.execute(f"REVOKE ALL ON FUNCTION {SCHEMA}.keep_tap_partitions({arguments}) FROM PUBLIC")
    op.execute(f'GRANT EXECUTE ON FUNCTION {SCHEMA}.keep_tap_partitions({arguments}) TO "{role}"')
    op.execute("SELECT * FROM preauth.keep_tap_partitions(now(), 2, 36500)")


def downgrade() -> None:
    op.execute(f"DROP FUNCTION {SCHEMA}.keep_tap_partitions(timestamptz, integer, integer)")
    for table in TABLES:
        op.drop_table(table, schema=SCHEMA)
    op.execute(f"DROP SCHEMA {PARTITIONS}")
    drop_bus_tables(SCHEMA)
