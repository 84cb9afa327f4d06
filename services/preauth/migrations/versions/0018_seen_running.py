"""An open session remembers whether it was seen running: when it was first seen says when it began only then."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

SCHEMA = "preauth"


def upgrade() -> None:
    # A constant default: no row is written anew. Of sessions from before nobody knows.
    op.add_column(
        "open_session",
        sa.Column("seen_running", sa.Boolean(), nullable=False, server_default=sa.false()),
        schema=SCHEMA,
    )


def downgrade() -> None:
    op.drop_column("open_session", "seen_running", schema=SCHEMA)
