"""The watchdog's stops, due again until the charger has answered or enough was tried."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

SCHEMA = "preauth"


def upgrade() -> None:
    op.create_table(
        "session_stop",
        sa.Column("tap_id", sa.UUID(), nullable=False),
        sa.Column("charge_box_id", sa.Text(), nullable=False),
        sa.Column("transaction_id", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("noted_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "outcome IN ('accepted', 'rejected', 'not_connected', 'failed', 'unknown', 'ended')",
            name=op.f("ck_session_stop_outcome"),
        ),
        sa.PrimaryKeyConstraint("tap_id", name=op.f("pk_session_stop")),
        schema=SCHEMA,
    )
    op.create_index(op.f("ix_session_stop_noted_at"), "session_stop", ["noted_at"], schema=SCHEMA)
    op.create_index(
        "ix_session_stop_due_at",
        "session_stop",
        ["due_at"],
        schema=SCHEMA,
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_table("session_stop", schema=SCHEMA)
