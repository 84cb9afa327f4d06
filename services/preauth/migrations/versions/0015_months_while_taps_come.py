"""A month is made while taps of it come: what reached the default partition meanwhile kept it from being attached."""

from importlib import import_module

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

BEFORE = import_module("services.preauth.migrations.versions.0009_retention").KEEP_PARTITIONS

# The lock is one that attaching takes in any case; only taps that belong to no month yet wait for it, and briefly.
MOVES = "            EXECUTE format(\n                'WITH early AS"
KEEP_PARTITIONS = BEFORE.replace(
    MOVES, f"            LOCK TABLE preauth_journal.tap_default IN ACCESS EXCLUSIVE MODE;\n{MOVES}"
)


def upgrade() -> None:
    op.execute(KEEP_PARTITIONS)


def downgrade() -> None:
    op.execute(BEFORE)
