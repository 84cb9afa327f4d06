"""Delivered entries are looked for in Lago; what SteVe answered to a start is kept."""

import sqlalchemy as sa
from alembic import context, op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SCHEMA = "sync"
DELIVERED = sa.text("state = 'delivered'")


def upgrade() -> None:
    op.add_column(
        "ledger_entry", sa.Column("looked_for", sa.Integer(), server_default="0", nullable=False), schema=SCHEMA
    )
    role = context.config.attributes["role"]
    op.execute(f'GRANT UPDATE (looked_for) ON {SCHEMA}.ledger_entry TO "{role}"')
    op.drop_index("ix_ledger_entry_uncounted", "ledger_entry", schema=SCHEMA)
    op.create_index("ix_ledger_entry_uncounted", "ledger_entry", ["due_at"], schema=SCHEMA, postgresql_where=DELIVERED)
    op.create_table(
        "session_start_verdict",
        sa.Column("steve_id", sa.Text(), nullable=False),
        sa.Column("transaction_pk", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("steve_id", "transaction_pk", name="pk_session_start_verdict"),
        schema=SCHEMA,
    )


def downgrade() -> None:
    op.drop_table("session_start_verdict", schema=SCHEMA)
    op.drop_index("ix_ledger_entry_uncounted", "ledger_entry", schema=SCHEMA)
    op.create_index(
        "ix_ledger_entry_uncounted", "ledger_entry", ["delivered_at"], schema=SCHEMA, postgresql_where=DELIVERED
    )
    op.drop_column("ledger_entry", "looked_for", schema=SCHEMA)
