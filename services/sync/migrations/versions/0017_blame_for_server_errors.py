"""Since when Lago answers an event with server errors only: it is to blame where Lago took another one since."""

import sqlalchemy as sa
from alembic import context, op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

SCHEMA = "sync"


def upgrade() -> None:
    op.add_column("ledger_entry", sa.Column("failing_since", sa.DateTime(timezone=True)), schema=SCHEMA)
    role = context.config.attributes["role"]
    op.execute(f'GRANT UPDATE (failing_since) ON {SCHEMA}.ledger_entry TO "{role}"')
    # Until now, an outage of all of Lago's ingestion was counted against each event.
    op.execute("UPDATE sync.ledger_entry SET server_errors = 0 WHERE state = 'sending' AND server_errors > 0")


def downgrade() -> None:
    op.drop_column("ledger_entry", "failing_since", schema=SCHEMA)
