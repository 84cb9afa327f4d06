"""The end of the billing period of entries that were made before it was kept, where Lago last told of that period.

Without it, what Lago had too late would be called counted once the next period is over.
"""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Lago writes a period's end to the second, and means all of it.
    op.execute("""
        UPDATE sync.ledger_entry AS entry SET period_to = told.ends
        FROM (
            SELECT external_subscription_id, period_from, CASE
                WHEN period_to = date_trunc('second', period_to) THEN period_to + interval '999999 microseconds'
                ELSE period_to END AS ends
            FROM sync.subscription
        ) AS told
        WHERE entry.period_to IS NULL AND entry.external_subscription_id = told.external_subscription_id
            AND entry.timestamp BETWEEN told.period_from AND told.ends
    """)


def downgrade() -> None:
    """They stay: which they were is not known any more, and they are right."""
