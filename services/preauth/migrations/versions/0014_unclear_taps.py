"""The journal's taps of which nobody knows what they were told: few, and found without reading the others.

As with the index by reason, the kept months are read once, and taps wait for it only as long as they wait for anything.
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

SCHEMA = "preauth"


def upgrade() -> None:
    op.add_column("tap", sa.Column("unclear", sa.Boolean(), nullable=True), schema=SCHEMA)
    op.execute("UPDATE preauth.tap SET unclear = true WHERE told = 'unknown'")
    op.create_index(
        "ix_tap_unclear",
        "tap",
        ["received_at", "tap_id"],
        unique=False,
        schema=SCHEMA,
        postgresql_where=sa.text("unclear"),
    )


def downgrade() -> None:
    op.drop_index("ix_tap_unclear", "tap", schema=SCHEMA)
    op.drop_column("tap", "unclear", schema=SCHEMA)
