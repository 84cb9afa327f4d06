"""Which observation wrote what SteVe recorded of a session: who asked SteVe before that one may know less."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

SCHEMA = "sync"


def upgrade() -> None:
    op.execute(sa.schema.CreateSequence(sa.Sequence("session_observation", schema=SCHEMA)))
    op.add_column(
        "session", sa.Column("observation", sa.BigInteger(), nullable=False, server_default="0"), schema=SCHEMA
    )


def downgrade() -> None:
    op.drop_column("session", "observation", schema=SCHEMA)
    op.execute(sa.schema.DropSequence(sa.Sequence("session_observation", schema=SCHEMA)))
