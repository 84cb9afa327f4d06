"""What is known of each charger: its connections, connectors, sessions, and whether tap-to-login works there."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SCHEMA = "preauth"
TABLES = ("gateway_instance", "charger_session", "charger_connector", "charger_connection", "charger")


def upgrade() -> None:
    op.create_table(
        "charger",
        sa.Column("charge_box_id", sa.Text(), nullable=False),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("via_gateway", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("subprotocol", sa.Text(), nullable=True),
        sa.Column("connected_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("disconnected_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("close_code", sa.Integer(), nullable=True),
        sa.Column("last_heartbeat_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("boot_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("registration", sa.Text(), nullable=True),
        sa.Column("vendor", sa.Text(), nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("serial_number", sa.Text(), nullable=True),
        sa.Column("firmware_version", sa.Text(), nullable=True),
        sa.Column("firmware_status", sa.Text(), nullable=True),
        sa.Column("ready", sa.Text(), server_default="unknown", nullable=False),
        sa.Column("ready_reason", sa.Text(), server_default="The charger was not asked yet.", nullable=False),
        sa.Column("ready_keys", pg.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("ready_checked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ready_asked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("online", sa.Boolean(), nullable=True),
        sa.Column("online_asked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("honours_override", sa.Text(), server_default="unknown", nullable=False),
        sa.CheckConstraint("ready IN ('yes', 'no', 'unknown')", name=op.f("ck_charger_ready")),
        sa.CheckConstraint("honours_override IN ('yes', 'no', 'unknown')", name=op.f("ck_charger_honours_override")),
        sa.PrimaryKeyConstraint("charge_box_id", name=op.f("pk_charger")),
        schema=SCHEMA,
    )
    op.create_table(
        "charger_connection",
        sa.Column("connection_id", sa.UUID(), nullable=False),
        sa.Column("charge_box_id", sa.Text(), nullable=False),
        sa.Column("instance", sa.UUID(), nullable=False),
        sa.Column("subprotocol", sa.Text(), nullable=False),
        sa.Column("connected_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("connection_id", name=op.f("pk_charger_connection")),
        schema=SCHEMA,
    )
    for column in ("charge_box_id", "instance"):
        op.create_index(f"ix_charger_connection_{column}", "charger_connection", [column], schema=SCHEMA)
    op.create_table(
        "charger_connector",
        sa.Column("charge_box_id", sa.Text(), nullable=False),
        sa.Column("connector_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("error_code", sa.Text(), nullable=False),
        sa.Column("vendor_error_code", sa.Text(), nullable=True),
        sa.Column("info", sa.Text(), nullable=True),
        sa.Column("reported_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("charge_box_id", "connector_id", name=op.f("pk_charger_connector")),
        schema=SCHEMA,
    )
    op.create_table(
        "charger_session",
        sa.Column("charge_box_id", sa.Text(), nullable=False),
        sa.Column("transaction_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("connector_id", sa.Integer(), nullable=True),
        sa.Column("id_tag", sa.Text(), nullable=True),
        sa.Column("verdict", sa.Text(), nullable=True),
        sa.Column("meter_start_wh", sa.BigInteger(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("meter_stop_wh", sa.BigInteger(), nullable=True),
        sa.Column("stop_reason", sa.Text(), nullable=True),
        sa.Column("stopped_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("charge_box_id", "transaction_id", name=op.f("pk_charger_session")),
        schema=SCHEMA,
    )
    op.create_index("ix_charger_session_seen_at", "charger_session", ["seen_at"], schema=SCHEMA)
    op.create_index(
        "ix_charger_session_open",
        "charger_session",
        ["charge_box_id"],
        schema=SCHEMA,
        postgresql_where=sa.text("stopped_at IS NULL"),
    )
    op.create_table(
        "gateway_instance",
        sa.Column("instance", sa.UUID(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("instance", name=op.f("pk_gateway_instance")),
        schema=SCHEMA,
    )


def downgrade() -> None:
    for table in TABLES:
        op.drop_table(table, schema=SCHEMA)
