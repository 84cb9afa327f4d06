"""An open session's start by our own clock, beside what the station says of it."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

SCHEMA = "preauth"


def upgrade() -> None:
    # The default is for a process of the release before, which still writes here while this one comes up.
    column = sa.Column("station_started_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False)
    op.add_column("open_session", column, schema=SCHEMA)
    op.execute("UPDATE preauth.open_session SET station_started_at = started_at")


def downgrade() -> None:
    op.drop_column("open_session", "station_started_at", schema=SCHEMA)
