"""Audit's tables. An entry is written once; the service's role may neither change nor delete it."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from shared.database.tables import service_metadata

metadata = service_metadata("audit")

entry = sa.Table(
    "entry",
    metadata,
    sa.Column("position", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("event_id", pg.UUID(as_uuid=True), nullable=False, unique=True),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("subject_version", sa.BigInteger, nullable=False),
    sa.Column("time", sa.DateTime(timezone=True), nullable=False),
    sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("actor_kind", sa.Text, nullable=False),
    sa.Column("actor_id", sa.Text, nullable=False),
    sa.Column("correlation_id", pg.UUID(as_uuid=True), nullable=False),
    sa.Column("causation_id", pg.UUID(as_uuid=True)),
    sa.Column("data_schema", sa.Text, nullable=False),
    sa.Column("known", sa.Boolean, nullable=False),
    # The message as it came, byte for byte: what a proof is made over, and what can never be rebuilt from columns.
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Index("ix_entry_subject_position", "subject", "position"),
    sa.Index("ix_entry_type_position", "type", "position"),
    sa.Index("ix_entry_actor", "actor_kind", "actor_id", "position"),
    sa.Index("ix_entry_correlation_id", "correlation_id"),
    sa.Index("ix_entry_time", "time"),
)
