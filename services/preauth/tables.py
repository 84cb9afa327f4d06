"""Preauth's tables. What hangs together in one statement of the tap's hot path stands in one file."""

from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from shared.database.tables import service_metadata

SCHEMA: Final = "preauth"

metadata = service_metadata(SCHEMA)

UUID = pg.UUID(as_uuid=True)
Time = sa.DateTime(timezone=True)

NOT_PLAIN: Final = "reason <> 'nothing_armed'"
"""A tap that more can be said of than that it passed. A search says so in these words, or its plan misses the index."""

# The journal. Partitioned by month, so that forgetting is dropping a table and the hot end stays small however much
# lies behind it. Ordered by time first: new rows land side by side, and the newest page needs no sort.
tap = sa.Table(
    "tap",
    metadata,
    sa.Column("received_at", Time, nullable=False),
    sa.Column("tap_id", UUID, nullable=False),
    sa.Column("charge_box_id", sa.Text, nullable=False),
    sa.Column("connector_id", sa.Integer),
    sa.Column("id_tag", sa.Text, nullable=False),
    sa.Column("id_tag_as_sent", sa.Text),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("via", sa.Text, nullable=False),
    sa.Column("also_via", sa.Text),
    sa.Column("sent_at", Time),
    sa.Column("message_id", sa.Text),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("pairing_id", UUID),
    sa.Column("told", sa.Text),
    sa.Column("told_at", Time),
    sa.Column("in_time", sa.Boolean),
    sa.Column("duration_us", sa.Integer),
    sa.Column("steve_answer", sa.Text),
    sa.Column("session", sa.Text),
    sa.Column("override_outcome", sa.Text),
    # True where `told` is 'unknown', else empty, so that these few are found: `told` is in no index, because it changes
    # with every tap.
    sa.Column("unclear", sa.Boolean),
    sa.PrimaryKeyConstraint("received_at", "tap_id"),
    sa.Index("ix_tap_id_tag_received_at", "id_tag", "received_at"),
    sa.Index("ix_tap_charge_box_id_received_at", "charge_box_id", "received_at"),
    sa.Index("ix_tap_pairing_id", "pairing_id", postgresql_where=sa.text("pairing_id IS NOT NULL")),
    # What is searched for by its reason is rare; the plain tap stays out, and costs no more to write.
    sa.Index("ix_tap_reason_received_at", "reason", "received_at", postgresql_where=sa.text(NOT_PLAIN)),
    sa.Index("ix_tap_unclear", "received_at", "tap_id", postgresql_where=sa.text("unclear")),
    sa.CheckConstraint("kind IN ('authorize', 'start')", name="kind"),
    sa.CheckConstraint("told IN ('blocked', 'passed', 'unknown')", name="told"),
    postgresql_partition_by="RANGE (received_at)",
)

# Taps that are in no journal: the spool was full, or its file was lost. How many, and between when.
journal_gap = sa.Table(
    "journal_gap",
    metadata,
    sa.Column("gap_id", UUID, primary_key=True),
    sa.Column("first_at", Time, nullable=False),
    sa.Column("last_at", Time, nullable=False),
    sa.Column("taps", sa.BigInteger, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
)

# Rows older than this are closed: what was told is known, or known to be unknown. One row.
sweep = sa.Table(
    "sweep",
    metadata,
    sa.Column("what", sa.Text, primary_key=True),
    sa.Column("swept_until", Time, nullable=False),
)

# How far the clock of each process that decides taps is behind the database's, as of `seen_at` of the database's.
replica_clock = sa.Table(
    "replica_clock",
    metadata,
    sa.Column("instance", UUID, primary_key=True),
    sa.Column("behind", sa.Interval, nullable=False),
    sa.Column("seen_at", Time, nullable=False),
)

pairing = sa.Table(
    "pairing",
    metadata,
    sa.Column("pairing_id", UUID, primary_key=True),
    sa.Column("charge_box_id", sa.Text, nullable=False),
    sa.Column("connector_id", sa.Integer),
    sa.Column("purpose", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("presence", sa.Text, nullable=False),
    sa.Column("weak", sa.Boolean, nullable=False),
    sa.Column("armed_at", Time, nullable=False),
    sa.Column("expires_at", Time, nullable=False),
    sa.Column("armed_by_kind", sa.Text, nullable=False),
    sa.Column("armed_by_id", sa.Text, nullable=False),
    sa.Column("browser", sa.LargeBinary),
    sa.Column("kiosk_id", UUID),
    sa.Column("source", sa.Text),
    sa.Column("correlation_id", UUID, nullable=False),
    sa.Column("id_tag", sa.Text),
    sa.Column("tap_id", UUID),
    sa.Column("matched_at", Time),
    sa.Column("told_at", Time),
    sa.Column("via", sa.Text),
    sa.Column("ended_at", Time),
    sa.Column("result", sa.Text),
    sa.Column("pin_tries", sa.SmallInteger, nullable=False, server_default="0"),
    # Two arms race: the database lets one win, whatever characters the charger's id has.
    sa.Index(
        "uq_pairing_armed", "charge_box_id", unique=True, postgresql_where=sa.text("state IN ('armed', 'matched')")
    ),
    sa.Index("ix_pairing_charge_box_id_armed_at", "charge_box_id", "armed_at"),
    sa.Index("ix_pairing_open_expires_at", "expires_at", postgresql_where=sa.text("state IN ('armed', 'matched')")),
    sa.Index("ix_pairing_armed_at", "armed_at"),
    sa.CheckConstraint("purpose IN ('login', 'link_card', 'find_card')", name="purpose"),
    sa.CheckConstraint("presence IN ('operator', 'kiosk', 'qr')", name="presence"),
    sa.CheckConstraint(
        "state IN ('armed', 'matched', 'intercepted', 'consumed', 'cancelled', 'expired', 'void')", name="state"
    ),
)

# The kill switch: a row is "off". '' is every charger.
interception_off = sa.Table(
    "interception_off",
    metadata,
    sa.Column("charge_box_id", sa.Text, primary_key=True),
    sa.Column("since", Time, nullable=False),
    sa.Column("by_kind", sa.Text, nullable=False),
    sa.Column("by_id", sa.Text, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
)

# Projections: what a tap's decision needs to know of cards, sessions and remote starts.
card = sa.Table(
    "card",
    metadata,
    sa.Column("id_tag", sa.Text, primary_key=True),
    sa.Column("parent_id_tag", sa.Text),
    sa.Column("subject_version", sa.BigInteger, nullable=False),
    sa.Index("ix_card_parent_id_tag", "parent_id_tag"),
)

# What others were asked for, and as of when they told it: all there was once, to start the projections from; and each
# few seconds until when what sessions did is known.
snapshot = sa.Table(
    "snapshot",
    metadata,
    sa.Column("what", sa.Text, primary_key=True),
    sa.Column("taken_at", Time, nullable=False),
)

open_session = sa.Table(
    "open_session",
    metadata,
    sa.Column("charge_box_id", sa.Text, primary_key=True),
    # SteVe's transaction pk, which is also what it answers to the charger: sync and the gateway mean the same row.
    sa.Column("transaction_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("connector_id", sa.Integer, nullable=False),
    sa.Column("id_tag", sa.Text, nullable=False),
    # When it was first seen, by our clock: a station's may be decades off, and its session is no older for that.
    sa.Column("started_at", Time, nullable=False),
    # By the station's clock, as `stopped_at`: what they say of each other is right.
    sa.Column("station_started_at", Time, nullable=False, server_default=sa.func.now()),
    sa.Column("stopped_at", Time),
    sa.Column("energy_wh", sa.BigInteger),
    # Sync found it running, or it ran as long before the gateway's eyes as its station says: it was not one of before
    # that a charger told of later, so `started_at` is about when it began.
    sa.Column("seen_running", sa.Boolean, nullable=False, server_default=sa.false()),
    # Its whole name, which only sync knows.
    sa.Column("session", sa.Text),
    sa.Index("ix_open_session_charge_box_id", "charge_box_id", postgresql_where=sa.text("stopped_at IS NULL")),
    sa.Index("ix_open_session_started_at", "started_at"),
)

# One of this house goes by its operation's id. `id_tag` is empty where it was not carried out.
remote_start = sa.Table(
    "remote_start",
    metadata,
    sa.Column("remote_start_id", UUID, primary_key=True),
    sa.Column("charge_box_id", sa.Text, nullable=False),
    sa.Column("id_tag", sa.Text, nullable=False),
    sa.Column("asked_at", Time, nullable=False),
    sa.Index("ix_remote_start_charge_box_id_asked_at", "charge_box_id", "asked_at"),
)

# Cards that a weak presence (a QR code) may match: those with a PIN, and browsers their owner bound.
card_pin = sa.Table(
    "card_pin",
    metadata,
    sa.Column("id_tag", sa.Text, primary_key=True),
    sa.Column("pin_hash", sa.Text, nullable=False),
    sa.Column("changed_at", Time, nullable=False),
    sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
    sa.Column("locked_until", Time),
)

bound_browser = sa.Table(
    "bound_browser",
    metadata,
    sa.Column("id_tag", sa.Text, primary_key=True),
    sa.Column("browser", sa.LargeBinary, primary_key=True),
    sa.Column("bound_at", Time, nullable=False),
    sa.Column("seen_at", Time, nullable=False),
    sa.Index("ix_bound_browser_browser", "browser"),
)

# What browsers hold that was made here. A browser says what it likes, and another site of the same domain can make it
# say something: what is not here is nobody's name.
issued_browser = sa.Table(
    "issued_browser",
    metadata,
    sa.Column("browser", sa.LargeBinary, primary_key=True),
    sa.Column("seen_at", Time, nullable=False),
)

# Offered by who signed in at a kiosk: the browser that confirms it first is bound to the card.
binding_offer = sa.Table(
    "binding_offer",
    metadata,
    sa.Column("code_hash", sa.LargeBinary, primary_key=True),
    sa.Column("id_tag", sa.Text, nullable=False),
    sa.Column("session_id", UUID, nullable=False, index=True),
    sa.Column("expires_at", Time, nullable=False, index=True),
    sa.Column("used_at", Time),
)

# Kiosks: a screen beside chargers that holds a key. Only the key's hash is kept.
kiosk = sa.Table(
    "kiosk",
    metadata,
    sa.Column("kiosk_id", UUID, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("charge_box_ids", pg.ARRAY(sa.Text), nullable=False),
    sa.Column("created_at", Time, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("code_hash", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("code_expires_at", Time, nullable=False),
    sa.Column("key_hash", sa.LargeBinary, unique=True),
    sa.Column("enrolled_at", Time),
    sa.Column("seen_at", Time),
    sa.Column("revoked_at", Time),
)

# The secret that a charger's QR code carries. It is kept as it is, because it is printed again and again; all it opens
# is a weak presence.
charger_qr = sa.Table(
    "charger_qr",
    metadata,
    sa.Column("charge_box_id", sa.Text, primary_key=True),
    sa.Column("secret", sa.Text, nullable=False),
    sa.Column("rotated_at", Time, nullable=False),
)

# What a consumed pairing turned into. Only hashes of what the browser holds.
driver_session = sa.Table(
    "driver_session",
    metadata,
    sa.Column("session_id", UUID, primary_key=True),
    sa.Column("token_hash", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("pairing_id", UUID, nullable=False, unique=True),
    sa.Column("id_tag", sa.Text, nullable=False),
    sa.Column("card_id", UUID),
    sa.Column("kiosk_id", UUID),
    sa.Column("created_at", Time, nullable=False),
    sa.Column("seen_at", Time, nullable=False),
    sa.Column("ended_at", Time),
    sa.Column("end_reason", sa.Text),
    sa.Index("ix_driver_session_seen_at", "seen_at"),
)

# Where a card logged in before: a kiosk, or a browser.
known_device = sa.Table(
    "known_device",
    metadata,
    sa.Column("id_tag", sa.Text, primary_key=True),
    sa.Column("device", sa.LargeBinary, primary_key=True),
    sa.Column("first_at", Time, nullable=False),
    sa.Column("seen_at", Time, nullable=False, server_default=sa.func.now()),
)

# Codes for other applications, exchanged once for a signed token (RFC 6749, 4.1; RFC 7636).
login_code = sa.Table(
    "login_code",
    metadata,
    sa.Column("code_hash", sa.LargeBinary, primary_key=True),
    sa.Column("session_id", UUID, nullable=False),
    sa.Column("audience", sa.Text, nullable=False),
    sa.Column("redirect_uri", sa.Text, nullable=False),
    sa.Column("code_challenge", sa.Text, nullable=False),
    sa.Column("expires_at", Time, nullable=False, index=True),
    sa.Column("used_at", Time),
)

# What a charger did after it was told Blocked, judged from evidence. 'honoured' falls where a session is known later.
override_outcome = sa.Table(
    "override_outcome",
    metadata,
    sa.Column("tap_id", UUID, primary_key=True),
    sa.Column("charge_box_id", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("transaction_id", sa.BigInteger),
    sa.Column("judged_at", Time, nullable=False, index=True),
    sa.CheckConstraint("outcome IN ('honoured', 'ignored', 'explained')", name="outcome"),
)

# The watchdog's: sessions that ignored their Blocked and are to be stopped. `due_at` is empty once nothing follows.
session_stop = sa.Table(
    "session_stop",
    metadata,
    sa.Column("tap_id", UUID, primary_key=True),
    sa.Column("charge_box_id", sa.Text, nullable=False),
    sa.Column("transaction_id", sa.BigInteger, nullable=False),
    sa.Column("attempts", sa.SmallInteger, nullable=False, server_default="0"),
    sa.Column("due_at", Time),
    # Of the last attempt: an operation's outcome, 'unknown' from before it is asked; 'ended' where none was needed.
    sa.Column("outcome", sa.Text),
    sa.Column("noted_at", Time, nullable=False, index=True),
    sa.Index("ix_session_stop_due_at", "due_at", postgresql_where=sa.text("due_at IS NOT NULL")),
    sa.CheckConstraint(
        "outcome IN ('accepted', 'rejected', 'not_connected', 'failed', 'unknown', 'ended')", name="outcome"
    ),
)

# When a charger's unusual rate was last told, so that it is told once and not every minute.
rate_told = sa.Table(
    "rate_told",
    metadata,
    sa.Column("charge_box_id", sa.Text, primary_key=True),
    sa.Column("told_at", Time, nullable=False),
)
