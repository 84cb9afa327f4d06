"""How the card stood is kept with the session: by the time it is judged, the card may stand otherwise."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

SCHEMA = "sync"


def upgrade() -> None:
    op.add_column("session", sa.Column("card_blocked", sa.Boolean), schema=SCHEMA)
    op.add_column("session", sa.Column("card_expired", sa.Boolean), schema=SCHEMA)


def downgrade() -> None:
    op.drop_column("session", "card_expired", schema=SCHEMA)
    op.drop_column("session", "card_blocked", schema=SCHEMA)
