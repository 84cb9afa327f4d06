"""What Lago last said about subscriptions, and whether billing may run at all."""

import sqlalchemy as sa

from services.sync.metadata import metadata

subscription = sa.Table(
    "subscription",
    metadata,
    sa.Column("external_subscription_id", sa.Text, primary_key=True),
    # False: Lago knows no active subscription of this id; what follows is what it last said when it knew one.
    sa.Column("active", sa.Boolean, nullable=False),
    sa.Column("external_customer_id", sa.Text),
    sa.Column("plan_code", sa.Text),
    sa.Column("started_at", sa.DateTime(timezone=True)),
    sa.Column("ended_at", sa.DateTime(timezone=True)),
    sa.Column("period_from", sa.DateTime(timezone=True)),
    sa.Column("period_to", sa.DateTime(timezone=True)),
    # Of the plan's charges on this metric, which is the one that is set.
    sa.Column("metric_code", sa.Text),
    sa.Column("has_charge", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("pay_in_advance", sa.Boolean, nullable=False, server_default=sa.false()),
    # Price of one kWh in `currency`, where it has a single one.
    sa.Column("unit_price", sa.Numeric),
    sa.Column("currency", sa.Text),
    # When Lago first said that it has none of this id, neither one that runs nor one to come nor one that ended.
    sa.Column("gone_at", sa.DateTime(timezone=True)),
    # When Lago was asked.
    sa.Column("checked_at", sa.DateTime(timezone=True), nullable=False),
)
