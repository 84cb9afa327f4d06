"""How often an entry was put off after it was tried, apart from how often it was claimed."""

import sqlalchemy as sa
from alembic import context, op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

SCHEMA = "sync"


def upgrade() -> None:
    put_offs = sa.Column("put_offs", sa.Integer(), nullable=False, server_default="0")
    op.add_column("ledger_entry", put_offs, schema=SCHEMA)
    role = context.config.attributes["role"]
    op.execute(f'GRANT UPDATE (put_offs) ON {SCHEMA}.ledger_entry TO "{role}"')


def downgrade() -> None:
    op.drop_column("ledger_entry", "put_offs", schema=SCHEMA)
