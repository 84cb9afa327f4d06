"""What is known of each charger."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.preauth.tables import UUID, Time, metadata

charger = sa.Table(
    "charger",
    metadata,
    sa.Column("charge_box_id", sa.Text, primary_key=True),
    sa.Column("first_seen_at", Time, nullable=False),
    sa.Column("last_seen_at", Time, nullable=False),
    # Whether it comes through the gateway, as far as was last seen; others are known from taps and sessions only.
    sa.Column("via_gateway", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("subprotocol", sa.Text),
    sa.Column("connected_at", Time),
    sa.Column("disconnected_at", Time),
    sa.Column("close_code", sa.Integer),
    sa.Column("last_heartbeat_at", Time),
    sa.Column("boot_at", Time),
    sa.Column("registration", sa.Text),
    sa.Column("vendor", sa.Text),
    sa.Column("model", sa.Text),
    sa.Column("serial_number", sa.Text),
    sa.Column("firmware_version", sa.Text),
    sa.Column("firmware_status", sa.Text),
    # Can a tap be taken as a scan here? As of `ready_checked_at`, when the charger itself told its configuration.
    sa.Column("ready", sa.Text, nullable=False, server_default="unknown"),
    sa.Column("ready_reason", sa.Text, nullable=False, server_default="The charger was not asked yet."),
    sa.Column("ready_keys", pg.JSONB, nullable=False, server_default=sa.text("'{}'::jsonb")),
    sa.Column("ready_checked_at", Time),
    sa.Column("ready_asked_at", Time),
    # Whether SteVe had a connection to it when it was last asked: all that is known of one that bypasses the gateway.
    sa.Column("online", sa.Boolean),
    sa.Column("online_asked_at", Time),
    sa.Column("honours_override", sa.Text, nullable=False, server_default="unknown"),
    # The tap by which that was proven last, and the firmware it was proven of. A silence proves nothing.
    sa.Column("override_proven_at", Time),
    sa.Column("override_proven_of", sa.Text),
    sa.CheckConstraint("ready IN ('yes', 'no', 'unknown')", name="ready"),
    sa.CheckConstraint("honours_override IN ('yes', 'no', 'unknown')", name="honours_override"),
)

charger_connector = sa.Table(
    "charger_connector",
    metadata,
    sa.Column("charge_box_id", sa.Text, primary_key=True),
    sa.Column("connector_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("error_code", sa.Text, nullable=False),
    sa.Column("vendor_error_code", sa.Text),
    sa.Column("info", sa.Text),
    sa.Column("reported_at", Time, nullable=False),
    sa.Column("seen_at", Time, nullable=False),
)

# Open sockets, of all replicas. A replica that died leaves its rows; whoever notices closes them.
charger_connection = sa.Table(
    "charger_connection",
    metadata,
    sa.Column("connection_id", UUID, primary_key=True),
    sa.Column("charge_box_id", sa.Text, nullable=False, index=True),
    sa.Column("instance", UUID, nullable=False, index=True),
    sa.Column("subprotocol", sa.Text, nullable=False),
    sa.Column("connected_at", Time, nullable=False),
)

gateway_instance = sa.Table(
    "gateway_instance",
    metadata,
    sa.Column("instance", UUID, primary_key=True),
    sa.Column("seen_at", Time, nullable=False),
)

# Sessions as they passed the gateway. SteVe's own record is sync's.
charger_session = sa.Table(
    "charger_session",
    metadata,
    sa.Column("charge_box_id", sa.Text, primary_key=True),
    sa.Column("transaction_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("connector_id", sa.Integer),
    sa.Column("id_tag", sa.Text),
    sa.Column("verdict", sa.Text),
    sa.Column("meter_start_wh", sa.BigInteger),
    sa.Column("started_at", Time),
    sa.Column("meter_stop_wh", sa.BigInteger),
    sa.Column("stop_reason", sa.Text),
    sa.Column("stopped_at", Time),
    sa.Column("seen_at", Time, nullable=False),
    sa.Index("ix_charger_session_seen_at", "seen_at"),
    sa.Index("ix_charger_session_open", "charge_box_id", postgresql_where=sa.text("stopped_at IS NULL"), unique=False),
)
