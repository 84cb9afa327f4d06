"""The bus's tables, and who may come in: operators, their sessions, API tokens, the guard of the sign-in."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

from shared.database.migrations import create_bus_tables, drop_bus_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SCHEMA = "admin_api"


def upgrade() -> None:
    create_bus_tables(SCHEMA)
    op.create_table(
        "operator",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("one_time_until", sa.DateTime(timezone=True)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("disabled_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("name", name="pk_operator"),
        sa.CheckConstraint("role IN ('viewer', 'operator', 'admin')", name="ck_operator_role"),
        schema=SCHEMA,
    )
    op.create_table(
        "session",
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("operator", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("token_hash", name="pk_session"),
        sa.ForeignKeyConstraint(
            ["operator"], [f"{SCHEMA}.operator.name"], name="fk_session_operator_operator", ondelete="CASCADE"
        ),
        sa.CheckConstraint("kind IN ('browser', 'cli')", name="ck_session_kind"),
        schema=SCHEMA,
    )
    op.create_index("ix_session_operator", "session", ["operator"], schema=SCHEMA)
    op.create_index("ix_session_expires_at", "session", ["expires_at"], schema=SCHEMA)
    op.create_table(
        "api_token",
        sa.Column("token_id", pg.UUID(as_uuid=True), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True)),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
        sa.Column("revoked_by", sa.Text()),
        sa.PrimaryKeyConstraint("token_id", name="pk_api_token"),
        sa.UniqueConstraint("token_hash", name="uq_api_token_token_hash"),
        sa.CheckConstraint("role IN ('viewer', 'operator', 'admin')", name="ck_api_token_role"),
        schema=SCHEMA,
    )
    op.create_index(
        "uq_api_token_name_in_use",
        "api_token",
        ["name"],
        unique=True,
        schema=SCHEMA,
        postgresql_where=sa.text("revoked_at IS NULL"),
    )
    op.create_table(
        "sign_in_guard",
        sa.Column("bucket", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("last_attempt_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("locked_until", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("bucket", name="pk_sign_in_guard"),
        schema=SCHEMA,
    )
    op.create_index("ix_sign_in_guard_last_attempt_at", "sign_in_guard", ["last_attempt_at"], schema=SCHEMA)


def downgrade() -> None:
    for table in ("sign_in_guard", "api_token", "session", "operator"):
        op.drop_table(table, schema=SCHEMA)
    drop_bus_tables(SCHEMA)
