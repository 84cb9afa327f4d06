"""A held entry says what it is held for, and its session is held with it."""

import sqlalchemy as sa
from alembic import context, op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

SCHEMA = "sync"
CHECK = "ck_ledger_entry_held_with_reason"


def upgrade() -> None:
    op.add_column("ledger_entry", sa.Column("hold_reason", sa.Text()), schema=SCHEMA)
    role = context.config.attributes["role"]
    op.execute(f'GRANT UPDATE (hold_reason) ON {SCHEMA}.ledger_entry TO "{role}"')
    # Sessions fell out of the held queue when their stop changed, and left their entry behind.
    op.execute(
        "UPDATE sync.session AS s SET billing = 'held', hold_reason = 'lago_refused', held_at = now(),"
        " hold_explanation = coalesce(e.last_error, 'Its usage event is held.') FROM sync.ledger_entry AS e"
        " WHERE e.steve_id = s.steve_id AND e.transaction_pk = s.transaction_pk AND e.state = 'held'"
        " AND s.billing NOT IN ('held', 'ignored')"
    )
    op.execute(
        "UPDATE sync.ledger_entry AS e SET hold_reason = coalesce(s.hold_reason, 'lago_refused') FROM sync.session AS s"
        " WHERE e.steve_id = s.steve_id AND e.transaction_pk = s.transaction_pk AND e.state = 'held'"
    )
    op.create_check_constraint(
        op.f(CHECK), "ledger_entry", "(state = 'held') = (hold_reason IS NOT NULL)", schema=SCHEMA
    )


def downgrade() -> None:
    op.drop_constraint(op.f(CHECK), "ledger_entry", type_="check", schema=SCHEMA)
    op.drop_column("ledger_entry", "hold_reason", schema=SCHEMA)
