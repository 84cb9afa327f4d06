"""Phones that are bound at a kiosk."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

SCHEMA = "preauth"


def upgrade() -> None:
    op.create_table(
        "binding_offer",
        sa.Column("code_hash", sa.LargeBinary(), nullable=False),
        sa.Column("id_tag", sa.Text(), nullable=False),
        sa.Column("session_id", sa.UUID(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("code_hash", name=op.f("pk_binding_offer")),
        schema=SCHEMA,
    )
    for column in ("session_id", "expires_at"):
        op.create_index(op.f(f"ix_binding_offer_{column}"), "binding_offer", [column], schema=SCHEMA)


def downgrade() -> None:
    op.drop_table("binding_offer", schema=SCHEMA)
