"""Kiosks, QR codes, and what a login turns into."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SCHEMA = "preauth"
TABLES = ("login_code", "known_device", "kiosk", "driver_session", "charger_qr")


def upgrade() -> None:
    op.create_table(
        "charger_qr",
        sa.Column("charge_box_id", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("rotated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("charge_box_id", name=op.f("pk_charger_qr")),
        schema="preauth",
    )
    op.create_table(
        "driver_session",
        sa.Column("session_id", sa.UUID(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("pairing_id", sa.UUID(), nullable=False),
        sa.Column("id_tag", sa.Text(), nullable=False),
        sa.Column("card_id", sa.UUID(), nullable=True),
        sa.Column("kiosk_id", sa.UUID(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("end_reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("session_id", name=op.f("pk_driver_session")),
        sa.UniqueConstraint("pairing_id", name=op.f("uq_driver_session_pairing_id")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_driver_session_token_hash")),
        schema="preauth",
    )
    op.create_index("ix_driver_session_seen_at", "driver_session", ["seen_at"], unique=False, schema="preauth")
    op.create_table(
        "kiosk",
        sa.Column("kiosk_id", sa.UUID(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("charge_box_ids", pg.ARRAY(sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("code_hash", sa.LargeBinary(), nullable=False),
        sa.Column("code_expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("key_hash", sa.LargeBinary(), nullable=True),
        sa.Column("enrolled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("kiosk_id", name=op.f("pk_kiosk")),
        sa.UniqueConstraint("code_hash", name=op.f("uq_kiosk_code_hash")),
        sa.UniqueConstraint("key_hash", name=op.f("uq_kiosk_key_hash")),
        schema="preauth",
    )
    op.create_table(
        "known_device",
        sa.Column("id_tag", sa.Text(), nullable=False),
        sa.Column("device", sa.LargeBinary(), nullable=False),
        sa.Column("first_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id_tag", "device", name=op.f("pk_known_device")),
        schema="preauth",
    )
    op.create_table(
        "login_code",
        sa.Column("code_hash", sa.LargeBinary(), nullable=False),
        sa.Column("session_id", sa.UUID(), nullable=False),
        sa.Column("audience", sa.Text(), nullable=False),
        sa.Column("redirect_uri", sa.Text(), nullable=False),
        sa.Column("code_challenge", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("code_hash", name=op.f("pk_login_code")),
        schema="preauth",
    )
    op.create_index(op.f("ix_login_code_expires_at"), "login_code", ["expires_at"], unique=False, schema="preauth")


def downgrade() -> None:
    for table in TABLES:
        op.drop_table(table, schema=SCHEMA)
