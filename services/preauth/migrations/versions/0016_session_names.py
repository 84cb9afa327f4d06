"""An open session keeps its whole name, for taps that come into the journal after it was told of."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

SCHEMA = "preauth"


def upgrade() -> None:
    op.add_column("open_session", sa.Column("session", sa.Text(), nullable=True), schema=SCHEMA)


def downgrade() -> None:
    op.drop_column("open_session", "session", schema=SCHEMA)
