"""A charger's state of honouring the override remembers by which tap it was proven, and of which firmware."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

SCHEMA = "preauth"


def upgrade() -> None:
    op.add_column("charger", sa.Column("override_proven_at", sa.DateTime(timezone=True)), schema=SCHEMA)
    op.add_column("charger", sa.Column("override_proven_of", sa.Text()), schema=SCHEMA)
    # Of the chargers found out before nobody noted the firmware: it is taken to be the one they have.
    op.execute("UPDATE preauth.charger SET override_proven_of = firmware_version WHERE honours_override = 'no'")


def downgrade() -> None:
    op.drop_column("charger", "override_proven_of", schema=SCHEMA)
    op.drop_column("charger", "override_proven_at", schema=SCHEMA)
