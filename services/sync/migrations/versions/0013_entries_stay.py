"""An entry of the ledger is not deleted, unless it is held for being late: a release makes that one anew."""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE FUNCTION sync.refuse_to_delete_entry() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'Ledger entry % stays: Lago may have counted it.', OLD.usage_event_id
                USING ERRCODE = 'restrict_violation';
        END
        $$
    """)
    op.execute("""
        CREATE TRIGGER ledger_entry_stays BEFORE DELETE ON sync.ledger_entry FOR EACH ROW
        WHEN (OLD.hold_reason IS DISTINCT FROM 'late') EXECUTE FUNCTION sync.refuse_to_delete_entry()
    """)


def downgrade() -> None:
    op.execute("DROP TRIGGER ledger_entry_stays ON sync.ledger_entry")
    op.execute("DROP FUNCTION sync.refuse_to_delete_entry()")
