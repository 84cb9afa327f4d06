"""When a session ended stands in its connector's index, too: what had ended by then is passed over without its row."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

SCHEMA = "sync"
CONNECTOR = ["steve_id", "charge_box_id", "connector_id", "started_at"]


def upgrade() -> None:
    op.drop_index("ix_session_connector", "session", schema=SCHEMA)
    op.create_index("ix_session_connector", "session", [*CONNECTOR, "stopped_at"], schema=SCHEMA)


def downgrade() -> None:
    op.drop_index("ix_session_connector", "session", schema=SCHEMA)
    op.create_index("ix_session_connector", "session", CONNECTOR, schema=SCHEMA)
