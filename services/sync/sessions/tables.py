"""Charging transactions as SteVe recorded them, who owns them, and how their billing stands."""

from datetime import timedelta
from typing import Final

import sqlalchemy as sa

from services.sync.metadata import metadata

# A session that lasts longer stands in an index of its own; the predicate is written out, so that the planner knows it.
LONG: Final = timedelta(hours=6)
LASTS_LONG: Final = "stopped_at - started_at > INTERVAL '6 hours'"

BILLING = ("open", "pending", "synced", "counted", "held", "ignored")

session = sa.Table(
    "session",
    metadata,
    sa.Column("steve_id", sa.Text, primary_key=True),
    sa.Column("transaction_pk", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("charge_box_id", sa.Text, nullable=False),
    sa.Column("connector_id", sa.Integer, nullable=False),
    sa.Column("id_tag", sa.Text, nullable=False),
    sa.Column("id_tag_as_sent", sa.Text, nullable=False),
    sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
    # A reading that is no number is NULL.
    sa.Column("start_wh", sa.BigInteger),
    sa.Column("stopped_at", sa.DateTime(timezone=True)),
    sa.Column("stop_wh", sa.BigInteger),
    sa.Column("stop_reason", sa.Text),
    sa.Column("stop_actor", sa.Text),
    sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
    # The number of the observation that wrote what SteVe recorded of it.
    sa.Column("observation", sa.BigInteger, nullable=False, server_default="0"),
    # The owner, resolved once (links/rules.py) and never moved. owner_id_tag is the card that carried the link.
    sa.Column("owner_customer", sa.Text),
    sa.Column("owner_subscription", sa.Text),
    sa.Column("owner_id_tag", sa.Text),
    sa.Column("owner_at", sa.DateTime(timezone=True)),
    # Whether the card was blocked or had expired when it began, as known when the session was first seen; NULL: the
    # card was not known then.
    sa.Column("card_blocked", sa.Boolean),
    sa.Column("card_expired", sa.Boolean),
    # Billing. settle_at: when to decide (again) what to bill; NULL: nothing to decide.
    sa.Column("billing", sa.Text, nullable=False),
    sa.Column("settle_at", sa.DateTime(timezone=True)),
    # How often that was put off, and how often in a row because the database was busy with other work.
    sa.Column("settle_attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("busy_tries", sa.Integer, nullable=False, server_default="0"),
    sa.Column("hold_reason", sa.Text),
    sa.Column("hold_explanation", sa.Text),
    sa.Column("held_at", sa.DateTime(timezone=True)),
    # Anomalies that an operator has seen and lets pass, in what is recorded now.
    sa.Column("accepted_anomalies", sa.ARRAY(sa.Text), nullable=False, server_default="{}"),
    sa.Column("note", sa.Text),
    # The energy that an operator ignored; kept while it is not taken back, also when other energy has it held again.
    sa.Column("ignored_wh", sa.BigInteger),
    # The end of the ledger's chain: its last entry's number and reading.
    sa.Column("last_seq", sa.Integer, nullable=False, server_default="0"),
    sa.Column("billed_wh", sa.BigInteger),
    sa.Column("billed_at", sa.DateTime(timezone=True)),
    sa.CheckConstraint(f"billing IN {BILLING!r}", name="billing"),
    sa.CheckConstraint("(billing = 'held') = (hold_reason IS NOT NULL)", name="held_with_reason"),
    sa.CheckConstraint("billing <> 'ignored' OR ignored_wh IS NOT NULL", name="ignored_energy"),
    sa.CheckConstraint("(stopped_at IS NULL) = (stop_actor IS NULL)", name="stop"),
    sa.Index("ix_session_id_tag", "id_tag", sa.text("started_at DESC")),
    # stopped_at: most of what began lately on a connector had ended by then, and its rows need not be read to tell.
    sa.Index("ix_session_connector", "steve_id", "charge_box_id", "connector_id", "started_at", "stopped_at"),
    sa.Index(
        "ix_session_long",
        "steve_id",
        "charge_box_id",
        "connector_id",
        "started_at",
        postgresql_where=sa.text(LASTS_LONG),
    ),
    sa.Index("ix_session_started_at", sa.text("started_at DESC"), "steve_id", "transaction_pk"),
    sa.Index("ix_session_settle_at", "settle_at", postgresql_where=sa.text("settle_at IS NOT NULL")),
    sa.Index("ix_session_held_at", "held_at", postgresql_where=sa.text("billing = 'held'")),
    sa.Index(
        "ix_session_watched",
        "steve_id",
        "transaction_pk",
        postgresql_where=sa.text("stopped_at IS NULL OR stop_actor = 'manual'"),
    ),
)

# The numbers of observations, each drawn after SteVe answered (docs/decisions/0028).
observations = sa.Sequence("session_observation", metadata=metadata, schema=metadata.schema)

cursor = sa.Table(
    "session_cursor",
    metadata,
    sa.Column("steve_id", sa.Text, primary_key=True),
    # The highest transaction id seen.
    sa.Column("cursor", sa.BigInteger, nullable=False),
    # How far the running sweep has come, and when the last one was through.
    sa.Column("sweep_pk", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("swept_at", sa.DateTime(timezone=True)),
    sa.Column("active_at", sa.DateTime(timezone=True)),
    sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
)

gap = sa.Table(
    "session_gap",
    metadata,
    # An id below the cursor that was not there when it was asked for: a row may still be on its way to being committed.
    sa.Column("steve_id", sa.Text, primary_key=True),
    sa.Column("transaction_pk", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
)

start_verdict = sa.Table(
    "session_start_verdict",
    metadata,
    # What SteVe answered to the StartTransaction, where a gateway saw it. It may be known before the session is.
    sa.Column("steve_id", sa.Text, primary_key=True),
    sa.Column("transaction_pk", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("verdict", sa.Text, nullable=False),
    sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
)

blocked_start = sa.Table(
    "session_blocked_start",
    metadata,
    # A StartTransaction that preauth had SteVe answer Blocked, for a login. The transaction's id is not known.
    sa.Column("steve_id", sa.Text, primary_key=True),
    sa.Column("charge_box_id", sa.Text, primary_key=True),
    sa.Column("id_tag", sa.Text, primary_key=True),
    sa.Column("at", sa.DateTime(timezone=True), primary_key=True),
)


def lasts_long(one: sa.FromClause) -> sa.ColumnElement[bool]:
    """As the index says it."""
    return one.c.stopped_at - one.c.started_at > sa.literal_column("INTERVAL '6 hours'")
