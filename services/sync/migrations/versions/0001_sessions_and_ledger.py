"""The bus's tables; cards, links, sessions and the ledger, whose frozen columns the service may not change."""

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import postgresql as pg

from shared.database.migrations import create_bus_tables, drop_bus_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SCHEMA = "sync"

# All else of an entry is frozen: id, subscription, timestamp and quantity are what Lago counts, whatever happens later.
ENTRY_MAY_CHANGE = "state, due_at, attempts, server_errors, last_error, delivered_at, delivered_by, counted_at"


def upgrade() -> None:
    create_bus_tables(SCHEMA)
    op.create_table(
        "card",
        sa.Column("pk", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("id_tag", sa.Text(), nullable=False),
        sa.Column("card_id", pg.UUID(), nullable=False),
        sa.Column("id_tag_as_sent", sa.Text(), nullable=False),
        sa.Column("ocpp_tag_pk", sa.BigInteger(), nullable=False),
        sa.Column("parent_id_tag", sa.Text()),
        sa.Column("expiry", sa.DateTime(timezone=True)),
        sa.Column("max_active", sa.Integer(), nullable=False),
        sa.Column("active_count", sa.Integer(), nullable=False),
        sa.Column("in_transaction", sa.Boolean(), nullable=False),
        sa.Column("steve_note", sa.Text()),
        sa.Column("discovered_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("mirrored_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("blocked_since", sa.DateTime(timezone=True)),
        sa.Column("gone_at", sa.DateTime(timezone=True)),
        sa.Column("display_name", sa.Text()),
        sa.Column("cardholder", sa.Text()),
        sa.Column("card_type", sa.Text(), server_default="ev_card", nullable=False),
        sa.Column("active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("notes", sa.Text()),
        sa.Column("remembered_limit", sa.Integer()),
        sa.Column("block_kind", sa.Text()),
        sa.Column("block_reason", sa.Text()),
        sa.Column("blocked_by", sa.Text()),
        sa.Column("blocked_at", sa.DateTime(timezone=True)),
        sa.CheckConstraint("block_kind IN ('operator', 'policy')", name="ck_card_block_kind"),
        sa.CheckConstraint("card_type IN ('ev_card', 'keytag', 'app', 'meta')", name="ck_card_card_type"),
        sa.CheckConstraint("id_tag = upper(btrim(id_tag))", name="ck_card_id_tag_is_a_key"),
        sa.PrimaryKeyConstraint("pk", name="pk_card"),
        sa.UniqueConstraint("card_id", name="uq_card_card_id"),
        sa.UniqueConstraint("id_tag", name="uq_card_id_tag"),
        schema=SCHEMA,
    )
    op.create_index("ix_card_parent_id_tag", "card", ["parent_id_tag"], schema=SCHEMA)
    op.create_table(
        "card_mirror",
        sa.Column("steve_id", sa.Text(), nullable=False),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("steve_id", name="pk_card_mirror"),
        schema=SCHEMA,
    )
    op.create_table(
        "session",
        sa.Column("steve_id", sa.Text(), nullable=False),
        sa.Column("transaction_pk", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("charge_box_id", sa.Text(), nullable=False),
        sa.Column("connector_id", sa.Integer(), nullable=False),
        sa.Column("id_tag", sa.Text(), nullable=False),
        sa.Column("id_tag_as_sent", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("start_wh", sa.BigInteger()),
        sa.Column("stopped_at", sa.DateTime(timezone=True)),
        sa.Column("stop_wh", sa.BigInteger()),
        sa.Column("stop_reason", sa.Text()),
        sa.Column("stop_actor", sa.Text()),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("owner_customer", sa.Text()),
        sa.Column("owner_subscription", sa.Text()),
        sa.Column("owner_id_tag", sa.Text()),
        sa.Column("owner_at", sa.DateTime(timezone=True)),
        sa.Column("billing", sa.Text(), nullable=False),
        sa.Column("settle_at", sa.DateTime(timezone=True)),
        sa.Column("settle_attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("hold_reason", sa.Text()),
        sa.Column("hold_explanation", sa.Text()),
        sa.Column("held_at", sa.DateTime(timezone=True)),
        sa.Column("accepted_anomalies", sa.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("note", sa.Text()),
        sa.Column("last_seq", sa.Integer(), server_default="0", nullable=False),
        sa.Column("billed_wh", sa.BigInteger()),
        sa.Column("billed_at", sa.DateTime(timezone=True)),
        sa.CheckConstraint("(billing = 'held') = (hold_reason IS NOT NULL)", name="ck_session_held_with_reason"),
        sa.CheckConstraint(
            "billing IN ('open', 'pending', 'synced', 'counted', 'held', 'ignored')", name="ck_session_billing"
        ),
        sa.CheckConstraint("(stopped_at IS NULL) = (stop_actor IS NULL)", name="ck_session_stop"),
        sa.PrimaryKeyConstraint("steve_id", "transaction_pk", name="pk_session"),
        schema=SCHEMA,
    )
    op.create_index(
        "ix_session_connector", "session", ["steve_id", "charge_box_id", "connector_id", "started_at"], schema=SCHEMA
    )
    op.create_index(
        "ix_session_held_at", "session", ["held_at"], schema=SCHEMA, postgresql_where=sa.text("billing = 'held'")
    )
    op.create_index("ix_session_id_tag", "session", ["id_tag", sa.literal_column("started_at DESC")], schema=SCHEMA)
    op.create_index(
        "ix_session_settle_at",
        "session",
        ["settle_at"],
        schema=SCHEMA,
        postgresql_where=sa.text("settle_at IS NOT NULL"),
    )
    op.create_index(
        "ix_session_started_at",
        "session",
        [sa.literal_column("started_at DESC"), "steve_id", "transaction_pk"],
        schema=SCHEMA,
    )
    op.create_index(
        "ix_session_watched",
        "session",
        ["steve_id", "transaction_pk"],
        schema=SCHEMA,
        postgresql_where=sa.text("stopped_at IS NULL OR stop_actor = 'manual'"),
    )
    op.create_table(
        "session_cursor",
        sa.Column("steve_id", sa.Text(), nullable=False),
        sa.Column("cursor", sa.BigInteger(), nullable=False),
        sa.Column("sweep_pk", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("swept_at", sa.DateTime(timezone=True)),
        sa.Column("active_at", sa.DateTime(timezone=True)),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("steve_id", name="pk_session_cursor"),
        schema=SCHEMA,
    )
    op.create_table(
        "session_gap",
        sa.Column("steve_id", sa.Text(), nullable=False),
        sa.Column("transaction_pk", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("steve_id", "transaction_pk", name="pk_session_gap"),
        schema=SCHEMA,
    )
    op.create_table(
        "subscription",
        sa.Column("external_subscription_id", sa.Text(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("external_customer_id", sa.Text()),
        sa.Column("plan_code", sa.Text()),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.Column("period_from", sa.DateTime(timezone=True)),
        sa.Column("period_to", sa.DateTime(timezone=True)),
        sa.Column("has_charge", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("pay_in_advance", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("unit_price", sa.Numeric()),
        sa.Column("currency", sa.Text()),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("external_subscription_id", name="pk_subscription"),
        schema=SCHEMA,
    )
    op.create_table(
        "upstream",
        sa.Column("upstream", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("explanation", sa.Text()),
        sa.CheckConstraint("state IN ('ok', 'lost')", name="ck_upstream_state"),
        sa.PrimaryKeyConstraint("upstream", name="pk_upstream"),
        schema=SCHEMA,
    )
    op.create_table(
        "webhook",
        sa.Column("unique_key", sa.Text(), nullable=False),
        sa.Column("webhook_type", sa.Text(), nullable=False),
        sa.Column("object_type", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("dispatched_at", sa.DateTime(timezone=True)),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_error", sa.Text()),
        sa.Column("details", pg.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.PrimaryKeyConstraint("unique_key", name="pk_webhook"),
        schema=SCHEMA,
    )
    op.create_index("ix_webhook_received_at", "webhook", ["received_at"], schema=SCHEMA)
    op.create_table(
        "card_change",
        sa.Column("change_id", pg.UUID(), nullable=False),
        sa.Column("card_pk", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.Column("before", pg.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("after", pg.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("undone_by", pg.UUID()),
        sa.ForeignKeyConstraint(["card_pk"], ["sync.card.pk"], name="fk_card_change_card_pk_card"),
        sa.PrimaryKeyConstraint("change_id", name="pk_card_change"),
        schema=SCHEMA,
    )
    op.create_index("ix_card_change_card_pk_changed_at", "card_change", ["card_pk", "changed_at"], schema=SCHEMA)
    op.create_table(
        "card_parent",
        sa.Column("pk", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("card_pk", sa.BigInteger(), nullable=False),
        sa.Column("parent_id_tag", sa.Text(), nullable=False),
        sa.Column("valid_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("valid_to", sa.DateTime(timezone=True)),
        pg.ExcludeConstraint(
            (sa.text("int8range(card_pk, card_pk, '[]')"), "&&"),
            (sa.text("tstzrange(valid_from, valid_to)"), "&&"),
            using="gist",
            name="ex_card_parent_validity",
        ),
        sa.CheckConstraint("valid_to > valid_from", name="ck_card_parent_validity"),
        sa.ForeignKeyConstraint(["card_pk"], ["sync.card.pk"], name="fk_card_parent_card_pk_card"),
        sa.PrimaryKeyConstraint("pk", name="pk_card_parent"),
        schema=SCHEMA,
    )
    op.create_table(
        "ledger_entry",
        sa.Column("steve_id", sa.Text(), nullable=False),
        sa.Column("transaction_pk", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("previous_seq", sa.Integer()),
        sa.Column("from_wh", sa.BigInteger(), nullable=False),
        sa.Column("to_wh", sa.BigInteger(), nullable=False),
        sa.Column("usage_event_id", sa.Text(), nullable=False),
        sa.Column("external_customer_id", sa.Text(), nullable=False),
        sa.Column("external_subscription_id", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("property_name", sa.Text(), nullable=False),
        sa.Column("charge_box_id", sa.Text(), nullable=False),
        sa.Column("timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.Column("final", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("server_errors", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_error", sa.Text()),
        sa.Column("delivered_at", sa.DateTime(timezone=True)),
        sa.Column("delivered_by", sa.Text()),
        sa.Column("counted_at", sa.DateTime(timezone=True)),
        sa.CheckConstraint("delivered_by IN ('acknowledged', 'read_back')", name="ck_ledger_entry_delivered_by"),
        sa.CheckConstraint(
            "state IN ('pending', 'sending', 'delivered', 'counted', 'held')", name="ck_ledger_entry_state"
        ),
        sa.CheckConstraint(
            "usage_event_id = 'steve:' || steve_id || ':' || transaction_pk || ':' || seq", name="ck_ledger_entry_id"
        ),
        sa.CheckConstraint(
            "seq >= 1 AND previous_seq IS NOT DISTINCT FROM nullif(seq - 1, 0)", name="ck_ledger_entry_chain"
        ),
        sa.ForeignKeyConstraint(
            ["steve_id", "transaction_pk", "previous_seq", "from_wh"],
            [
                "sync.ledger_entry.steve_id",
                "sync.ledger_entry.transaction_pk",
                "sync.ledger_entry.seq",
                "sync.ledger_entry.to_wh",
            ],
            name="fk_ledger_entry_chain",
        ),
        sa.ForeignKeyConstraint(
            ["steve_id", "transaction_pk"],
            ["sync.session.steve_id", "sync.session.transaction_pk"],
            name="fk_ledger_entry_steve_id_transaction_pk_session",
        ),
        sa.PrimaryKeyConstraint("steve_id", "transaction_pk", "seq", name="pk_ledger_entry"),
        sa.UniqueConstraint("steve_id", "transaction_pk", "seq", "to_wh", name="uq_ledger_entry_chain"),
        sa.UniqueConstraint("usage_event_id", name="uq_ledger_entry_usage_event_id"),
        schema=SCHEMA,
    )
    op.create_index(
        "ix_ledger_entry_due_at",
        "ledger_entry",
        ["due_at"],
        schema=SCHEMA,
        postgresql_where=sa.text("state IN ('pending', 'sending')"),
    )
    op.create_index(
        "ix_ledger_entry_subscription", "ledger_entry", ["external_subscription_id", "timestamp"], schema=SCHEMA
    )
    op.create_index(
        "ix_ledger_entry_uncounted",
        "ledger_entry",
        ["delivered_at"],
        schema=SCHEMA,
        postgresql_where=sa.text("state = 'delivered'"),
    )
    op.create_table(
        "link",
        sa.Column("pk", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("card_pk", sa.BigInteger(), nullable=False),
        sa.Column("external_customer_id", sa.Text(), nullable=False),
        sa.Column("external_subscription_id", sa.Text(), nullable=False),
        sa.Column("valid_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("valid_to", sa.DateTime(timezone=True)),
        sa.Column("linked_by", sa.Text(), nullable=False),
        sa.Column("linked_at", sa.DateTime(timezone=True), nullable=False),
        pg.ExcludeConstraint(
            (sa.text("int8range(card_pk, card_pk, '[]')"), "&&"),
            (sa.text("tstzrange(valid_from, valid_to)"), "&&"),
            using="gist",
            name="ex_link_validity",
        ),
        sa.CheckConstraint("valid_to > valid_from", name="ck_link_validity"),
        sa.ForeignKeyConstraint(["card_pk"], ["sync.card.pk"], name="fk_link_card_pk_card"),
        sa.PrimaryKeyConstraint("pk", name="pk_link"),
        schema=SCHEMA,
    )
    op.create_index("ix_link_external_customer_id", "link", ["external_customer_id"], schema=SCHEMA)
    op.create_index("ix_link_external_subscription_id", "link", ["external_subscription_id"], schema=SCHEMA)
    role = context.config.attributes["role"]
    op.execute(f'REVOKE UPDATE ON {SCHEMA}.ledger_entry FROM "{role}"')
    op.execute(f'GRANT UPDATE ({ENTRY_MAY_CHANGE}) ON {SCHEMA}.ledger_entry TO "{role}"')


def downgrade() -> None:
    for table in (
        "ledger_entry",
        "link",
        "card_parent",
        "card_change",
        "card",
        "card_mirror",
        "session",
        "session_cursor",
        "session_gap",
        "subscription",
        "webhook",
        "upstream",
    ):
        op.drop_table(table, schema=SCHEMA)
    drop_bus_tables(SCHEMA)
