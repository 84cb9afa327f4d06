"""How far the clocks of those who decide taps are behind the database's."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

SCHEMA = "preauth"


def upgrade() -> None:
    op.create_table(
        "replica_clock",
        sa.Column("instance", sa.UUID(), nullable=False),
        sa.Column("behind", sa.Interval(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("instance", name=op.f("pk_replica_clock")),
        schema=SCHEMA,
    )


def downgrade() -> None:
    op.drop_table("replica_clock", schema=SCHEMA)
