"""The journal's other SQL: what is rare, late, or only asked for."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.preauth.decision.events import tell_decided as tell_decided_sql
from services.preauth.decision.rules import SENTENCES, Reason, outcome_of
from services.preauth.decision.spool import Gap, Spooled
from services.preauth.decision.statement import Windows
from services.preauth.decision.tap import MatchAnswered, SteveAnswered
from services.preauth.tables import NOT_PLAIN, journal_gap, pairing, sweep, tap
from shared.contracts.events.preauth import Told, Via
from shared.contracts.requests.preauth import GapView, SearchTaps, SessionOutcome, TapView
from shared.database.engine import Read, Write
from shared.runtime.clock import NewId

_json: Final = msgspec.json.Encoder()
_LATE_TAPS: Final = "hashtext('preauth.late taps')"

# Text, and rows as one value: a VALUES list of hundreds of rows is put together anew each time, while taps wait.
# `same`: the spooled taps that are in the journal already, through the other way; the nearest one, and where several
# are as near to one row, one of them. Which of the two ways the database missed does not matter, so a row that came
# later counts too. A row that was marked by this very tap is found again: a spool may be read twice.
# A row that is there already: its statement was under way at its deadline, and a match of it was void for want of time.
_REPLAY: Final = sa.text("""
    WITH spooled AS MATERIALIZED (
        SELECT * FROM json_to_recordset(CAST(:taps AS json)) AS x (
            received_at timestamptz, tap_id uuid, charge_box_id text, connector_id int, id_tag text,
            id_tag_as_sent text, kind text, via text, sent_at timestamptz, message_id text, reason text,
            told_at timestamptz, duration_us int, told text, in_time bool
        )
    ), same AS (
        SELECT DISTINCT ON (j.received_at, j.tap_id) j.received_at, j.tap_id, s.tap_id AS spooled_id, s.via, s.sent_at
        FROM spooled s CROSS JOIN LATERAL (
            SELECT t.received_at, t.tap_id,
                greatest(t.received_at - s.received_at, s.received_at - t.received_at) AS far
            FROM preauth.tap t
            WHERE t.id_tag = s.id_tag AND t.charge_box_id = s.charge_box_id AND t.kind = s.kind AND t.via <> s.via
            AND t.received_at > s.received_at - make_interval(secs => :same_tap_s)
            AND t.received_at < s.received_at + make_interval(secs => :same_tap_s)
            AND (t.also_via IS NULL OR s.sent_at IS NULL OR t.sent_at = s.sent_at)
            ORDER BY (t.also_via IS NOT NULL AND t.sent_at = s.sent_at) IS TRUE DESC, t.also_via IS NOT NULL, far
            LIMIT 1
        ) j
        WHERE NOT EXISTS (SELECT FROM preauth.tap t WHERE t.received_at = s.received_at AND t.tap_id = s.tap_id)
        ORDER BY j.received_at, j.tap_id, j.far
    ), echoed AS (
        UPDATE preauth.tap t SET also_via = same.via, sent_at = COALESCE(t.sent_at, same.sent_at)
        FROM same WHERE t.received_at = same.received_at AND t.tap_id = same.tap_id AND t.also_via IS NULL
    )
    INSERT INTO preauth.tap (
        received_at, tap_id, charge_box_id, connector_id, id_tag, id_tag_as_sent, kind, via, sent_at, message_id,
        reason, told_at, duration_us, told, in_time, unclear
    )
    SELECT received_at, tap_id, charge_box_id, connector_id, id_tag, id_tag_as_sent, kind, via, sent_at, message_id,
        reason, told_at, duration_us, COALESCE(told, 'passed'), COALESCE(in_time, false),
        NULLIF(told = 'unknown', false)
    FROM spooled WHERE tap_id NOT IN (SELECT spooled_id FROM same)
    ON CONFLICT (received_at, tap_id) DO UPDATE
    SET told = EXCLUDED.told, told_at = EXCLUDED.told_at, duration_us = EXCLUDED.duration_us,
        unclear = EXCLUDED.unclear, in_time = EXCLUDED.in_time AND tap.reason NOT IN ('matched', 'repeated')
    WHERE tap.told IS NULL
    RETURNING tap.*
""").columns(*tap.c)

_TELL_DECIDED: Final = sa.text(
    tell_decided_sql("""
        (SELECT tap.*, x.event_id, x.sealed_at, CAST(NULL AS uuid) AS correlation_id
        FROM json_to_recordset(CAST(:told AS json)) AS x (
            received_at timestamptz, tap_id uuid, event_id uuid, sealed_at timestamptz
        ) JOIN tap USING (received_at, tap_id)) told
    """)
)

# `merged`: taps that stand in the journal as the hook's, because its call was written down before the gateway's was.
_STEVE_ANSWERS: Final = sa.text("""
    WITH answered AS MATERIALIZED (
        SELECT * FROM json_to_recordset(CAST(:answers AS json)) AS x (
            tap_id uuid, received_at timestamptz, charge_box_id text, id_tag text, kind text, verdict text
        )
    ), own AS (
        UPDATE preauth.tap SET steve_answer = answered.verdict FROM answered
        WHERE tap.received_at = answered.received_at AND tap.tap_id = answered.tap_id
            AND tap.received_at BETWEEN :first_at AND :last_at
        RETURNING tap.tap_id
    ), merged AS (
        SELECT answered.tap_id AS gateways, answered.verdict, hooks.*
        FROM answered CROSS JOIN LATERAL (
            SELECT t.received_at, t.tap_id FROM preauth.tap t
            WHERE t.id_tag = answered.id_tag AND t.charge_box_id = answered.charge_box_id AND t.kind = answered.kind
            AND t.via = 'hook' AND t.also_via = 'gateway' AND t.steve_answer IS NULL
            AND t.received_at > answered.received_at - make_interval(secs => :same_tap_s)
            AND t.received_at < answered.received_at + make_interval(secs => :same_tap_s)
            ORDER BY greatest(t.received_at - answered.received_at, answered.received_at - t.received_at) LIMIT 1
        ) hooks
        WHERE answered.tap_id NOT IN (SELECT tap_id FROM own)
    ), theirs AS (
        UPDATE preauth.tap SET steve_answer = merged.verdict FROM merged
        WHERE tap.received_at = merged.received_at AND tap.tap_id = merged.tap_id
        RETURNING merged.gateways
    )
    SELECT tap_id FROM own UNION SELECT gateways FROM theirs
""").columns(tap.c.tap_id)

# Each is an outage.
MOST_GAPS: Final = 100

_SWEEP: Final = "unanswered"
_WAYS: Final[tuple[Via, ...]] = ("gateway", "hook")
_LONG_AGO: Final = datetime(2000, 1, 1, tzinfo=UTC)

Row = sa.Row[Any]


async def tell_decided(tx: Write, rows: Iterable[Row], *, new_id: NewId, at: datetime) -> None:
    """Write `tap.decided` for journal rows whose answer has just become known."""
    told = [
        {"received_at": row.received_at, "tap_id": row.tap_id, "event_id": new_id(), "sealed_at": at} for row in rows
    ]
    if told:
        await tx.execute(_TELL_DECIDED, {"told": _json.encode(told).decode()})


async def close_match(tx: Write, answered: MatchAnswered) -> tuple[Row | None, Row | None]:
    """Record what was told about a matching tap, and what that makes of its pairing: intercepted, or void.

    :returns: the journal row, or None where it had been closed before; the pairing, or None where it had ended before.
    """
    decision = answered.decision
    closed = (
        await tx.execute(
            tap.update()
            .where(tap.c.received_at == decision.received_at, tap.c.tap_id == decision.tap_id, tap.c.told.is_(None))
            .values(
                told=answered.told,
                unclear=answered.told == "unknown" or None,
                told_at=answered.told_at,
                in_time=answered.in_time,
                duration_us=answered.duration_us,
            )
            .returning(tap)
        )
    ).first()
    if closed is None:
        return None, None
    intercepted = answered.told == "blocked" and answered.in_time
    changed = (
        await tx.execute(
            pairing.update()
            .where(
                pairing.c.pairing_id == decision.pairing_id,
                pairing.c.tap_id == decision.tap_id,
                pairing.c.state == "matched",
            )
            .values(
                state="intercepted" if intercepted else "void",
                told_at=answered.told_at,
                ended_at=None if intercepted else answered.told_at,
            )
            .returning(pairing)
        )
    ).first()
    return closed, changed


async def swept_until(tx: Write) -> datetime | None:
    """Up to when every row is closed; None while another replica is at it. Holds the row."""
    await tx.execute(pg.insert(sweep).values(what=_SWEEP, swept_until=_LONG_AGO).on_conflict_do_nothing())
    statement = sa.select(sweep.c.swept_until).where(sweep.c.what == _SWEEP).with_for_update(skip_locked=True)
    found: datetime | None = (await tx.execute(statement)).scalar_one_or_none()
    return found


async def sweep_from(tx: Write, at: datetime) -> None:
    await tx.execute(sweep.update().where(sweep.c.what == _SWEEP).values(swept_until=at))


async def close_unanswered(
    tx: Write, *, since: datetime, until: datetime, but: Mapping[UUID, datetime], at: datetime
) -> tuple[list[Row], list[Row]]:
    """Close rows received in [since, until) whose answer was never recorded, and void what they matched.

    `but`: taps whose answer is known here and about to be written, and when they came: the next sweep begins with the
    first of them. Returns the closed taps and the voided pairings.
    """
    closed = await tx.execute(
        tap.update()
        .where(
            tap.c.received_at >= since,
            tap.c.received_at < until,
            tap.c.told.is_(None),
            tap.c.tap_id.not_in(list(but)),
        )
        .values(told="unknown", unclear=True, in_time=False)
        .returning(tap)
    )
    voided = await tx.execute(
        pairing.update()
        .where(pairing.c.state == "matched", pairing.c.matched_at < until, pairing.c.tap_id.not_in(list(but)))
        .values(state="void", ended_at=at)
        .returning(pairing)
    )
    await sweep_from(tx, min([until, *but.values()]))
    return list(closed), list(voided)


async def in_turn_with_sessions(tx: Write) -> None:
    """Before taps are written late: wait until nobody puts a session beside its tap, and keep them waiting until `tx`
    ends. Neither would see what the other has not committed. No tap that is decided waits for this.
    """
    await tx.execute(sa.text(f"SELECT pg_advisory_xact_lock({_LATE_TAPS})"))


async def in_turn_with_late_taps(tx: Write) -> None:
    """The same for who puts a session beside its tap; they do not wait for each other."""
    await tx.execute(sa.text(f"SELECT pg_advisory_xact_lock_shared({_LATE_TAPS})"))


async def replay(tx: Write, spooled: Sequence[Spooled]) -> tuple[list[Row], list[Row]]:
    """Write taps that passed while the database was away; returns those whose answer was not known so before, and the
    pairings that are void by that.

    A tap whose statement was under way at its deadline may be there already, even matched: it was not told Blocked,
    so the pairing is void. One that came through the other way too has its row already, which then says so.
    """
    found: list[Row] = []
    # Where several lines are of one tap the last one counts.
    spooled = list({one.tap_id: one for one in spooled}.values())
    # A statement does not see what it writes, and both ways of a tap may be here: the gateway, first as in life.
    for via in _WAYS:
        taps = [one for one in spooled if one.via == via]
        if taps:
            values = {"taps": _json.encode(taps).decode(), "same_tap_s": Windows().same_tap_s}
            found += await tx.execute(_REPLAY, values)
    voided = await tx.execute(
        pairing.update()
        .where(pairing.c.state == "matched", pairing.c.tap_id.in_([one.tap_id for one in spooled]))
        .values(state="void", ended_at=max(one.told_at for one in spooled))
        .returning(pairing)
    )
    return found, list(voided)


async def add_gap(tx: Write, gap: Gap, *, why: str) -> None:
    """Journal that taps are missing. Written before, it may have grown."""
    statement = pg.insert(journal_gap).values(
        gap_id=gap.gap_id, first_at=gap.first_at, last_at=gap.last_at, taps=gap.taps, why=why
    )
    grown = {"first_at": gap.first_at, "last_at": gap.last_at, "taps": gap.taps}
    await tx.execute(
        statement.on_conflict_do_update(
            index_elements=[journal_gap.c.gap_id], set_=grown, where=journal_gap.c.taps < gap.taps
        )
    )


async def forget_gaps(tx: Write, before: datetime) -> None:
    await tx.execute(journal_gap.delete().where(journal_gap.c.last_at < before))


async def keep_partitions(tx: Write, *, now: datetime, ahead: int, keep_days: int) -> list[tuple[str, str]]:
    """Make the journal's months to come and drop those past their time; returns (month, made or dropped)."""
    # One replica at a time: two that make the same month would refuse each other.
    await tx.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext('preauth.tap partitions'))"))
    statement = sa.text("SELECT partition, done FROM keep_tap_partitions(:now, :ahead, :keep_days)")
    found = await tx.execute(statement, {"now": now, "ahead": ahead, "keep_days": keep_days})
    return [(row.partition, row.done) for row in found]


# What could not be seen is said where it matters: at a tap that was taken for a scan.
_HOOK_ALONE: Final = " Through the hook alone a remote start made in SteVe's own pages cannot be told from a tap."
_ANY_CONNECTOR: Final = (
    " The scan was armed for connector {connector}; an Authorize does not say at which connector the card was."
)


def _explanation(row: Row) -> str:
    sentence = SENTENCES[Reason(row.reason)]
    if row.reason != Reason.MATCHED.value:
        return sentence
    if row.connector_id is None and row.armed_connector_id is not None:
        sentence += _ANY_CONNECTOR.format(connector=row.armed_connector_id)
    if row.via == "hook" and row.also_via is None:
        sentence += _HOOK_ALONE
    return sentence


def _session_outcome(row: Row, none_before: datetime | None) -> SessionOutcome:
    if row.session is not None:
        return "began"
    is_over = none_before is not None and row.received_at < none_before
    return "none" if row.told == "passed" and is_over else "unknown"


def _view(row: Row, none_before: datetime | None) -> TapView:
    told: Told | None = row.told
    return TapView(
        tap_id=row.tap_id,
        tapped_at=row.received_at,
        charge_box_id=row.charge_box_id,
        connector_id=row.connector_id,
        id_tag=row.id_tag,
        id_tag_as_sent=row.id_tag_as_sent,
        kind=row.kind,
        decision=outcome_of(row.reason),
        reason=row.reason,
        explanation=_explanation(row),
        told=told,
        told_at=row.told_at,
        in_time=row.in_time,
        duration_us=row.duration_us,
        via=row.via,
        also_via=row.also_via,
        pairing_id=row.pairing_id,
        steve_answer=row.steve_answer,
        session=row.session,
        session_outcome=_session_outcome(row, none_before),
        override_outcome=row.override_outcome,
    )


# Written out, not bound: a plan that is kept for any value could not use the index on what is not plain.
_NOT_PLAIN: Final = sa.text(f"tap.{NOT_PLAIN}")
# `told` is in no index, because it changes with every tap. Only these are ever told Blocked.
_BLOCKING: Final = sa.text(f"tap.reason IN ('{Reason.MATCHED.value}', '{Reason.REPEATED.value}')")


async def search(
    tx: Read, request: SearchTaps, *, before: tuple[datetime, UUID] | None, none_before: datetime | None
) -> list[TapView]:
    """Taps that match, newest first, at most `request.limit`; `before` is where the page before ended.

    Where nobody told of a session after a tap that came before `none_before`, none began. None: nobody can say.
    """
    statement = (
        sa.select(tap, pairing.c.connector_id.label("armed_connector_id"))
        .outerjoin(pairing, pairing.c.pairing_id == tap.c.pairing_id)
        .order_by(tap.c.received_at.desc(), tap.c.tap_id.desc())
        .limit(request.limit)
    )
    exact = {
        tap.c.id_tag: request.id_tag,
        tap.c.charge_box_id: request.charge_box_id,
        tap.c.pairing_id: request.pairing_id,
        tap.c.reason: request.reason,
        tap.c.told: request.told,
    }
    for column, wanted in exact.items():
        if wanted is not None:
            statement = statement.where(column == wanted)
    if request.reason not in {None, Reason.NOTHING_ARMED.value}:
        statement = statement.where(_NOT_PLAIN)
    if request.told == "blocked":
        statement = statement.where(_BLOCKING)
    if request.told == "unknown":
        statement = statement.where(tap.c.unclear)
    if request.since is not None:
        statement = statement.where(tap.c.received_at >= request.since)
    if request.until is not None:
        statement = statement.where(tap.c.received_at < request.until)
    if before is not None:
        statement = statement.where(sa.tuple_(tap.c.received_at, tap.c.tap_id) < sa.tuple_(*before))
    return [_view(row, none_before) for row in await tx.execute(statement)]


async def gaps(tx: Read, *, since: datetime | None, until: datetime | None) -> list[GapView]:
    """Gaps that ended in [since, until), newest first."""
    statement = sa.select(journal_gap).order_by(journal_gap.c.last_at.desc()).limit(MOST_GAPS)
    if since is not None:
        statement = statement.where(journal_gap.c.last_at >= since)
    if until is not None:
        statement = statement.where(journal_gap.c.last_at < until)
    return [
        GapView(first_at=row.first_at, last_at=row.last_at, taps=row.taps, why=row.why)
        for row in await tx.execute(statement)
    ]


async def add_steve_answers(tx: Write, answers: Sequence[SteveAnswered]) -> set[UUID]:
    """Put SteVe's verdicts, as they passed the gateway, beside their taps. Returns the taps that are in the journal."""
    times = [one.received_at for one in answers]
    values = {
        "answers": _json.encode(answers).decode(),
        "first_at": min(times),
        "last_at": max(times),
        "same_tap_s": Windows().same_tap_s,
    }
    return set((await tx.execute(_STEVE_ANSWERS, values)).scalars())
