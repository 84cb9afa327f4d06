import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.sync.metadata import metadata

operation = sa.Table(
    "charger_operation",
    metadata,
    sa.Column("operation_id", pg.UUID(as_uuid=True), primary_key=True),
    sa.Column("charge_box_id", sa.Text, nullable=False),
    sa.Column("operation", sa.Text, nullable=False),
    sa.Column("parameters", pg.JSONB, nullable=False),
    sa.Column("requested_by", sa.Text, nullable=False),
    sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
    # NULL while it runs, and for ever where this service died meanwhile, until somebody says that it is unknown.
    sa.Column("outcome", sa.Text),
    sa.Column("response", pg.JSONB),
    sa.Column("problem", sa.Text),
    sa.Column("answered_at", sa.DateTime(timezone=True)),
    sa.CheckConstraint("outcome IN ('accepted', 'rejected', 'not_connected', 'failed', 'unknown')", name="outcome"),
    sa.Index("ix_charger_operation_charger", "charge_box_id", "requested_at"),
    sa.Index("ix_charger_operation_running", "requested_at", postgresql_where=sa.text("outcome IS NULL")),
)
