"""All SQL about runs and the schedule."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from services.sync import bulk
from services.sync.ledger.tables import entry
from services.sync.runs.cadence import LONGEST_S
from services.sync.runs.tables import run, run_session, schedule
from services.sync.sessions.tables import session
from shared.contracts.identity import session_id
from shared.contracts.requests.sync_work import GetRun, ListRuns, RunCounters, RunSessionView, RunView
from shared.database.engine import Read, Write

# Leases go by the database's time alone: that of a replica that is ahead would end another one's claim early. It is the
# time of the moment and not of the transaction, which may have waited for whoever has the claim.
_NOW: Final = sa.func.clock_timestamp()


async def ensure_schedule(tx: Write, steve_id: str, at: datetime) -> None:
    # What is there at the beginning is read as new; a sweep right after it would read it twice.
    values = {"steve_id": steve_id, "next_look_at": at, "mode": "active", "mode_since": at, "swept_at": at}
    await tx.execute(insert(schedule).values(**values).on_conflict_do_nothing())


async def claim(tx: Write, steve_id: str, by: UUID, now: datetime, *, lease: timedelta, hurry: bool) -> Any:  # noqa: ANN401 - the row, or None
    """Take the next look, if it is due (or somebody waits for it) and nobody has it.

    A time that is further ahead than any is ever written was written by a clock that was ahead, and means nothing.
    """
    waiting = sa.exists().where(run.c.steve_id == steve_id, run.c.state == "waiting")
    never = schedule.c.next_look_at > now + timedelta(seconds=LONGEST_S)
    due = sa.true() if hurry else sa.or_(schedule.c.next_look_at <= now, never, waiting)
    # No lease reaches half as far; a database whose clock is set back by a little takes no claim from anybody.
    over = sa.or_(schedule.c.lease_until < _NOW, schedule.c.lease_until > _NOW + 2 * lease)
    free = sa.or_(schedule.c.lease_until.is_(None), over, schedule.c.claimed_by == by)
    statement = (
        sa.update(schedule)
        .where(schedule.c.steve_id == steve_id, due, free)
        .values(claimed_by=by, lease_until=_NOW + lease)
        .returning(schedule)
    )
    return (await tx.execute(statement)).first()


async def renew(tx: Write, steve_id: str, by: UUID, *, lease: timedelta) -> Any:  # noqa: ANN401 - the row
    """Keep the claim; None where somebody else has it by now."""
    statement = sa.update(schedule).where(schedule.c.steve_id == steve_id, schedule.c.claimed_by == by)
    return (await tx.execute(statement.values(lease_until=_NOW + lease).returning(schedule))).first()


async def set_schedule(tx: Write, steve_id: str, **values: Any) -> None:  # noqa: ANN401 - the row's columns
    await tx.execute(sa.update(schedule).where(schedule.c.steve_id == steve_id).values(**values))


async def schedule_row(tx: Read, steve_id: str) -> Any:  # noqa: ANN401 - the row, or None
    return (await tx.execute(sa.select(schedule).where(schedule.c.steve_id == steve_id))).first()


async def charging(tx: Read, steve_id: str, *, since: datetime) -> bool:
    """Whether a transaction is open that began after `since`: one that is stuck charges nothing."""
    statement = sa.select(sa.literal(1)).where(
        session.c.steve_id == steve_id, session.c.stopped_at.is_(None), session.c.started_at > since
    )
    return (await tx.execute(statement.limit(1))).first() is not None


async def add(tx: Write, **values: Any) -> None:  # noqa: ANN401 - the row's columns
    await tx.execute(sa.insert(run).values(**values))


async def update(tx: Write, run_id: UUID, **values: Any) -> None:  # noqa: ANN401 - the row's columns
    """One that has ended stays as it is."""
    unfinished = run.c.state.in_(["waiting", "running"])
    await tx.execute(sa.update(run).where(run.c.run_id == run_id, unfinished).values(**values))


async def next_waiting(tx: Write, steve_id: str) -> Any:  # noqa: ANN401 - the row, or None
    statement = (
        sa.select(run)
        .where(run.c.steve_id == steve_id, run.c.state == "waiting")
        .order_by(run.c.requested_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    return (await tx.execute(statement)).first()


async def abandoned(tx: Write, steve_id: str) -> list[Any]:
    """Runs that nobody is at: asked by whoever has just taken the claim, and has begun nothing with it yet. Locked."""
    statement = sa.select(run).where(run.c.steve_id == steve_id, run.c.state == "running")
    return list((await tx.execute(statement.with_for_update())).all())


def _outcome(since: datetime) -> sa.Case[str]:
    """How a session stands, for a run that began at `since`."""
    billed = session.c.billing.in_(["synced", "counted"])
    return sa.case(
        (sa.and_(billed, session.c.billed_at >= since), "billed"),
        (billed, "already_billed"),
        (session.c.billing == "pending", "failed"),
        else_=session.c.billing,
    )


async def standings(tx: Read, steve_id: str, pks: Sequence[int], *, since: datetime) -> dict[int, str]:
    """How each of these sessions stands, without a word why."""
    statement = sa.select(session.c.transaction_pk, _outcome(since).label("outcome")).where(bulk.among(session))
    return {row.transaction_pk: row.outcome for row in await tx.execute(statement, bulk.these(steve_id, pks))}


class Outcome(NamedTuple):
    """How a session stands, why it is held or waits, and whether it is being settled or delivered right now."""

    outcome: str
    detail: str | None
    in_hand: bool


async def outcomes(tx: Read, steve_id: str, pks: Sequence[int], *, since: datetime) -> dict[int, Outcome]:
    """How each of these sessions stands, all told by one statement: asked about one after the other, a session that is
    delivered in between would be neither billed nor in hand. What was put off is in nobody's hand.
    """
    last = sa.and_(
        entry.c.steve_id == session.c.steve_id,
        entry.c.transaction_pk == session.c.transaction_pk,
        entry.c.seq == session.c.last_seq,
    )
    waits = sa.case(
        (session.c.settle_at.is_not(None), "Lago has not answered about its subscription, or about the metric, yet."),
        else_=sa.func.coalesce(entry.c.last_error, "Its usage event waits to be sent."),
    )
    detail = sa.case(
        (session.c.billing == "held", session.c.hold_reason), (session.c.billing == "pending", waits), else_=None
    )
    going = entry.alias("going")
    delivering = sa.exists().where(
        going.c.steve_id == session.c.steve_id,
        going.c.transaction_pk == session.c.transaction_pk,
        going.c.state.in_(["pending", "sending"]),
        going.c.last_error.is_(None),
    )
    settling = sa.and_(session.c.settle_at.is_not(None), session.c.settle_attempts == 0)
    in_hand = sa.case((session.c.billing == "pending", sa.or_(settling, delivering)), else_=sa.false())
    statement = (
        sa.select(session.c.transaction_pk, _outcome(since), detail, in_hand)
        .select_from(session.outerjoin(entry, last))
        .where(bulk.among(session))
    )
    found = await tx.execute(statement, bulk.these(steve_id, pks))
    return {pk: Outcome(outcome, detail, in_hand) for pk, outcome, detail, in_hand in found}


async def keep_outcomes(tx: Write, run_id: UUID, found: Mapping[int, Outcome]) -> None:
    rows = [
        {"run_id": run_id, "transaction_pk": pk, "outcome": one.outcome, "detail": one.detail}
        for pk, one in sorted(found.items())
    ]
    await bulk.insert(tx, run_session, rows)


def view(row: Any) -> RunView:  # noqa: ANN401 - a row of run
    return RunView(
        run_id=row.run_id,
        trigger=row.trigger,
        requested_by=row.requested_by,
        state=row.state,
        segments=row.segments,
        segment=row.segment,
        requested_at=row.requested_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        cursor_before=row.cursor_before,
        cursor_after=row.cursor_after,
        counters=RunCounters(**row.counters),
        done=row.done,
        expected=row.expected,
        problem=row.problem,
    )


async def search(tx: Read, request: ListRuns, *, before: tuple[datetime, UUID] | None) -> list[RunView]:
    statement = sa.select(run).order_by(run.c.requested_at.desc(), run.c.run_id.desc()).limit(request.limit)
    if request.state is not None:
        statement = statement.where(run.c.state == request.state)
    if before is not None:
        statement = statement.where(sa.tuple_(run.c.requested_at, run.c.run_id) < sa.tuple_(*map(sa.literal, before)))
    return [view(row) for row in await tx.execute(statement)]


async def get(tx: Read, run_id: UUID) -> Any:  # noqa: ANN401 - the row, or None
    return (await tx.execute(sa.select(run).where(run.c.run_id == run_id))).first()


async def sessions(tx: Read, steve_id: str, request: GetRun, *, after: int | None) -> list[RunSessionView]:
    statement = (
        sa.select(run_session)
        .where(run_session.c.run_id == request.run_id)
        .order_by(run_session.c.transaction_pk)
        .limit(request.limit)
    )
    if request.outcome is not None:
        statement = statement.where(run_session.c.outcome == request.outcome)
    if after is not None:
        statement = statement.where(run_session.c.transaction_pk > after)
    return [
        RunSessionView(session=session_id(steve_id, row.transaction_pk), outcome=row.outcome, detail=row.detail)
        for row in await tx.execute(statement)
    ]


async def forget(tx: Write, *, before: datetime) -> int:
    """Delete finished runs that are older, with their log."""
    statement = sa.delete(run).where(run.c.finished_at < before, run.c.state.in_(["finished", "failed"]))
    return (await tx.execute(statement)).rowcount
