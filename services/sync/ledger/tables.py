"""The ledger: for each session a chain of entries, each of which is one usage event."""

import sqlalchemy as sa

from services.sync.metadata import metadata

ENTRY_STATES = ("pending", "sending", "delivered", "counted", "held")

entry = sa.Table(
    "ledger_entry",
    metadata,
    sa.Column("steve_id", sa.Text, primary_key=True),
    sa.Column("transaction_pk", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    # NULL for the first one, else seq - 1: with from_wh it must name the entry before and the reading it ended at.
    sa.Column("previous_seq", sa.Integer),
    sa.Column("from_wh", sa.BigInteger, nullable=False),
    sa.Column("to_wh", sa.BigInteger, nullable=False),
    # Frozen, all of it: the service's role may not update these columns, and code and property_name only until the
    # first claim.
    sa.Column("usage_event_id", sa.Text, nullable=False, unique=True),
    sa.Column("external_customer_id", sa.Text, nullable=False),
    sa.Column("external_subscription_id", sa.Text, nullable=False),
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("property_name", sa.Text, nullable=False),
    sa.Column("charge_box_id", sa.Text, nullable=False),
    sa.Column("timestamp", sa.DateTime(timezone=True), nullable=False),
    # The end of the billing period that it is stamped in, as Lago told it: what Lago has later is in no invoice.
    # NULL in entries from before this was kept.
    sa.Column("period_to", sa.DateTime(timezone=True)),
    sa.Column("final", sa.Boolean, nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    # How its delivery stands. due_at: of the next attempt, and while sending the end of the lease.
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
    # How often it was claimed.
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    # How often it was put off after it was tried, by which the pauses grow. To be given back untried counts as none.
    sa.Column("put_offs", sa.Integer, nullable=False, server_default="0"),
    # Server errors for which it alone is to blame, and since when there was nothing but server errors.
    sa.Column("server_errors", sa.Integer, nullable=False, server_default="0"),
    sa.Column("failing_since", sa.DateTime(timezone=True)),
    sa.Column("last_error", sa.Text),
    sa.Column("hold_reason", sa.Text),
    sa.Column("delivered_at", sa.DateTime(timezone=True)),
    sa.Column("delivered_by", sa.Text),
    sa.Column("counted_at", sa.DateTime(timezone=True)),
    # How often it was looked for in Lago since its delivery; due_at is then the time of the next look.
    sa.Column("looked_for", sa.Integer, nullable=False, server_default="0"),
    sa.ForeignKeyConstraint(["steve_id", "transaction_pk"], ["sync.session.steve_id", "sync.session.transaction_pk"]),
    sa.UniqueConstraint("steve_id", "transaction_pk", "seq", "to_wh", name="uq_ledger_entry_chain"),
    sa.ForeignKeyConstraint(
        ["steve_id", "transaction_pk", "previous_seq", "from_wh"],
        [
            "sync.ledger_entry.steve_id",
            "sync.ledger_entry.transaction_pk",
            "sync.ledger_entry.seq",
            "sync.ledger_entry.to_wh",
        ],
        name="fk_ledger_entry_chain",
    ),
    sa.CheckConstraint("seq >= 1 AND previous_seq IS NOT DISTINCT FROM nullif(seq - 1, 0)", name="chain"),
    sa.CheckConstraint("usage_event_id = 'steve:' || steve_id || ':' || transaction_pk || ':' || seq", name="id"),
    sa.CheckConstraint(f"state IN {ENTRY_STATES!r}", name="state"),
    sa.CheckConstraint("(state = 'held') = (hold_reason IS NOT NULL)", name="held_with_reason"),
    sa.CheckConstraint("delivered_by IN ('acknowledged', 'read_back')", name="delivered_by"),
    sa.Index("ix_ledger_entry_due_at", "due_at", postgresql_where=sa.text("state IN ('pending', 'sending')")),
    sa.Index("ix_ledger_entry_uncounted", "due_at", postgresql_where=sa.text("state = 'delivered'")),
    sa.Index("ix_ledger_entry_subscription", "external_subscription_id", "timestamp"),
)
