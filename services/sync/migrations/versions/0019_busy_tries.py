"""How often the database was too busy for a session, apart from how often that waited for Lago."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

SCHEMA = "sync"


def upgrade() -> None:
    op.add_column("session", sa.Column("busy_tries", sa.Integer(), nullable=False, server_default="0"), schema=SCHEMA)


def downgrade() -> None:
    op.drop_column("session", "busy_tries", schema=SCHEMA)
