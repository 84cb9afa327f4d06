"""How often a PIN was tried at a scan, and which browsers are bound at all."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

SCHEMA = "preauth"


def upgrade() -> None:
    op.add_column(
        "pairing", sa.Column("pin_tries", sa.SmallInteger(), server_default="0", nullable=False), schema=SCHEMA
    )
    op.create_index("ix_bound_browser_browser", "bound_browser", ["browser"], schema=SCHEMA)


def downgrade() -> None:
    op.drop_index("ix_bound_browser_browser", "bound_browser", schema=SCHEMA)
    op.drop_column("pairing", "pin_tries", schema=SCHEMA)
