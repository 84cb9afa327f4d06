"""When SteVe is looked at next and by whom, and what came of the looks that found something."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.sync.metadata import metadata

schedule = sa.Table(
    "run_schedule",
    metadata,
    sa.Column("steve_id", sa.Text, primary_key=True),
    sa.Column("next_look_at", sa.DateTime(timezone=True), nullable=False),
    # Whoever holds the claim looks; one that died loses it when the lease ends.
    sa.Column("claimed_by", pg.UUID(as_uuid=True)),
    sa.Column("lease_until", sa.DateTime(timezone=True)),
    sa.Column("mode", sa.Text, nullable=False),
    sa.Column("mode_since", sa.DateTime(timezone=True), nullable=False),
    sa.Column("news_at", sa.DateTime(timezone=True)),
    sa.Column("pinned_by", sa.Text),
    sa.Column("swept_at", sa.DateTime(timezone=True)),
    sa.CheckConstraint("mode IN ('active', 'idle', 'dormant')", name="mode"),
)

run = sa.Table(
    "run",
    metadata,
    sa.Column("run_id", pg.UUID(as_uuid=True), primary_key=True),
    sa.Column("steve_id", sa.Text, nullable=False),
    sa.Column("trigger", sa.Text, nullable=False),
    sa.Column("requested_by", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("segments", sa.ARRAY(sa.Text), nullable=False),
    sa.Column("segment", sa.Text),
    sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("started_at", sa.DateTime(timezone=True)),
    sa.Column("finished_at", sa.DateTime(timezone=True)),
    sa.Column("claimed_by", pg.UUID(as_uuid=True)),
    sa.Column("cursor_before", sa.BigInteger),
    sa.Column("cursor_after", sa.BigInteger),
    sa.Column("done", sa.Integer, nullable=False, server_default="0"),
    sa.Column("expected", sa.Integer),
    sa.Column("counters", pg.JSONB, nullable=False, server_default="{}"),
    sa.Column("problem", sa.Text),
    sa.CheckConstraint("state IN ('waiting', 'running', 'finished', 'failed')", name="state"),
    sa.Index("ix_run_requested_at", sa.text("requested_at DESC"), "run_id"),
    sa.Index("ix_run_unfinished", "steve_id", postgresql_where=sa.text("state IN ('waiting', 'running')")),
)

run_session = sa.Table(
    "run_session",
    metadata,
    sa.Column("run_id", pg.UUID(as_uuid=True), sa.ForeignKey(run.c.run_id, ondelete="CASCADE"), primary_key=True),
    sa.Column("transaction_pk", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("detail", sa.Text),
)
