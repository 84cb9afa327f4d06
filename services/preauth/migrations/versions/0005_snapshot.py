"""Whether the projections had their start."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

SCHEMA = "preauth"


def upgrade() -> None:
    op.create_table(
        "snapshot",
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("taken_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("what", name=op.f("pk_snapshot")),
        schema=SCHEMA,
    )


def downgrade() -> None:
    op.drop_table("snapshot", schema=SCHEMA)
