"""An entry that Lago has is not held afterwards: held for being late, it could be deleted."""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE FUNCTION sync.refuse_to_hold_entry() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'Ledger entry % is not held: Lago has it.', OLD.usage_event_id
                USING ERRCODE = 'restrict_violation';
        END
        $$
    """)
    op.execute("""
        CREATE TRIGGER ledger_entry_is_there BEFORE UPDATE OF state ON sync.ledger_entry FOR EACH ROW
        WHEN (OLD.state IN ('delivered', 'counted') AND NEW.state = 'held')
        EXECUTE FUNCTION sync.refuse_to_hold_entry()
    """)


def downgrade() -> None:
    op.execute("DROP TRIGGER ledger_entry_is_there ON sync.ledger_entry")
    op.execute("DROP FUNCTION sync.refuse_to_hold_entry()")
