"""Which replica told how an upstream stands, and when: another one that has not noticed a loss does not end it."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

SCHEMA = "sync"


def upgrade() -> None:
    op.add_column("upstream", sa.Column("told_by", sa.Uuid()), schema=SCHEMA)
    op.add_column("upstream", sa.Column("told_at", sa.DateTime(timezone=True)), schema=SCHEMA)


def downgrade() -> None:
    for name in ("told_at", "told_by"):
        op.drop_column("upstream", name, schema=SCHEMA)
