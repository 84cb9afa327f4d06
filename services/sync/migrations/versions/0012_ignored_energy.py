"""How much was ignored is kept with the session: other energy that SteVe records afterwards is held again."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

SCHEMA = "sync"
CHECK = "ck_session_ignored_energy"


def upgrade() -> None:
    op.add_column("session", sa.Column("ignored_wh", sa.BigInteger()), schema=SCHEMA)
    op.execute("UPDATE sync.session SET ignored_wh = coalesce(stop_wh - start_wh, 0) WHERE billing = 'ignored'")
    op.create_check_constraint(op.f(CHECK), "session", "billing <> 'ignored' OR ignored_wh IS NOT NULL", schema=SCHEMA)
    op.add_column(
        "reconcile_result", sa.Column("ignored_wh", sa.BigInteger(), nullable=False, server_default="0"), schema=SCHEMA
    )


def downgrade() -> None:
    op.drop_column("reconcile_result", "ignored_wh", schema=SCHEMA)
    op.drop_constraint(op.f(CHECK), "session", type_="check", schema=SCHEMA)
    op.drop_column("session", "ignored_wh", schema=SCHEMA)
