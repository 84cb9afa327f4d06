"""The tap's hot path: one statement for all taps that wait and all answers that were given since.

Raw psycopg and unqualified names: the connection's search path is the service's schema.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import msgspec
import psycopg
from psycopg.rows import class_row

from services.preauth.decision.events import tell_decided
from services.preauth.decision.rules import RULES
from services.preauth.decision.tap import Tap
from shared.contracts.events.preauth import Told

_encoder: Final = msgspec.json.Encoder()


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
    # A weak scan that came to nothing takes its card again after this: who has a photo of the code may keep a card with
    # a PIN from charging once in this time, not at each tap; and who did not find the PIN may try again soon.
    unfinished_s: float = 600.0
    # An older open session does not count: its stop may have failed (issues people file with SteVe).
    session_s: float = 24 * 3600.0


class Waiting(msgspec.Struct, frozen=True):
    """A tap that waits to be decided, under the id that it keeps."""

    tap: Tap
    tap_id: UUID
    received_at: datetime
    stale: bool


class Answered(msgspec.Struct, frozen=True):
    """What was told about a tap that passed, and the id of its event, which is sealed from its row."""

    tap_id: UUID
    received_at: datetime
    told: Told
    told_at: datetime
    in_time: bool
    duration_us: int
    event_id: UUID
    correlation_id: UUID | None


class Decided(msgspec.Struct, frozen=True):
    """What the statement says about one waiting tap.

    `again`: it depends on a tap whose answer is not known yet, or lost its pairing to one. Nothing was written for it;
    ask again.
    """

    place: int
    reason: str
    again: bool
    pairing_id: UUID | None
    correlation_id: UUID | None
    earlier_tap_id: UUID | None
    earlier_reason: str | None
    earlier_told: str | None


class _Row(msgspec.Struct, omit_defaults=True):
    """A waiting tap as the statement reads it. What is not said is null there, and costs nothing to read."""

    place: int
    tap_id: UUID
    received_at: datetime
    charge_box_id: str
    id_tag: str
    kind: str
    via: str
    sent_at: datetime | None
    connector_id: int | None = None
    id_tag_as_sent: str | None = None
    message_id: str | None = None
    is_stale: bool = False
    is_remote: bool = False


def _case() -> str:
    """The rules as SQL: the first one that applies decides."""
    whens = [f"WHEN {' AND '.join(rule.when)} THEN '{rule.reason.value}'" for rule in RULES if rule.when]
    return "CASE " + " ".join(whens) + f" ELSE '{RULES[-1].reason.value}' END"


CASE: Final = _case()

# The facts' definitions. `t` is the tap, `p` the pairing at its charger that it repeats, or else the latest one.
FACTS: Final[dict[str, str]] = {
    "stale": "t.is_stale",
    "switched_off": "EXISTS (SELECT FROM interception_off o WHERE o.charge_box_id IN ('', t.charge_box_id))",
    "not_answerable": "t.kind = 'start' AND t.via = 'gateway'",
    "remote_start_pending": """
        t.is_remote OR EXISTS (
            SELECT FROM remote_start r WHERE r.charge_box_id = t.charge_box_id AND r.id_tag = t.id_tag
            AND r.asked_at BETWEEN t.received_at - make_interval(secs => {remote_start_s}) AND t.received_at)""",
    "unpaired": "p.pairing_id IS NULL",
    "taken": "p.state IN ('matched', 'intercepted', 'consumed', 'void')",
    "void": "p.state = 'void'",
    "same_card": "p.id_tag = t.id_tag",
    "repeats": "p.repeats",
    "cancelled": "p.state = 'cancelled'",
    "expired": "p.state = 'expired' OR (p.state = 'armed' AND p.expires_at <= t.received_at)",
    "other_connector": "p.connector_id <> t.connector_id",
    "own_session_here": """
        p.state = 'armed' AND EXISTS (
            SELECT FROM open_session s WHERE s.charge_box_id = t.charge_box_id AND s.stopped_at IS NULL
            AND s.started_at > t.received_at - make_interval(secs => {session_s}) AND s.id_tag = t.id_tag)""",
    # OCPP 1.6, 3.5: a transaction may be stopped by a card with the same parentIdTag; the parent is of its own group.
    "group_session_here": """
        p.state = 'armed' AND EXISTS (
            SELECT FROM open_session s JOIN card c ON c.id_tag IN (s.id_tag, t.id_tag)
            LEFT JOIN card mine ON mine.id_tag = t.id_tag LEFT JOIN card theirs ON theirs.id_tag = s.id_tag
            WHERE s.charge_box_id = t.charge_box_id AND s.stopped_at IS NULL
            AND s.started_at > t.received_at - make_interval(secs => {session_s})
            AND (theirs.parent_id_tag IN (mine.parent_id_tag, t.id_tag) OR mine.parent_id_tag = s.id_tag))""",
    "is_start": "t.kind = 'start'",
    "authorized_before": """
        p.state = 'armed' AND t.kind = 'start' AND EXISTS (
            SELECT FROM tap a WHERE a.id_tag = t.id_tag AND a.charge_box_id = t.charge_box_id AND a.kind = 'authorize'
            AND a.told IS DISTINCT FROM 'blocked' AND a.received_at >= $5 - make_interval(secs => {authorize_s})
            AND a.received_at BETWEEN t.received_at - make_interval(secs => {authorize_s}) AND t.received_at)""",
    "untrusted": """
        p.weak AND NOT EXISTS (SELECT FROM card_pin k WHERE k.id_tag = t.id_tag)
        AND NOT EXISTS (SELECT FROM bound_browser b WHERE b.id_tag = t.id_tag AND b.browser = p.browser)""",
    # With a login, or refused only after the PIN: that was the card's owner.
    "unfinished": """
        p.weak AND NOT EXISTS (SELECT FROM bound_browser b WHERE b.id_tag = t.id_tag AND b.browser = p.browser)
        AND EXISTS (
            SELECT FROM pairing u WHERE u.charge_box_id = t.charge_box_id AND u.weak AND u.id_tag = t.id_tag
            AND u.armed_at > t.received_at - make_interval(secs => {unfinished_s} + {longest_s})
            AND u.matched_at > t.received_at - make_interval(secs => {unfinished_s})
            AND (u.state = 'intercepted'
                OR u.state = 'consumed' AND u.result IN ('not_completed', 'pins_spent', 'pin_locked')))""",
}

_FACT_COLUMNS: Final = ", ".join(f"COALESCE({definition}, false) AS {name}" for name, definition in FACTS.items())

# Everything about a group of taps, in one round trip and one commit:
# - `closed` and the outbox rows: what was told since the last group; the tap's id names its trace, too: no span is made
#   while a driver waits, and whoever handles the event goes on from it;
# - `asked`: the facts of each waiting tap, with the call it repeats, if any. A card that was just scanned is told the
#   same again, also where the next scan waits already: its second tap must not log in whoever armed that one;
# - `decided`, `ranked`: the reason, which of several taps at one pairing came first, and which taps wait until it is
#   known what another one was told (at another replica, a moment ago);
# - `free`, `matched`: the pairing goes to the tap that came first, if nobody else holds or had it meanwhile. A row that
#   is locked is left for the next group: one slow cancel must not keep everybody waiting;
# - `journalled`: every tap that is new and did not lose its pairing to another. One that passed at its deadline may
#   have come through the spool meanwhile: then that row is right, and must not spoil the group.
# The bounds ($3 to $5) say nothing that the rows do not say themselves. But they are known before a row is looked at:
# the server opens only the months that can matter, and reads only a moment of the journal, also while its plan is one
# that was made when the journal was empty.
# Sub-statements see the same snapshot: an answer told in this group is not seen by a repeat in it, which then gets
# null. Only passes are told here, so null is what was told.
_TEMPLATE: Final = f"""
WITH told AS (
    SELECT * FROM json_to_recordset($1::json) AS x (
        tap_id uuid, received_at timestamptz, told text, told_at timestamptz, in_time bool, duration_us int,
        event_id uuid, correlation_id uuid
    )
), closed AS (
    UPDATE tap SET told = told.told, told_at = told.told_at, in_time = told.in_time, duration_us = told.duration_us,
        unclear = NULLIF(told.told = 'unknown', false)
    FROM told WHERE tap.received_at = told.received_at AND tap.tap_id = told.tap_id AND tap.told IS NULL
        AND tap.received_at BETWEEN $3 AND $4
    RETURNING tap.*, told.event_id, told.correlation_id, told.told_at AS sealed_at
), events AS (
    {{tell_decided}}
), asked AS (
    SELECT t.*, p.pairing_id, p.correlation_id, p.state AS pairing_state,
        earlier.tap_id AS earlier_tap_id, earlier.received_at AS earlier_received_at,
        earlier.reason AS earlier_reason, earlier.told AS earlier_told, earlier.via AS earlier_via,
        {_FACT_COLUMNS}
    FROM json_to_recordset($2::json) AS t (
        place int, tap_id uuid, received_at timestamptz, sent_at timestamptz, charge_box_id text, connector_id int,
        id_tag text, id_tag_as_sent text, kind text, via text, message_id text, is_stale bool, is_remote bool
    )
    LEFT JOIN LATERAL (
        SELECT *, (
            q.id_tag = t.id_tag AND q.state IN ('intercepted', 'consumed')
            AND t.received_at < LEAST(q.matched_at + make_interval(secs => {{repeat_s}}), q.expires_at)
        ) IS TRUE AS repeats
        FROM pairing q WHERE q.charge_box_id = t.charge_box_id
        AND q.armed_at BETWEEN t.received_at - make_interval(secs => {{longest_s}}) AND t.received_at
        AND q.expires_at > t.received_at - make_interval(secs => {{remembered_s}})
        ORDER BY repeats DESC, q.armed_at DESC LIMIT 1
    ) p ON true
    LEFT JOIN LATERAL (
        SELECT j.tap_id, j.received_at, j.reason, j.told, j.via FROM tap j
        WHERE j.id_tag = t.id_tag AND j.charge_box_id = t.charge_box_id AND j.kind = t.kind
        AND j.received_at > t.received_at - make_interval(secs => 2 * {{fresh_s}})
        AND j.received_at <= t.received_at + make_interval(secs => 1)
        AND j.received_at > $5 - make_interval(secs => 2 * {{fresh_s}})
        AND (
            (j.via = t.via AND (j.message_id = t.message_id OR (
                j.sent_at = t.sent_at AND j.connector_id IS NOT DISTINCT FROM t.connector_id)))
            OR (j.also_via = t.via AND j.sent_at = t.sent_at)
            OR (j.via <> t.via AND j.also_via IS NULL
                AND j.received_at > t.received_at - make_interval(secs => {{same_tap_s}}))
        )
        ORDER BY j.received_at DESC LIMIT 1
    ) earlier ON true
), decided AS MATERIALIZED (
    SELECT place, tap_id, received_at, sent_at, charge_box_id, connector_id, id_tag, id_tag_as_sent, kind, via,
        message_id, pairing_id, correlation_id, pairing_state, earlier_tap_id, earlier_received_at, earlier_reason,
        earlier_told, earlier_via, {CASE} AS reason
    FROM asked
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
    ON CONFLICT (received_at, tap_id) DO NOTHING
), echoed AS (
    UPDATE tap SET also_via = r.via, sent_at = COALESCE(tap.sent_at, r.sent_at)
    FROM ranked r
    WHERE r.earlier_via <> r.via AND tap.received_at = r.earlier_received_at AND tap.tap_id = r.earlier_tap_id
        AND tap.also_via IS NULL AND tap.received_at > $5 - make_interval(secs => 2 * {{fresh_s}})
)
SELECT r.place, r.reason, r.waits OR (r.wants AND m.tap_id IS NULL) AS again, r.pairing_id, r.correlation_id,
    r.earlier_tap_id, r.earlier_reason, r.earlier_told
FROM ranked r LEFT JOIN matched m ON m.tap_id = r.tap_id
"""  # noqa: S608 - only our own constants are put in


def flush_sql(windows: Windows) -> str:
    """The statement with the windows written into it: they do not change while a process lives."""
    seconds = {name: f"{value:f}" for name, value in asdict(windows).items()}
    return _TEMPLATE.format(tell_decided=tell_decided("closed"), **seconds)


async def flush(
    connection: psycopg.AsyncConnection[Any], sql: str, waiting: Sequence[Waiting], told: Sequence[Answered]
) -> list[Decided]:
    """Decide, journal and match what waits; record what was told. One statement, one commit.

    `sql` is of `flush_sql`. A decision's `place` is that of its tap in `waiting`.

    :raises psycopg.Error: then nothing of it happened, or, where the connection broke, perhaps all of it.
    """
    # Raw, because looking for placeholders in a statement of this length costs more than sending it; and rows travel
    # as JSON, encoded at once and not value by value: a third of the time of arrays.
    cursor = psycopg.AsyncRawCursor(connection, row_factory=class_row(Decided))
    told_json = _encoder.encode(told).decode()
    taps_json = _encoder.encode([_row(place, one) for place, one in enumerate(waiting)]).decode()
    now = datetime.now(UTC)
    told_at = [one.received_at for one in told] or [now]
    taps_from = min((one.received_at for one in waiting), default=now)
    await cursor.execute(sql, [told_json, taps_json, min(told_at), max(told_at), taps_from], prepare=True, binary=True)
    return await cursor.fetchall()


def _row(place: int, one: Waiting) -> _Row:
    tap, id_tag = one.tap, one.tap.id_tag
    return _Row(
        place,
        one.tap_id,
        one.received_at,
        tap.charge_box_id,
        id_tag,
        tap.kind,
        tap.via,
        tap.sent_at,
        tap.connector_id,
        tap.id_tag_as_sent if tap.id_tag_as_sent != id_tag else None,
        tap.message_id,
        one.stale,
        tap.remote_start,
    )
