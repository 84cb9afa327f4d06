"""Who looks at SteVe next, and what came of the looks that found something."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

SCHEMA = "sync"


def upgrade() -> None:
    op.create_table(
        "run",
        sa.Column("run_id", pg.UUID(), nullable=False),
        sa.Column("steve_id", sa.Text(), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("segments", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("segment", sa.Text()),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column("claimed_by", pg.UUID()),
        sa.Column("cursor_before", sa.BigInteger()),
        sa.Column("cursor_after", sa.BigInteger()),
        sa.Column("done", sa.Integer(), server_default="0", nullable=False),
        sa.Column("expected", sa.Integer()),
        sa.Column("counters", pg.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("problem", sa.Text()),
        sa.CheckConstraint("state IN ('waiting', 'running', 'finished', 'failed')", name="ck_run_state"),
        sa.PrimaryKeyConstraint("run_id", name="pk_run"),
        schema=SCHEMA,
    )
    op.create_index("ix_run_requested_at", "run", [sa.literal_column("requested_at DESC"), "run_id"], schema=SCHEMA)
    op.create_index(
        "ix_run_unfinished",
        "run",
        ["steve_id"],
        schema=SCHEMA,
        postgresql_where=sa.text("state IN ('waiting', 'running')"),
    )
    op.create_table(
        "run_schedule",
        sa.Column("steve_id", sa.Text(), nullable=False),
        sa.Column("next_look_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("claimed_by", pg.UUID()),
        sa.Column("lease_until", sa.DateTime(timezone=True)),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("mode_since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("news_at", sa.DateTime(timezone=True)),
        sa.Column("pinned_by", sa.Text()),
        sa.Column("swept_at", sa.DateTime(timezone=True)),
        sa.CheckConstraint("mode IN ('active', 'idle', 'dormant')", name="ck_run_schedule_mode"),
        sa.PrimaryKeyConstraint("steve_id", name="pk_run_schedule"),
        schema=SCHEMA,
    )
    op.create_table(
        "run_session",
        sa.Column("run_id", pg.UUID(), nullable=False),
        sa.Column("transaction_pk", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text()),
        sa.ForeignKeyConstraint(["run_id"], ["sync.run.run_id"], name="fk_run_session_run_id_run", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "transaction_pk", name="pk_run_session"),
        schema=SCHEMA,
    )


def downgrade() -> None:
    op.drop_table("run_session", schema=SCHEMA)
    op.drop_table("run", schema=SCHEMA)
    op.drop_table("run_schedule", schema=SCHEMA)
