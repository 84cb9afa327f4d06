"""The end of the billing period that an entry is stamped in: Lago's invoice of it is final some time after."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

SCHEMA = "sync"


def upgrade() -> None:
    op.add_column("ledger_entry", sa.Column("period_to", sa.DateTime(timezone=True)), schema=SCHEMA)


def downgrade() -> None:
    op.drop_column("ledger_entry", "period_to", schema=SCHEMA)
