"""How webhooks are acted on; what was proven, what is compared next, and what Lago objected to."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

SCHEMA = "sync"


def upgrade() -> None:
    # Nothing was received before.
    op.drop_column("webhook", "details", schema=SCHEMA)
    op.add_column("webhook", sa.Column("object_id", sa.Text()), schema=SCHEMA)
    op.add_column("webhook", sa.Column("algorithm", sa.Text(), nullable=False), schema=SCHEMA)
    op.add_column("webhook", sa.Column("state", sa.Text(), nullable=False), schema=SCHEMA)
    op.create_check_constraint("state", "webhook", "state IN ('waiting', 'done', 'ignored', 'failed')", schema=SCHEMA)
    op.create_check_constraint("algorithm", "webhook", "algorithm IN ('hmac', 'jwt')", schema=SCHEMA)
    for name, column, state in (
        ("ix_webhook_waiting", "next_attempt_at", "waiting"),
        ("ix_webhook_failed", "received_at", "failed"),
    ):
        op.create_index(name, "webhook", [column], schema=SCHEMA, postgresql_where=sa.text(f"state = '{state}'"))
    op.create_index(
        "ix_session_owner_subscription",
        "session",
        ["owner_subscription", "stopped_at"],
        schema=SCHEMA,
        postgresql_where=sa.text("owner_subscription IS NOT NULL"),
    )
    op.create_table(
        "reconcile_subject",
        sa.Column("external_subscription_id", sa.Text(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("claims", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("period_from", sa.DateTime(timezone=True)),
        sa.Column("period_to", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("external_subscription_id", name="pk_reconcile_subject"),
        schema=SCHEMA,
    )
    op.create_index("ix_reconcile_subject_due_at", "reconcile_subject", ["due_at"], schema=SCHEMA)
    op.create_table(
        "reconcile_result",
        sa.Column("external_subscription_id", sa.Text(), nullable=False),
        sa.Column("period_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("period_to", sa.DateTime(timezone=True), nullable=False),
        sa.Column("external_customer_id", sa.Text(), nullable=False),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("steve_wh", sa.BigInteger(), nullable=False),
        sa.Column("ledger_wh", sa.BigInteger(), nullable=False),
        sa.Column("sent_wh", sa.BigInteger(), nullable=False),
        sa.Column("counted_wh", sa.BigInteger(), nullable=False),
        sa.Column("held_wh", sa.BigInteger(), nullable=False),
        sa.Column("waiting_wh", sa.BigInteger(), nullable=False),
        sa.Column("equal", sa.Boolean(), nullable=False),
        sa.Column("problem", sa.Text()),
        sa.Column("differences", pg.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("told", sa.Text()),
        sa.PrimaryKeyConstraint("external_subscription_id", "period_from", name="pk_reconcile_result"),
        schema=SCHEMA,
    )
    op.create_index("ix_reconcile_result_checked_at", "reconcile_result", ["checked_at"], schema=SCHEMA)
    op.create_index(
        "ix_reconcile_result_differing",
        "reconcile_result",
        ["external_subscription_id"],
        schema=SCHEMA,
        postgresql_where=sa.text("NOT equal"),
    )
    op.create_table(
        "lago_event_error",
        sa.Column("usage_event_id", sa.Text(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.Column("reported_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("usage_event_id", name="pk_lago_event_error"),
        schema=SCHEMA,
    )


def downgrade() -> None:
    op.drop_table("lago_event_error", schema=SCHEMA)
    op.drop_table("reconcile_result", schema=SCHEMA)
    op.drop_table("reconcile_subject", schema=SCHEMA)
    op.drop_index("ix_session_owner_subscription", "session", schema=SCHEMA)
    op.drop_index("ix_webhook_failed", "webhook", schema=SCHEMA)
    op.drop_index("ix_webhook_waiting", "webhook", schema=SCHEMA)
    op.drop_constraint("ck_webhook_algorithm", "webhook", schema=SCHEMA)
    op.drop_constraint("ck_webhook_state", "webhook", schema=SCHEMA)
    for column in ("state", "algorithm", "object_id"):
        op.drop_column("webhook", column, schema=SCHEMA)
    op.add_column(
        "webhook",
        sa.Column("details", pg.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        schema=SCHEMA,
    )
