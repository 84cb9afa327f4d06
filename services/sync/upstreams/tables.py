import sqlalchemy as sa

from services.sync.metadata import metadata

upstream = sa.Table(
    "upstream",
    metadata,
    sa.Column("upstream", sa.Text, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("since", sa.DateTime(timezone=True), nullable=False),
    sa.Column("checked_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("explanation", sa.Text),
    sa.Column("told_by", sa.Uuid),
    sa.Column("told_at", sa.DateTime(timezone=True)),
    sa.CheckConstraint("state IN ('ok', 'lost')", name="state"),
)
