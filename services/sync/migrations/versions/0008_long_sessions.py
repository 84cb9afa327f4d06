"""Long sessions in an index of their own: whether two overlap is asked for every one, and must not read a week."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

SCHEMA = "sync"


def upgrade() -> None:
    op.create_index(
        "ix_session_long",
        "session",
        ["steve_id", "charge_box_id", "connector_id", "started_at"],
        schema=SCHEMA,
        postgresql_where=sa.text("stopped_at - started_at > INTERVAL '6 hours'"),
    )


def downgrade() -> None:
    op.drop_index("ix_session_long", "session", schema=SCHEMA)
