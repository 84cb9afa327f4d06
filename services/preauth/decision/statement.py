"""The tap's hot path: one statement for all taps that wait and all answers that were given since.

Raw psycopg and unqualified names: the connection's search path is the service's schema.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg.rows import class_row

from services.preauth.decision.rules import RULES
from services.preauth.decision.tap import Tap
from shared.contracts.events.preauth import Told


@dataclass(frozen=True, slots=True)
class Windows:
    """How long things matter to a later tap, in seconds."""

    repeat_s: float = 10.0
    fresh_s: float = 300.0
    # The same card, charger and kind through hook and gateway within this time is one tap (contracts: Gateway).
    same_tap_s: float = 2.0
    # An Authorize this long before a start is the one it follows: a driver may need minutes to plug in.
    authorize_s: float = 300.0
    # A remote start's own Authorize or start comes within this time.
    remote_start_s: float = 120.0
    # No pairing is armed for longer, and then it is remembered a while.
    longest_s: float = 360.0
    # A pairing that ended is remembered this long, so that a tap that came too late can be explained.
    remembered_s: float = 60.0
    # An older open session does not count: its stop may have failed (issues people file with SteVe).
    session_s: float = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """A tap that waits to be decided, under the id that it keeps."""

    tap: Tap
    tap_id: UUID
    received_at: datetime
    stale: bool


@dataclass(frozen=True, slots=True)
class Answered:
    """What was told about a tap that passed, with its event, sealed."""

    tap_id: UUID
    received_at: datetime
    told: Told
    told_at: datetime
    in_time: bool
    duration_us: int
    event_id: UUID
    event: bytes


@dataclass(frozen=True, slots=True)
class Decided:
    """What the statement says about one waiting tap.

    `again`: it depends on a tap whose answer is not known yet, or lost its pairing to one. Nothing was written for it;
    ask again.
    """

    tap_id: UUID
    reason: str
    again: bool
    pairing_id: UUID | None
    correlation_id: UUID | None
    earlier_tap_id: UUID | None
    earlier_reason: str | None
    earlier_told: str | None


def _case() -> str:
    """The rules as SQL: the first one that applies decides."""
    whens = [f"WHEN {' AND '.join(rule.when)} THEN '{rule.reason.value}'" for rule in RULES if rule.when]
    return "CASE " + " ".join(whens) + f" ELSE '{RULES[-1].reason.value}' END"


CASE: Final = _case()

# The facts' definitions. `t` is the tap, `p` the latest pairing at its charger.
FACTS: Final[dict[str, str]] = {
    "stale": "t.is_stale",
    "switched_off": "EXISTS (SELECT FROM interception_off o WHERE o.charge_box_id IN ('', t.charge_box_id))",
    "not_answerable": "t.kind = 'start' AND t.via = 'gateway'",
    "remote_start_pending": """
        t.is_remote OR EXISTS (
            SELECT FROM remote_start r WHERE r.charge_box_id = t.charge_box_id AND r.id_tag = t.id_tag
            AND r.asked_at BETWEEN t.received_at - make_interval(secs => %(remote_start_s)s) AND t.received_at)""",
    "unpaired": "p.pairing_id IS NULL",
    "taken": "p.state IN ('matched', 'intercepted', 'consumed', 'void')",
    "same_card": "p.id_tag = t.id_tag",
    "blocked_then": "p.state IN ('intercepted', 'consumed')",
    "within_repeat": ("t.received_at < LEAST(p.matched_at + make_interval(secs => %(repeat_s)s), p.expires_at)"),
    "cancelled": "p.state = 'cancelled'",
    "expired": "p.state = 'expired' OR (p.state = 'armed' AND p.expires_at <= t.received_at)",
    "other_connector": "p.connector_id <> t.connector_id",
    "own_session_here": """
        p.state = 'armed' AND EXISTS (
            SELECT FROM open_session s WHERE s.charge_box_id = t.charge_box_id AND s.stopped_at IS NULL
            AND s.started_at > t.received_at - make_interval(secs => %(session_s)s) AND s.id_tag = t.id_tag)""",
    # OCPP 1.6, 3.5: a transaction may be stopped by a card with the same parentIdTag; the parent is of its own group.
    "group_session_here": """
        p.state = 'armed' AND EXISTS (
            SELECT FROM open_session s JOIN card c ON c.id_tag IN (s.id_tag, t.id_tag)
            LEFT JOIN card mine ON mine.id_tag = t.id_tag LEFT JOIN card theirs ON theirs.id_tag = s.id_tag
            WHERE s.charge_box_id = t.charge_box_id AND s.stopped_at IS NULL
            AND s.started_at > t.received_at - make_interval(secs => %(session_s)s)
            AND (theirs.parent_id_tag IN (mine.parent_id_tag, t.id_tag) OR mine.parent_id_tag = s.id_tag))""",
    "is_start": "t.kind = 'start'",
    "authorized_before": """
        p.state = 'armed' AND t.kind = 'start' AND EXISTS (
            SELECT FROM tap a WHERE a.id_tag = t.id_tag AND a.charge_box_id = t.charge_box_id AND a.kind = 'authorize'
            AND a.received_at BETWEEN t.received_at - make_interval(secs => %(authorize_s)s) AND t.received_at)""",
    "untrusted": """
        p.weak AND NOT EXISTS (SELECT FROM card_pin k WHERE k.id_tag = t.id_tag)
        AND NOT EXISTS (SELECT FROM bound_browser b WHERE b.id_tag = t.id_tag AND b.browser = p.browser)""",
}

_FACT_COLUMNS: Final = ", ".join(f"COALESCE({definition}, false) AS {name}" for name, definition in FACTS.items())

# Everything about a group of taps, in one round trip and one commit:
# - `closed` and the outbox rows: what was told since the last group;
# - `asked`: the facts of each waiting tap, with the call it repeats, if any;
# - `decided`, `ranked`: the reason, which of several taps at one pairing came first, and which taps wait until it is
#   known what another one was told (at another replica, a moment ago);
# - `free`, `matched`: the pairing goes to the tap that came first, if nobody else holds or had it meanwhile. A row that
#   is locked is left for the next group: one slow cancel must not keep everybody waiting;
# - `journalled`: every tap that is new and did not lose its pairing to another.
# Sub-statements see the same snapshot: an answer told in this group is not seen by a repeat in it, which then gets
# null. Only passes are told here, so null is what was told.
FLUSH: Final = f"""
WITH told AS (
    SELECT * FROM unnest(
        %(told_tap_id)s::uuid[], %(told_received_at)s::timestamptz[], %(told)s::text[], %(told_at)s::timestamptz[],
        %(in_time)s::bool[], %(duration_us)s::int[], %(event_id)s::uuid[], %(event)s::bytea[]
    ) AS x (tap_id, received_at, told, told_at, in_time, duration_us, event_id, body)
), closed AS (
    UPDATE tap SET told = told.told, told_at = told.told_at, in_time = told.in_time, duration_us = told.duration_us
    FROM told WHERE tap.received_at = told.received_at AND tap.tap_id = told.tap_id AND tap.told IS NULL
    RETURNING tap.tap_id
), events AS (
    INSERT INTO outbox (event_id, ordering_key, routing_key, exchange, body)
    SELECT told.event_id, 'tap/' || told.tap_id, 'tap.decided', %(exchange)s, told.body
    FROM told JOIN closed USING (tap_id)
), asked AS (
    SELECT t.*, p.pairing_id, p.correlation_id, p.state AS pairing_state,
        earlier.tap_id AS earlier_tap_id, earlier.received_at AS earlier_received_at,
        earlier.reason AS earlier_reason, earlier.told AS earlier_told, earlier.via AS earlier_via,
        {_FACT_COLUMNS}
    FROM unnest(
        %(tap_id)s::uuid[], %(received_at)s::timestamptz[], %(sent_at)s::timestamptz[], %(charge_box_id)s::text[],
        %(connector_id)s::int[], %(id_tag)s::text[], %(id_tag_as_sent)s::text[], %(kind)s::text[], %(via)s::text[],
        %(message_id)s::text[], %(is_stale)s::bool[], %(is_remote)s::bool[]
    ) WITH ORDINALITY AS t (
        tap_id, received_at, sent_at, charge_box_id, connector_id, id_tag, id_tag_as_sent, kind, via, message_id,
        is_stale, is_remote, place
    )
    LEFT JOIN LATERAL (
        SELECT * FROM pairing q WHERE q.charge_box_id = t.charge_box_id
        AND q.armed_at > t.received_at - make_interval(secs => %(longest_s)s)
        AND q.expires_at > t.received_at - make_interval(secs => %(remembered_s)s)
        ORDER BY q.armed_at DESC LIMIT 1
    ) p ON true
    LEFT JOIN LATERAL (
        SELECT j.tap_id, j.received_at, j.reason, j.told, j.via FROM tap j
        WHERE j.id_tag = t.id_tag AND j.charge_box_id = t.charge_box_id AND j.kind = t.kind
        AND j.received_at > t.received_at - make_interval(secs => 2 * %(fresh_s)s)
        AND j.received_at <= t.received_at + make_interval(secs => 1)
        AND (
            (j.via = t.via AND (j.message_id = t.message_id OR (
                j.sent_at = t.sent_at AND j.connector_id IS NOT DISTINCT FROM t.connector_id)))
            OR (j.also_via = t.via AND j.sent_at = t.sent_at)
            OR (j.via <> t.via AND j.also_via IS NULL
                AND j.received_at > t.received_at - make_interval(secs => %(same_tap_s)s))
        )
        ORDER BY j.received_at DESC LIMIT 1
    ) earlier ON true
), decided AS (
    SELECT *, {CASE} AS reason FROM asked
), ranked AS (
    SELECT *, reason = 'matched' AND earlier_tap_id IS NULL AS wants,
        CASE WHEN earlier_tap_id IS NULL
            THEN reason = 'already_scanned' AND pairing_state = 'matched'
            ELSE earlier_told IS NULL AND earlier_reason IN ('matched', 'repeated')
        END AS waits,
        row_number() OVER (PARTITION BY reason, earlier_tap_id IS NULL, pairing_id ORDER BY place) = 1 AS first
    FROM decided
), free AS (
    SELECT q.pairing_id FROM pairing q
    WHERE q.state = 'armed' AND q.pairing_id IN (SELECT pairing_id FROM ranked WHERE wants AND first)
    FOR UPDATE SKIP LOCKED
), matched AS (
    UPDATE pairing SET state = 'matched', id_tag = r.id_tag, tap_id = r.tap_id, matched_at = r.received_at, via = r.via
    FROM ranked r, free
    WHERE r.wants AND r.first AND pairing.pairing_id = r.pairing_id AND free.pairing_id = r.pairing_id
        AND pairing.state = 'armed' AND pairing.expires_at > r.received_at
    RETURNING pairing.tap_id
), journalled AS (
    INSERT INTO tap (
        received_at, tap_id, charge_box_id, connector_id, id_tag, id_tag_as_sent, kind, via, sent_at, message_id,
        reason, pairing_id
    )
    SELECT r.received_at, r.tap_id, r.charge_box_id, r.connector_id, r.id_tag, r.id_tag_as_sent, r.kind, r.via,
        r.sent_at, r.message_id, r.reason, r.pairing_id
    FROM ranked r
    WHERE r.earlier_tap_id IS NULL AND NOT r.waits AND (NOT r.wants OR r.tap_id IN (SELECT tap_id FROM matched))
), echoed AS (
    UPDATE tap SET also_via = r.via, sent_at = COALESCE(tap.sent_at, r.sent_at)
    FROM ranked r
    WHERE r.earlier_via <> r.via AND tap.received_at = r.earlier_received_at AND tap.tap_id = r.earlier_tap_id
        AND tap.also_via IS NULL
)
SELECT r.tap_id, r.reason, r.waits OR (r.wants AND m.tap_id IS NULL) AS again, r.pairing_id, r.correlation_id,
    r.earlier_tap_id, r.earlier_reason, r.earlier_told
FROM ranked r LEFT JOIN matched m ON m.tap_id = r.tap_id
"""  # noqa: S608 - only our own constants are put in


async def flush(
    connection: psycopg.AsyncConnection[Any],
    waiting: Sequence[Waiting],
    told: Sequence[Answered],
    *,
    windows: dict[str, float],
    exchange: str,
) -> list[Decided]:
    """Decide, journal and match what waits; record what was told. One statement, one commit.

    `windows` are the fields of `Windows`.

    :raises psycopg.Error: then nothing of it happened, or, where the connection broke, perhaps all of it.
    """
    taps = [one.tap for one in waiting]
    cursor = connection.cursor(binary=True, row_factory=class_row(Decided))
    await cursor.execute(
        FLUSH,
        {
            **windows,
            "exchange": exchange,
            "told_tap_id": [row.tap_id for row in told],
            "told_received_at": [row.received_at for row in told],
            "told": [row.told for row in told],
            "told_at": [row.told_at for row in told],
            "in_time": [row.in_time for row in told],
            "duration_us": [row.duration_us for row in told],
            "event_id": [row.event_id for row in told],
            "event": [row.event for row in told],
            "tap_id": [one.tap_id for one in waiting],
            "received_at": [one.received_at for one in waiting],
            "is_stale": [one.stale for one in waiting],
            "is_remote": [tap.remote_start for tap in taps],
            "sent_at": [tap.sent_at for tap in taps],
            "charge_box_id": [tap.charge_box_id for tap in taps],
            "connector_id": [tap.connector_id for tap in taps],
            "id_tag": [tap.id_tag for tap in taps],
            "id_tag_as_sent": [tap.id_tag_as_sent if tap.id_tag_as_sent != tap.id_tag else None for tap in taps],
            "kind": [tap.kind for tap in taps],
            "via": [tap.via for tap in taps],
            "message_id": [tap.message_id for tap in taps],
        },
        prepare=True,
    )
    return await cursor.fetchall()
