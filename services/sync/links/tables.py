"""Which card is billed to which subscription, and when."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.sync.cards.tables import card
from services.sync.metadata import metadata

link = sa.Table(
    "link",
    metadata,
    sa.Column("pk", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("card_pk", sa.BigInteger, sa.ForeignKey(card.c.pk), nullable=False),
    sa.Column("external_customer_id", sa.Text, nullable=False, index=True),
    sa.Column("external_subscription_id", sa.Text, nullable=False, index=True),
    sa.Column("valid_from", sa.DateTime(timezone=True), nullable=False),
    sa.Column("valid_to", sa.DateTime(timezone=True)),
    sa.Column("linked_by", sa.Text, nullable=False),
    sa.Column("linked_at", sa.DateTime(timezone=True), nullable=False),
    sa.CheckConstraint("valid_to > valid_from", name="validity"),
    # The wheel's PostgreSQL has no btree_gist (facts: stack); a range of one number stands for equality.
    pg.ExcludeConstraint(
        (sa.text("int8range(card_pk, card_pk, '[]')"), "&&"),
        (sa.text("tstzrange(valid_from, valid_to)"), "&&"),
        name="ex_link_validity",
    ),
)
