"""Which browsers' secrets were made here. Those that stand for a card's owner were."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

SCHEMA = "preauth"


def upgrade() -> None:
    op.create_table(
        "issued_browser",
        sa.Column("browser", sa.LargeBinary(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("browser", name=op.f("pk_issued_browser")),
        schema=SCHEMA,
    )
    # A kiosk is known by its id, of 16 bytes, a browser by the digest of its secret.
    op.execute("""
        INSERT INTO preauth.issued_browser
        SELECT browser, max(seen_at) FROM (
            SELECT browser, seen_at FROM preauth.bound_browser
            UNION ALL
            SELECT device, seen_at FROM preauth.known_device WHERE length(device) = 32
        ) AS held
        GROUP BY browser""")


def downgrade() -> None:
    op.drop_table("issued_browser", schema=SCHEMA)
