"""What Lago told, as it came, and how far it was acted on."""

import sqlalchemy as sa

from services.sync.metadata import metadata

# waiting: to be acted on when next_attempt_at has come; while somebody does, that is the end of the lease.
# ignored: it tells nothing that sync acts on. failed: given up; a replay makes it wait again.
STATES = ("waiting", "done", "ignored", "failed")

webhook = sa.Table(
    "webhook",
    metadata,
    # X-Lago-Unique-Key: the same on each of Lago's tries.
    sa.Column("unique_key", sa.Text, primary_key=True),
    sa.Column("webhook_type", sa.Text, nullable=False),
    sa.Column("object_type", sa.Text, nullable=False),
    sa.Column("object_id", sa.Text),
    # The raw bytes that were signed.
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("algorithm", sa.Text, nullable=False),
    sa.Column("received_at", sa.DateTime(timezone=True), nullable=False, index=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("last_error", sa.Text),
    sa.Column("dispatched_at", sa.DateTime(timezone=True)),
    sa.CheckConstraint(f"state IN {STATES!r}", name="state"),
    sa.CheckConstraint("algorithm IN ('hmac', 'jwt')", name="algorithm"),
    sa.Index("ix_webhook_waiting", "next_attempt_at", postgresql_where=sa.text("state = 'waiting'")),
    sa.Index("ix_webhook_failed", "received_at", postgresql_where=sa.text("state = 'failed'")),
)
