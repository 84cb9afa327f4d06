"""The mirror of SteVe's tags, and what only this house knows of a card."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.sync.metadata import metadata

card = sa.Table(
    "card",
    metadata,
    sa.Column("pk", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("id_tag", sa.Text, nullable=False, unique=True),
    # All that drivers and tokens ever see of a card.
    sa.Column("card_id", pg.UUID(as_uuid=True), nullable=False, unique=True),
    # The mirror. id_tag_as_sent is SteVe's spelling; gone_at: SteVe has the tag no longer.
    sa.Column("id_tag_as_sent", sa.Text, nullable=False),
    sa.Column("ocpp_tag_pk", sa.BigInteger, nullable=False),
    sa.Column("parent_id_tag", sa.Text, index=True),
    sa.Column("expiry", sa.DateTime(timezone=True)),
    sa.Column("max_active", sa.Integer, nullable=False),
    sa.Column("active_count", sa.Integer, nullable=False),
    sa.Column("in_transaction", sa.Boolean, nullable=False),
    sa.Column("steve_note", sa.Text),
    sa.Column("discovered_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("mirrored_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("blocked_since", sa.DateTime(timezone=True)),
    sa.Column("gone_at", sa.DateTime(timezone=True)),
    # What an operator adds.
    sa.Column("display_name", sa.Text),
    sa.Column("cardholder", sa.Text),
    sa.Column("card_type", sa.Text, nullable=False, server_default="ev_card"),
    sa.Column("active", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("notes", sa.Text),
    # A block of ours: who, why, and the limit that an unblock restores.
    sa.Column("remembered_limit", sa.Integer),
    sa.Column("block_kind", sa.Text),
    sa.Column("block_reason", sa.Text),
    sa.Column("blocked_by", sa.Text),
    sa.Column("blocked_at", sa.DateTime(timezone=True)),
    sa.CheckConstraint("id_tag = upper(btrim(id_tag))", name="id_tag_is_a_key"),
    sa.CheckConstraint("card_type IN ('ev_card', 'keytag', 'app', 'meta')", name="card_type"),
    sa.CheckConstraint("block_kind IN ('operator', 'policy')", name="block_kind"),
)

card_parent = sa.Table(
    "card_parent",
    metadata,
    sa.Column("pk", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("card_pk", sa.BigInteger, sa.ForeignKey(card.c.pk), nullable=False),
    sa.Column("parent_id_tag", sa.Text, nullable=False),
    sa.Column("valid_from", sa.DateTime(timezone=True), nullable=False),
    sa.Column("valid_to", sa.DateTime(timezone=True)),
    sa.CheckConstraint("valid_to > valid_from", name="validity"),
    pg.ExcludeConstraint(
        (sa.text("int8range(card_pk, card_pk, '[]')"), "&&"),
        (sa.text("tstzrange(valid_from, valid_to)"), "&&"),
        name="ex_card_parent_validity",
    ),
)

card_change = sa.Table(
    "card_change",
    metadata,
    sa.Column("change_id", pg.UUID(as_uuid=True), primary_key=True),
    sa.Column("card_pk", sa.BigInteger, sa.ForeignKey(card.c.pk), nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("changed_by", sa.Text, nullable=False),
    # Values of personal fields stay here; events carry their names only.
    sa.Column("before", pg.JSONB, nullable=False),
    sa.Column("after", pg.JSONB, nullable=False),
    sa.Column("undone_by", pg.UUID(as_uuid=True)),
    sa.Index("ix_card_change_card_pk_changed_at", "card_pk", "changed_at"),
)

mirror = sa.Table(
    "card_mirror",
    metadata,
    # When SteVe was last asked for all tags, and answered: a card that did not change since is as fresh as this.
    sa.Column("steve_id", sa.Text, primary_key=True),
    sa.Column("completed_at", sa.DateTime(timezone=True), nullable=False),
)
