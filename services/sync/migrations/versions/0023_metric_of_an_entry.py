"""An entry that nobody took yet follows the metric that bills; one that was taken, only when it is held for that."""

from alembic import context, op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE FUNCTION sync.refuse_to_change_metric() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'Ledger entry % keeps its metric: it may have been sent.', OLD.usage_event_id
                USING ERRCODE = 'restrict_violation';
        END
        $$
    """)
    op.execute("""
        CREATE TRIGGER ledger_entry_keeps_metric BEFORE UPDATE OF code, property_name ON sync.ledger_entry FOR EACH ROW
        WHEN (
            (OLD.code, OLD.property_name) IS DISTINCT FROM (NEW.code, NEW.property_name)
            AND OLD.attempts > 0 AND OLD.hold_reason IS DISTINCT FROM 'metric_changed'
        )
        EXECUTE FUNCTION sync.refuse_to_change_metric()
    """)
    role = context.config.attributes["role"]
    op.execute(f'GRANT UPDATE (code, property_name) ON sync.ledger_entry TO "{role}"')


def downgrade() -> None:
    role = context.config.attributes["role"]
    op.execute(f'REVOKE UPDATE (code, property_name) ON sync.ledger_entry FROM "{role}"')
    op.execute("DROP TRIGGER ledger_entry_keeps_metric ON sync.ledger_entry")
    op.execute("DROP FUNCTION sync.refuse_to_change_metric()")
