"""The journal by reason, for all taps but the plain ones.

Making the index reads the kept months once, and taps wait for it only as long as they wait for anything: they pass,
and are put aside until the journal takes them again.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

SCHEMA = "preauth"


def upgrade() -> None:
    op.create_index(
        "ix_tap_reason_received_at",
        "tap",
        ["reason", "received_at"],
        unique=False,
        schema=SCHEMA,
        postgresql_where=sa.text("reason <> 'nothing_armed'"),
    )


def downgrade() -> None:
    op.drop_index("ix_tap_reason_received_at", "tap", schema=SCHEMA)
