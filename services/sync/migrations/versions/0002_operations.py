"""What chargers were asked to do, and what came of it."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SCHEMA = "sync"


def upgrade() -> None:
    op.create_table(
        "charger_operation",
        sa.Column("operation_id", pg.UUID(), nullable=False),
        sa.Column("charge_box_id", sa.Text(), nullable=False),
        sa.Column("operation", sa.Text(), nullable=False),
        sa.Column("parameters", pg.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("outcome", sa.Text()),
        sa.Column("response", pg.JSONB(astext_type=sa.Text())),
        sa.Column("problem", sa.Text()),
        sa.Column("answered_at", sa.DateTime(timezone=True)),
        sa.CheckConstraint(
            "outcome IN ('accepted', 'rejected', 'not_connected', 'failed', 'unknown')",
            name="ck_charger_operation_outcome",
        ),
        sa.PrimaryKeyConstraint("operation_id", name="pk_charger_operation"),
        schema=SCHEMA,
    )
    op.create_index(
        "ix_charger_operation_charger", "charger_operation", ["charge_box_id", "requested_at"], schema=SCHEMA
    )
    op.create_index(
        "ix_charger_operation_running",
        "charger_operation",
        ["requested_at"],
        schema=SCHEMA,
        postgresql_where=sa.text("outcome IS NULL"),
    )


def downgrade() -> None:
    op.drop_table("charger_operation", schema=SCHEMA)
