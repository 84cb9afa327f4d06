"""What chargers did after they were told Blocked, and when an unusual rate was told."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

SCHEMA = "preauth"


def upgrade() -> None:
    op.add_column("open_session", sa.Column("energy_wh", sa.BigInteger()), schema=SCHEMA)
    op.create_table(
        "override_outcome",
        sa.Column("tap_id", sa.UUID(), nullable=False),
        sa.Column("charge_box_id", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("transaction_id", sa.BigInteger(), nullable=True),
        sa.Column("judged_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("outcome IN ('honoured', 'ignored', 'explained')", name=op.f("ck_override_outcome_outcome")),
        sa.PrimaryKeyConstraint("tap_id", name=op.f("pk_override_outcome")),
        schema="preauth",
    )
    op.create_index(
        op.f("ix_override_outcome_judged_at"), "override_outcome", ["judged_at"], unique=False, schema="preauth"
    )
    op.create_table(
        "rate_told",
        sa.Column("charge_box_id", sa.Text(), nullable=False),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("charge_box_id", name=op.f("pk_rate_told")),
        schema="preauth",
    )


def downgrade() -> None:
    op.drop_table("rate_told", schema=SCHEMA)
    op.drop_table("override_outcome", schema=SCHEMA)
    op.drop_column("open_session", "energy_wh", schema=SCHEMA)
