"""What the charger did, beside the tap: the judgements' own table forgets after a week."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

SCHEMA = "preauth"

KNOWN = """
UPDATE preauth.tap SET override_outcome = o.outcome
FROM preauth.override_outcome o JOIN preauth.pairing p ON p.tap_id = o.tap_id
WHERE tap.received_at = p.matched_at AND tap.tap_id = p.tap_id
"""


def upgrade() -> None:
    op.add_column("tap", sa.Column("override_outcome", sa.Text()), schema=SCHEMA)
    op.execute(KNOWN)


def downgrade() -> None:
    op.drop_column("tap", "override_outcome", schema=SCHEMA)
