from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.preauth.decision.projections import KNOWN_WITHIN, LOOKED_WITHIN, transaction_id_of
from services.preauth.evidence.rules import AHEAD, BELONGS, KNOWN_LATE, Blocked, Judgement, may_have_begun
from services.preauth.tables import open_session, override_outcome, pairing, rate_told, remote_start, session_stop, tap
from shared.database.engine import Read, Write

Row = sa.Row[Any]

# A station's clock may be ahead of ours by so much, and its session seem to begin before the tap.
BEFORE_ITS_TAP: Final = timedelta(seconds=30)


def _may_have_begun(
    session: sa.FromClause, first: sa.ColumnElement[datetime], last: sa.ColumnElement[datetime]
) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    """As `rules.may_have_begun`: whether, in that time, when it was first seen, and as its station says."""
    by_station, seen_at = session.c.station_started_at, session.c.started_at
    seen = sa.and_(sa.or_(session.c.seen_running, session.c.stopped_at.is_(None)), seen_at.between(first, last))
    told = sa.and_(by_station.between(seen_at - KNOWN_LATE, seen_at + AHEAD), by_station.between(first, last))
    return seen, told


async def unjudged(tx: Read, *, since: datetime, limit: int) -> list[tuple[Row, Blocked]]:
    """Taps that were scans since then, with what is known of each: those that nobody judged yet, and those that were
    found honoured before the session was known, or its energy.
    """
    later, session = tap.alias("later"), open_session.alias("session")
    from_, until = tap.c.told_at - timedelta(seconds=5), tap.c.told_at + BELONGS
    seen_then, told_then = _may_have_begun(session, from_, until)
    began_at = sa.case((sa.or_(seen_then, ~told_then), session.c.started_at), else_=session.c.station_started_at)
    start = tap.alias("start")
    started_before = (
        sa.exists()
        .where(
            start.c.id_tag == tap.c.id_tag,
            start.c.charge_box_id == tap.c.charge_box_id,
            start.c.kind == "start",
            start.c.session == session.c.session,
            start.c.received_at < tap.c.received_at,
            start.c.received_at > tap.c.received_at - KNOWN_LATE,
        )
        .correlate(tap, session)
    )
    of_before = sa.or_(~seen_then & ~told_then, started_before)
    near = session.c.station_started_at.between(
        session.c.started_at - KNOWN_WITHIN, session.c.started_at + KNOWN_WITHIN
    )
    theirs = (
        sa.select(
            session.c.transaction_id,
            session.c.energy_wh,
            began_at.label("started_at"),
            # The station's clock tells how long it was, whatever it says the time was.
            (began_at + (session.c.stopped_at - session.c.station_started_at)).label("stopped_at"),
            of_before.label("of_before"),
            sa.not_(sa.or_(told_then, near)).label("dated_elsewhere"),
        )
        .where(
            session.c.charge_box_id == tap.c.charge_box_id,
            session.c.id_tag == tap.c.id_tag,
            # One that had ended when it was first seen, and of which it is not known when it was, clouds the view,
            # unless nothing flowed.
            sa.or_(
                seen_then,
                told_then,
                sa.and_(session.c.started_at.between(from_, until), session.c.energy_wh.is_distinct_from(0)),
            ),
        )
        .order_by(of_before, began_at)
        .limit(1)
        .lateral("theirs")
    )
    let_through = sa.exists().where(
        later.c.id_tag == tap.c.id_tag,
        later.c.charge_box_id == tap.c.charge_box_id,
        # One whose answer was never recorded was most likely let through, and never told Blocked in time.
        later.c.told.is_distinct_from("blocked"),
        # Whether it may charge is SteVe's to say, where its answer was seen.
        sa.func.coalesce(later.c.steve_answer, "Accepted") == "Accepted",
        # A start is what a charger tells that ignored its Blocked, too: let through, it proves nothing.
        later.c.kind == "authorize",
        later.c.received_at > tap.c.received_at,
        later.c.received_at <= sa.func.coalesce(theirs.c.started_at, tap.c.told_at + BELONGS) + timedelta(seconds=5),
    )
    asked = sa.exists().where(
        remote_start.c.charge_box_id == tap.c.charge_box_id,
        remote_start.c.id_tag == tap.c.id_tag,
        remote_start.c.asked_at >= tap.c.received_at - BELONGS,
        remote_start.c.asked_at <= tap.c.received_at + BELONGS,
    )
    statement = (
        sa.select(
            tap.c.tap_id,
            tap.c.received_at,
            tap.c.told_at,
            tap.c.charge_box_id,
            tap.c.id_tag,
            tap.c.pairing_id,
            theirs.c.transaction_id,
            theirs.c.started_at,
            theirs.c.stopped_at,
            theirs.c.energy_wh,
            theirs.c.of_before,
            theirs.c.dated_elsewhere,
            let_through.label("let_through"),
            asked.label("asked"),
        )
        # Scans are few: by their pairings they are found without looking at the taps between.
        .select_from(
            pairing.join(tap, sa.and_(tap.c.received_at == pairing.c.matched_at, tap.c.tap_id == pairing.c.tap_id))
            .outerjoin(theirs, sa.true())
            .outerjoin(override_outcome, override_outcome.c.tap_id == tap.c.tap_id)
        )
        .where(
            pairing.c.armed_at >= since,
            pairing.c.state.in_(("intercepted", "consumed")),
            tap.c.told == "blocked",
            tap.c.in_time,
            sa.or_(
                override_outcome.c.tap_id.is_(None),
                sa.and_(
                    override_outcome.c.outcome == "honoured",
                    sa.or_(
                        sa.and_(override_outcome.c.transaction_id.is_(None), theirs.c.transaction_id.is_not(None)),
                        theirs.c.energy_wh > 0,
                    ),
                ),
            ),
        )
        # Those of which nothing is known may wait long, and keep nobody from being judged.
        .order_by(theirs.c.stopped_at.is_(None), tap.c.received_at)
        .limit(limit)
    )
    rows: list[Row] = list(await tx.execute(statement))
    return [
        (
            row,
            Blocked(
                told_at=row.told_at,
                let_through_later=row.let_through,
                remote_start=row.asked,
                session_started_at=row.started_at,
                session_stopped_at=row.stopped_at,
                energy_wh=row.energy_wh,
                of_before=bool(row.of_before),
                dated_elsewhere=bool(row.dated_elsewhere),
            ),
        )
        for row in rows
    ]


async def add_outcome(tx: Write, row: Row, judgement: Judgement, at: datetime) -> bool:
    """Keep a judgement; False where another replica was faster. What was honoured for want of better knowledge may be
    judged anew.
    """
    statement = pg.insert(override_outcome).values(
        tap_id=row.tap_id,
        charge_box_id=row.charge_box_id,
        outcome=judgement.outcome,
        transaction_id=row.transaction_id,
        judged_at=at,
    )
    given = statement.excluded
    statement = statement.on_conflict_do_update(
        index_elements=[override_outcome.c.tap_id],
        set_={"outcome": given.outcome, "transaction_id": given.transaction_id, "judged_at": given.judged_at},
        where=sa.and_(
            override_outcome.c.outcome == "honoured",
            sa.or_(
                given.outcome != "honoured",
                override_outcome.c.transaction_id.is_(None) & given.transaction_id.is_not(None),
            ),
        ),
    )
    if (await tx.execute(statement.returning(override_outcome.c.tap_id))).first() is None:
        return False
    await tx.execute(
        tap.update()
        .where(tap.c.received_at == row.received_at, tap.c.tap_id == row.tap_id)
        .values(override_outcome=judgement.outcome)
    )
    return True


_SESSION: Final = (
    open_session.c.charge_box_id,
    open_session.c.id_tag,
    open_session.c.session,
    open_session.c.started_at,
    open_session.c.station_started_at,
    sa.or_(open_session.c.seen_running, open_session.c.stopped_at.is_(None)).label("seen_running"),
    (open_session.c.stopped_at - open_session.c.station_started_at).label("lasted"),
)


async def session_named(tx: Read, charge_box_id: str, session: str) -> Row | None:
    """What is known of a session, as `note_session` takes it; None where its number is another one's meanwhile."""
    statement = sa.select(*_SESSION).where(
        open_session.c.charge_box_id == charge_box_id,
        open_session.c.transaction_id == transaction_id_of(session),
        open_session.c.session == session,
    )
    return (await tx.execute(statement)).first()


def may_have_ended_by_then(found: Row, *, since_seen: bool) -> bool:
    """Whether the tap that ended it may pass for one that began it: see `BEFORE_ITS_TAP`. Since it was seen: by then it
    may have run for a while.
    """
    longest = BEFORE_ITS_TAP + LOOKED_WITHIN if since_seen else BEFORE_ITS_TAP
    return found.lasted is not None and found.lasted <= longest


async def is_noted(tx: Read, found: Row, *, within: timedelta) -> bool:
    """Whether the session is beside a tap already."""
    times = may_have_begun(found.station_started_at, found.started_at, seen_running=True)
    noted = sa.exists().where(
        tap.c.id_tag == found.id_tag,
        tap.c.charge_box_id == found.charge_box_id,
        tap.c.session == found.session,
        tap.c.received_at > min(times) - within,
        tap.c.received_at <= max(times) + BEFORE_ITS_TAP,
    )
    return bool((await tx.execute(sa.select(noted))).scalar_one())


async def note_session(tx: Write, found: Row, *, within: timedelta) -> None:
    """Put a session beside the tap that it followed, and beside no other: the card's last Authorize, and last start,
    that passed there. One of after it began is that only where none of before can be: else it may be the one that
    ended it.
    """
    before = tap.alias("before")
    times = may_have_begun(found.station_started_at, found.started_at, seen_running=found.seen_running)
    anywhere = sa.and_(
        tap.c.id_tag == found.id_tag,
        tap.c.charge_box_id == found.charge_box_id,
        tap.c.received_at > min([*times, found.started_at]) - within,
        tap.c.received_at <= max([*times, found.started_at]) + BEFORE_ITS_TAP,
    )
    for began_at in times:
        # Beside a tap of before that it does not stand at, nothing may have begun, unless that of after can be its end.
        may_be_of_it = sa.or_(
            before.c.session == found.session,
            sa.and_(
                sa.literal(may_have_ended_by_then(found, since_seen=began_at == found.started_at)),
                before.c.session.is_(None),
                before.c.told == "passed",
            ),
        )
        of_before = sa.exists().where(
            before.c.id_tag == found.id_tag,
            before.c.charge_box_id == found.charge_box_id,
            before.c.kind == tap.c.kind,
            before.c.received_at > began_at - within,
            before.c.received_at <= began_at,
            may_be_of_it,
        )
        of_this_card = sa.and_(
            tap.c.id_tag == found.id_tag,
            tap.c.charge_box_id == found.charge_box_id,
            tap.c.received_at > began_at - within,
            tap.c.received_at <= began_at + BEFORE_ITS_TAP,
        )
        last = (
            sa.select(tap.c.received_at, tap.c.tap_id, tap.c.kind, tap.c.session)
            .ext(pg.distinct_on(tap.c.kind))
            .where(of_this_card, tap.c.told == "passed", sa.or_(tap.c.received_at <= began_at, ~of_before))
            .order_by(tap.c.kind, tap.c.received_at.desc())
        )
        followed = [row for row in await tx.execute(last) if row.session in {None, found.session}]
        for row in followed:
            this = sa.and_(tap.c.received_at == row.received_at, tap.c.tap_id == row.tap_id)
            await tx.execute(tap.update().where(this, tap.c.session.is_(None)).values(session=found.session))
            # It stood beside one of before where this one came into the journal late.
            others = sa.and_(anywhere, tap.c.kind == row.kind, tap.c.session == found.session, sa.not_(this))
            await tx.execute(tap.update().where(others).values(session=None))
        if followed:
            return


async def note_sessions_of(tx: Write, rows: Sequence[Row], *, within: timedelta) -> None:
    """Put beside taps that came into the journal late what was told of meanwhile: the sessions that followed them."""
    began = sa.or_(
        *_may_have_begun(open_session, tap.c.received_at - BEFORE_ITS_TAP, tap.c.received_at + within),
    )
    statement = (
        sa.select(*_SESSION)
        .distinct()
        .select_from(
            tap.join(
                open_session,
                sa.and_(
                    open_session.c.charge_box_id == tap.c.charge_box_id, open_session.c.id_tag == tap.c.id_tag, began
                ),
            )
        )
        .where(
            tap.c.received_at.between(min(row.received_at for row in rows), max(row.received_at for row in rows)),
            tap.c.tap_id == sa.any_(sa.literal([row.tap_id for row in rows], sa.ARRAY(tap.c.tap_id.type))),
            open_session.c.session.is_not(None),
        )
    )
    for found in list(await tx.execute(statement)):
        await note_session(tx, found, within=within)


async def scan_rates(tx: Read, *, now: datetime, window: timedelta, usual_over: timedelta) -> list[Row]:
    """Per charger with scans in the last window: how many, and how many in the time before that."""
    recent = sa.func.count().filter(pairing.c.told_at > now - window)
    statement = (
        sa.select(
            pairing.c.charge_box_id,
            recent.label("scans"),
            sa.func.count().filter(pairing.c.told_at <= now - window).label("before"),
        )
        .where(pairing.c.armed_at > now - usual_over, pairing.c.state.in_(("intercepted", "consumed")))
        .group_by(pairing.c.charge_box_id)
        .having(recent > 0)
    )
    return list(await tx.execute(statement))


async def may_tell_rate(tx: Write, charge_box_id: str, *, now: datetime, again_after: timedelta) -> bool:
    """Whether the charger's unusual rate was not told lately; remembers that it is told now."""
    statement = pg.insert(rate_told).values(charge_box_id=charge_box_id, told_at=now)
    statement = statement.on_conflict_do_update(
        index_elements=[rate_told.c.charge_box_id],
        set_={"told_at": now},
        # Also where it was told at a time still to come: by a clock that was ahead.
        where=~rate_told.c.told_at.between(now - again_after, now + again_after),
    )
    return (await tx.execute(statement.returning(rate_told.c.charge_box_id))).first() is not None


async def add_stop(tx: Write, row: Row, at: datetime) -> None:
    """Have the session beside this tap stopped."""
    statement = pg.insert(session_stop).values(
        tap_id=row.tap_id, charge_box_id=row.charge_box_id, transaction_id=row.transaction_id, due_at=at, noted_at=at
    )
    await tx.execute(statement.on_conflict_do_nothing())


async def due_stop(tx: Write, at: datetime) -> Row | None:
    """The session that waits longest to be stopped, locked, with when it ended, should it have."""
    session = open_session.c
    ended_at = (
        sa.select(session.stopped_at)
        .where(
            session.charge_box_id == session_stop.c.charge_box_id,
            session.transaction_id == session_stop.c.transaction_id,
        )
        .scalar_subquery()
    )
    statement = (
        sa.select(session_stop, ended_at.label("ended_at"))
        .where(session_stop.c.due_at <= at)
        .order_by(session_stop.c.due_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    return (await tx.execute(statement)).first()


async def set_stop(tx: Write, tap_id: UUID, *, attempts: int, outcome: str, due_at: datetime | None) -> None:
    statement = session_stop.update().where(session_stop.c.tap_id == tap_id)
    await tx.execute(statement.values(attempts=attempts, outcome=outcome, due_at=due_at))


async def forget(tx: Write, before: datetime) -> None:
    await tx.execute(session_stop.delete().where(session_stop.c.noted_at < before))
    await tx.execute(override_outcome.delete().where(override_outcome.c.judged_at < before))
