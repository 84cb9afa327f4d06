"""What was proven about a subscription in a period, when it is looked at next, and what Lago objected to."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.sync.metadata import metadata
from services.sync.sessions.tables import session

subject = sa.Table(
    "reconcile_subject",
    metadata,
    sa.Column("external_subscription_id", sa.Text, primary_key=True),
    # When to compare next; while somebody does, the end of the lease. attempts counts those that told nothing.
    sa.Column("due_at", sa.DateTime(timezone=True), nullable=False, index=True),
    sa.Column("claims", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    # The period that was compared last: when the next one has begun, it is compared once more as a whole.
    sa.Column("period_from", sa.DateTime(timezone=True)),
    sa.Column("period_to", sa.DateTime(timezone=True)),
)

result = sa.Table(
    "reconcile_result",
    metadata,
    sa.Column("external_subscription_id", sa.Text, primary_key=True),
    sa.Column("period_from", sa.DateTime(timezone=True), primary_key=True),
    sa.Column("period_to", sa.DateTime(timezone=True), nullable=False),
    sa.Column("external_customer_id", sa.Text, nullable=False),
    sa.Column("checked_at", sa.DateTime(timezone=True), nullable=False, index=True),
    sa.Column("steve_wh", sa.BigInteger, nullable=False),
    sa.Column("ledger_wh", sa.BigInteger, nullable=False),
    sa.Column("sent_wh", sa.BigInteger, nullable=False),
    sa.Column("counted_wh", sa.BigInteger, nullable=False),
    sa.Column("held_wh", sa.BigInteger, nullable=False),
    sa.Column("ignored_wh", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("waiting_wh", sa.BigInteger, nullable=False),
    # What could not be told is not kept: it proves nothing.
    sa.Column("equal", sa.Boolean, nullable=False),
    sa.Column("problem", sa.Text),
    sa.Column("differences", pg.JSONB, nullable=False),
    # Fingerprint of the differences that were told last, so that each is told once.
    sa.Column("told", sa.Text),
    sa.Index("ix_reconcile_result_differing", "external_subscription_id", postgresql_where=sa.text("NOT equal")),
)

event_error = sa.Table(
    "lago_event_error",
    metadata,
    # Lago's hourly events.errors names usage events that it took and does not bill, until its total has them.
    sa.Column("usage_event_id", sa.Text, primary_key=True),
    sa.Column("problem", sa.Text, nullable=False),
    sa.Column("reported_at", sa.DateTime(timezone=True), nullable=False),
)

# Whose sessions ended when: for the periods here, and for those that a webhook has settled.
owner_index = sa.Index(
    "ix_session_owner_subscription",
    session.c.owner_subscription,
    session.c.stopped_at,
    postgresql_where=session.c.owner_subscription.is_not(None),
)
