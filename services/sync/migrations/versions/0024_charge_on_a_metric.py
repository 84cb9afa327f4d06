"""On which metric Lago was asked whether a subscription's plan has a charge."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

SCHEMA = "sync"


def upgrade() -> None:
    op.add_column("subscription", sa.Column("metric_code", sa.Text()), schema=SCHEMA)


def downgrade() -> None:
    op.drop_column("subscription", "metric_code", schema=SCHEMA)
