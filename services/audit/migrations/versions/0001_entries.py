"""The bus's tables, and the entries, which the service may write and read but neither change nor delete."""

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import postgresql as pg

from shared.database.migrations import create_bus_tables, drop_bus_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SCHEMA = "audit"


def upgrade() -> None:
    create_bus_tables(SCHEMA)
    op.create_table(
        "entry",
        sa.Column("position", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("event_id", pg.UUID(as_uuid=True), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("subject_version", sa.BigInteger(), nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor_kind", sa.Text(), nullable=False),
        sa.Column("actor_id", sa.Text(), nullable=False),
        sa.Column("correlation_id", pg.UUID(as_uuid=True), nullable=False),
        sa.Column("causation_id", pg.UUID(as_uuid=True)),
        sa.Column("data_schema", sa.Text(), nullable=False),
        sa.Column("known", sa.Boolean(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("position", name="pk_entry"),
        sa.UniqueConstraint("event_id", name="uq_entry_event_id"),
        schema=SCHEMA,
    )
    for name, columns in {
        "ix_entry_subject_position": ["subject", "position"],
        "ix_entry_type_position": ["type", "position"],
        "ix_entry_actor": ["actor_kind", "actor_id", "position"],
        "ix_entry_correlation_id": ["correlation_id"],
        "ix_entry_time": ["time"],
    }.items():
        op.create_index(name, "entry", columns, schema=SCHEMA)
    role = context.config.attributes["role"]
    op.execute(f'REVOKE UPDATE, DELETE ON {SCHEMA}.entry FROM "{role}"')


def downgrade() -> None:
    op.drop_table("entry", schema=SCHEMA)
    drop_bus_tables(SCHEMA)
