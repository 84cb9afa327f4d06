"""Since when Lago has no subscription of an id at all: a link to it ends then."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

SCHEMA = "sync"


def upgrade() -> None:
    op.add_column("subscription", sa.Column("gone_at", sa.DateTime(timezone=True)), schema=SCHEMA)


def downgrade() -> None:
    op.drop_column("subscription", "gone_at", schema=SCHEMA)
