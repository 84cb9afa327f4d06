"""All SQL about sessions."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import REGCLASS, insert

from services.sync import bulk
from services.sync.ledger.tables import entry
from services.sync.metadata import SCHEMA
from services.sync.sessions.tables import LONG, cursor, gap, lasts_long, observations, session, start_verdict
from shared.contracts.identity import session_id
from shared.contracts.requests.sync import Billing, SearchSessions, SessionView
from shared.database.engine import Read, Write

KEY: Final = ("steve_id", "transaction_pk")
# The columns of one whose settling was not put off.
NOT_PUT_OFF: Final = {"settle_attempts": 0, "busy_tries": 0}

_BY_PK: Final = sa.select(session).where(bulk.among(session))

# Nothing that ended is longer than a week.
LONGEST: Final = timedelta(days=7)


async def begin_observation(tx: Write, steve_id: str) -> int:
    """One observer at a time, over all replicas: cursor, sessions and their events move together.

    Returns the observation's number, which is higher than those before.
    """
    statement = sa.select(
        sa.func.pg_advisory_xact_lock(sa.func.hashtext(f"{SCHEMA}.sessions.{steve_id}")), observations.next_value()
    )
    return int((await tx.execute(statement)).one()[1])


async def last_observation(tx: Read) -> int:
    """The number of the last one that began, committed or not: SteVe had answered it by then."""
    last = sa.func.pg_sequence_last_value(sa.cast(f"{SCHEMA}.{observations.name}", REGCLASS))
    return int((await tx.execute(sa.select(sa.func.coalesce(last, 0)))).scalar_one())


async def cursor_row(tx: Read, steve_id: str) -> sa.Row[Any] | None:
    return (await tx.execute(sa.select(cursor).where(cursor.c.steve_id == steve_id))).first()


async def move_cursor(tx: Write, steve_id: str, to: int, at: datetime) -> None:
    """Move the cursor up, never down."""
    statement = insert(cursor).values(steve_id=steve_id, cursor=to, updated_at=at)
    await tx.execute(
        statement.on_conflict_do_update(
            index_elements=[cursor.c.steve_id],
            set_={"cursor": sa.func.greatest(cursor.c.cursor, statement.excluded.cursor), "updated_at": at},
        )
    )


async def set_cursor(tx: Write, steve_id: str, **values: Any) -> None:  # noqa: ANN401 - the row's columns
    await tx.execute(sa.update(cursor).where(cursor.c.steve_id == steve_id).values(**values))


async def by_pk(tx: Read, steve_id: str, pks: Collection[int]) -> dict[int, sa.Row[Any]]:
    return {row.transaction_pk: row for row in await tx.execute(_BY_PK, bulk.these(steve_id, pks))}


async def lock_by_pk(tx: Write, steve_id: str, pks: Collection[int]) -> dict[int, sa.Row[Any]]:
    """The same as they are now, locked for this transaction."""
    if not pks:
        return {}
    statement = _BY_PK.order_by(session.c.transaction_pk).with_for_update()
    return {row.transaction_pk: row for row in await tx.execute(statement, bulk.these(steve_id, pks))}


async def insert_sessions(tx: Write, values: Sequence[Mapping[str, Any]]) -> None:
    await bulk.insert(tx, session, values)


async def update_sessions(tx: Write, columns: tuple[str, ...], values: Sequence[Mapping[str, Any]]) -> None:
    """Set `columns` of each session, whose key stands among the values."""
    await bulk.update(tx, session, KEY, columns, values)


async def add_gaps(tx: Write, steve_id: str, pks: Collection[int], at: datetime) -> None:
    if pks:
        rows = [{"steve_id": steve_id, "transaction_pk": pk, "seen_at": at} for pk in pks]
        await tx.execute(insert(gap).on_conflict_do_nothing(), rows)


async def close_gaps(tx: Write, steve_id: str, pks: Collection[int], *, older_than: datetime) -> None:
    """Forget gaps that were filled, and those that are old: nothing will be committed there any more."""
    found = gap.c.transaction_pk.in_(list(pks))
    await tx.execute(sa.delete(gap).where(gap.c.steve_id == steve_id, sa.or_(found, gap.c.seen_at < older_than)))


async def gaps(tx: Read, steve_id: str, *, limit: int) -> list[int]:
    statement = (
        sa.select(gap.c.transaction_pk)
        .where(gap.c.steve_id == steve_id)
        .order_by(gap.c.transaction_pk.desc())
        .limit(limit)
    )
    return list((await tx.execute(statement)).scalars())


async def newest_of_cards(tx: Read, steve_id: str, count: int) -> list[Any]:
    """The newest session of each of up to `count` cards, among the newest sessions there are."""
    newest = sa.select(session).where(session.c.steve_id == steve_id).order_by(session.c.transaction_pk.desc())
    found: dict[str, Any] = {}
    for row in await tx.execute(newest.limit(200)):
        found.setdefault(row.id_tag, row)
    return list(found.values())[:count]


async def watched_closely(tx: Read, steve_id: str, *, started_after: datetime, limit: int) -> list[int]:
    """Open sessions that began lately: they may end any moment."""
    recent = sa.and_(session.c.stopped_at.is_(None), session.c.started_at > started_after)
    return await _watched(tx, steve_id, recent, limit)


async def watched(tx: Read, steve_id: str, *, stopped_after: datetime, limit: int) -> list[int]:
    """All sessions whose end is not final: open ones, and those that were stopped by hand since `stopped_after`.

    SteVe may date such a stop back to the last reading, so what counts is when it was seen to stop, too.
    """
    seen_to_stop = sa.and_(session.c.changed_at > stopped_after, session.c.changed_at > session.c.first_seen_at)
    by_hand = sa.and_(session.c.stop_actor == "manual", sa.or_(session.c.stopped_at > stopped_after, seen_to_stop))
    return await _watched(tx, steve_id, sa.or_(session.c.stopped_at.is_(None), by_hand), limit)


async def _watched(tx: Read, steve_id: str, which: sa.ColumnElement[bool], limit: int) -> list[int]:
    statement = sa.select(session.c.transaction_pk).where(session.c.steve_id == steve_id, which)
    found = await tx.execute(statement.order_by(session.c.transaction_pk.desc()).limit(limit))
    return list(found.scalars())


async def running(tx: Read, steve_id: str, *, after: int, limit: int) -> list[Any]:
    """Open sessions with an owner that are not held, by their ids, the first one above `after`; with `last_read_at`,
    the time of their last entry's reading.
    """
    last = sa.and_(
        entry.c.steve_id == session.c.steve_id,
        entry.c.transaction_pk == session.c.transaction_pk,
        entry.c.seq == session.c.last_seq,
    )
    statement = (
        sa.select(session, entry.c.timestamp.label("last_read_at"))
        .select_from(session.outerjoin(entry, last))
        .where(
            session.c.steve_id == steve_id,
            session.c.transaction_pk > after,
            session.c.stopped_at.is_(None),
            session.c.billing == "open",
            session.c.owner_subscription.is_not(None),
        )
        .order_by(session.c.transaction_pk)
        .limit(limit)
    )
    return list((await tx.execute(statement)).all())


async def settle_stuck(tx: Write, steve_id: str, *, started_before: datetime, at: datetime) -> int:
    """Have sessions that are open for too long looked at; returns how many."""
    result = await tx.execute(
        sa.update(session)
        .where(
            session.c.steve_id == steve_id,
            session.c.stopped_at.is_(None),
            session.c.started_at < started_before,
            session.c.billing == "open",
            session.c.settle_at.is_(None),
        )
        .values(settle_at=at)
    )
    return result.rowcount


async def locked(tx: Write, steve_id: str, pk: int) -> Any:  # noqa: ANN401 - the row, or None
    statement = sa.select(session).where(session.c.steve_id == steve_id, session.c.transaction_pk == pk)
    return (await tx.execute(statement.with_for_update())).first()


async def due(tx: Write, now: datetime, *, limit: int, only: tuple[str, int] | None = None) -> list[sa.Row[Any]]:
    """Sessions to be settled (`only`: this one), locked for this transaction; another replica's are left out."""
    statement = _due(sa.select(session), now, limit)
    if only is not None:
        statement = statement.where(session.c.steve_id == only[0], session.c.transaction_pk == only[1])
    return list((await tx.execute(statement.with_for_update(skip_locked=True))).all())


async def due_keys(tx: Read, now: datetime, *, limit: int) -> list[tuple[str, int]]:
    """The same by their keys, and not locked."""
    statement = _due(sa.select(session.c.steve_id, session.c.transaction_pk), now, limit)
    return [(row.steve_id, row.transaction_pk) for row in await tx.execute(statement)]


async def wake(tx: Write, now: datetime, *, held_for: str, limit: int) -> int:
    """Have settled at `now` what was put off because Lago did not answer, and what is held for that reason, and looked
    at again later; returns how many. What another one has in hand is left to it.
    """
    put_off = sa.and_(session.c.billing == "pending", session.c.settle_attempts > 0)
    taken = (
        sa.select(session.c.steve_id, session.c.transaction_pk)
        .where(session.c.settle_at > now, sa.or_(put_off, session.c.hold_reason == held_for))
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("taken")
    )
    mine = (session.c[name] == taken.c[name] for name in KEY)
    return (await tx.execute(sa.update(session).where(*mine).values(settle_at=now, **NOT_PUT_OFF))).rowcount


def _due(which: sa.Select[Any], now: datetime, limit: int) -> sa.Select[Any]:
    return which.where(session.c.settle_at <= now).order_by(session.c.settle_at, session.c.transaction_pk).limit(limit)


def _beside(
    one: sa.FromClause, look_back: timedelta, tolerance: timedelta, *, only_long: bool = False
) -> sa.Select[tuple[int]]:
    """Sessions on the connector of `one` that ran while it did and began at most `look_back` before it.

    An index finds what began in a span of time, not what lasted into one. So a week of a busy connector is not read for
    each of its sessions: most did not last, and those that did have an index of their own.
    """
    other = session.alias()
    found = (
        sa.select(other.c.transaction_pk)
        .where(
            other.c.steve_id == one.c.steve_id,
            other.c.charge_box_id == one.c.charge_box_id,
            other.c.connector_id == one.c.connector_id,
            other.c.transaction_pk != one.c.transaction_pk,
            other.c.started_at < one.c.stopped_at - tolerance,
            other.c.started_at > one.c.started_at - look_back,
            other.c.stopped_at > one.c.started_at + tolerance,
            # A session that delivered nothing takes nothing from another one, and an ignored one has been dealt with.
            other.c.stop_wh > other.c.start_wh,
            other.c.billing != "ignored",
        )
        .correlate(one)
    )
    return found.where(lasts_long(other)) if only_long else found


@cache
def _around(tolerance: timedelta) -> sa.Select[Any]:
    previous = (
        sa.select(session.c.start_wh, session.c.stop_wh)
        .where(
            session.c.steve_id == (one := session.alias("one")).c.steve_id,
            session.c.charge_box_id == one.c.charge_box_id,
            session.c.connector_id == one.c.connector_id,
            session.c.started_at < one.c.started_at,
            session.c.stopped_at.is_not(None),
        )
        .order_by(session.c.started_at.desc())
        .limit(1)
        .correlate(one)
        .lateral("previous")
    )
    overlapping = (
        sa.union_all(_beside(one, LONG, tolerance), _beside(one, LONGEST, tolerance, only_long=True))
        .limit(1)
        .lateral("overlapping")
    )
    return (
        sa.select(
            one.c.transaction_pk,
            previous.c.start_wh.label("previous_start_wh"),
            previous.c.stop_wh.label("previous_stop_wh"),
            overlapping.c.transaction_pk.label("overlapping_pk"),
            start_verdict.c.verdict,
        )
        .select_from(
            one.outerjoin(previous, sa.true())
            .outerjoin(overlapping, sa.true())
            .outerjoin(
                start_verdict,
                sa.and_(
                    start_verdict.c.steve_id == one.c.steve_id,
                    start_verdict.c.transaction_pk == one.c.transaction_pk,
                ),
            )
        )
        .where(bulk.among(one))
    )


async def around(tx: Read, steve_id: str, pks: Sequence[int], *, tolerance: timedelta) -> dict[int, Any]:
    """For each session, the one before it on its connector, and one that ran at the same time."""
    found = await tx.execute(_around(tolerance), bulk.these(steve_id, pks))
    return {row.transaction_pk: row for row in found}


def view(row: Any) -> SessionView:  # noqa: ANN401 - a row of session, perhaps joined with its last entry
    energy = row.stop_wh - row.start_wh if row.stop_wh is not None and row.start_wh is not None else None
    held = row.billing == "held"
    return SessionView(
        session=session_id(row.steve_id, row.transaction_pk),
        charge_box_id=row.charge_box_id,
        connector_id=row.connector_id,
        id_tag=row.id_tag,
        started_at=row.started_at,
        stopped_at=row.stopped_at,
        start_wh=row.start_wh,
        stop_wh=row.stop_wh,
        energy_wh=energy,
        stop_reason=row.stop_reason,
        provisional=row.stop_actor == "manual",
        billing=Billing(
            state=row.billing,
            at=row.held_at if held else row.billed_at,
            reason=row.hold_reason,
            explanation=row.hold_explanation,
            external_customer_id=row.owner_customer,
            external_subscription_id=row.owner_subscription,
            usage_event_id=row.usage_event_id,
            billed_wh=row.billed_wh - row.start_wh if row.billed_wh is not None and row.start_wh is not None else 0,
            note=row.note,
        ),
    )


def viewed() -> sa.Select[Any]:
    """Sessions with the id of their last usage event: what `view` needs."""
    last = sa.and_(
        entry.c.steve_id == session.c.steve_id,
        entry.c.transaction_pk == session.c.transaction_pk,
        entry.c.seq == session.c.last_seq,
    )
    return sa.select(session, entry.c.usage_event_id).select_from(session.outerjoin(entry, last))


async def search(tx: Read, request: SearchSessions, *, before: tuple[datetime, int] | None) -> list[SessionView]:
    """Newest start first; `before` is the start and id of the last one of the page before."""
    statement = viewed().order_by(session.c.started_at.desc(), session.c.transaction_pk.desc()).limit(request.limit)
    exact = {
        session.c.id_tag: request.id_tag,
        session.c.charge_box_id: request.charge_box_id,
        session.c.billing: request.billing,
        session.c.owner_subscription: request.external_subscription_id,
    }
    for column, wanted in exact.items():
        if wanted is not None:
            statement = statement.where(column == wanted)
    if request.open_only:
        statement = statement.where(session.c.stopped_at.is_(None))
    if before is not None:
        statement = statement.where(
            sa.tuple_(session.c.started_at, session.c.transaction_pk) < sa.tuple_(*map(sa.literal, before))
        )
    return [view(row) for row in await tx.execute(statement)]


async def get(tx: Read, steve_id: str, pk: int) -> SessionView | None:
    statement = viewed().where(session.c.steve_id == steve_id, session.c.transaction_pk == pk)
    row = (await tx.execute(statement)).first()
    return view(row) if row is not None else None
