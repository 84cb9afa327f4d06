"""Starts that preauth had answered Blocked are kept: the sessions that SteVe writes for them are held by their name."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

SCHEMA = "sync"


def upgrade() -> None:
    op.create_table(
        "session_blocked_start",
        sa.Column("steve_id", sa.Text(), nullable=False),
        sa.Column("charge_box_id", sa.Text(), nullable=False),
        sa.Column("id_tag", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("steve_id", "charge_box_id", "id_tag", "at", name="pk_session_blocked_start"),
        schema=SCHEMA,
    )


def downgrade() -> None:
    op.drop_table("session_blocked_start", schema=SCHEMA)
