"""Who may come in, and with what. No password, session or token is stored as it is used: only what verifies it."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from shared.database.tables import service_metadata

metadata = service_metadata("admin_api")

operator = sa.Table(
    "operator",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("password_hash", sa.Text, nullable=False),
    # Set while the password is a one-time one: it must be changed at sign-in, before this time.
    sa.Column("one_time_until", sa.DateTime(timezone=True)),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("disabled_at", sa.DateTime(timezone=True)),
    sa.CheckConstraint("role IN ('viewer', 'operator', 'admin')", name="role"),
)

session = sa.Table(
    "session",
    metadata,
    sa.Column("token_hash", sa.LargeBinary, primary_key=True),
    sa.Column("operator", sa.Text, sa.ForeignKey(operator.c.name, ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False, index=True),
    sa.CheckConstraint("kind IN ('browser', 'cli')", name="kind"),
)

api_token = sa.Table(
    "api_token",
    metadata,
    sa.Column("token_id", pg.UUID(as_uuid=True), primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("prefix", sa.Text, nullable=False),
    sa.Column("token_hash", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("last_used_at", sa.DateTime(timezone=True)),
    sa.Column("revoked_at", sa.DateTime(timezone=True)),
    sa.Column("revoked_by", sa.Text),
    sa.CheckConstraint("role IN ('viewer', 'operator', 'admin')", name="role"),
    # A token's name is who it is in the audit log, so two that work never share one.
    sa.Index("uq_api_token_name_in_use", "name", unique=True, postgresql_where=sa.text("revoked_at IS NULL")),
)

sign_in_guard = sa.Table(
    "sign_in_guard",
    metadata,
    sa.Column("bucket", sa.Text, primary_key=True),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("last_attempt_at", sa.DateTime(timezone=True), nullable=False, index=True),
    sa.Column("locked_until", sa.DateTime(timezone=True)),
)
