"""All SQL about the ledger."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from services.sync import bulk
from services.sync.lago.rules import Metric
from services.sync.ledger.tables import entry
from services.sync.sessions.tables import session
from shared.contracts.identity import session_id
from shared.database.engine import Read, Write

# Whoever made an entry for another metric, and has not sent it for so long, has gone, or waits for Lago as well.
LEFT_AFTER: Final = timedelta(minutes=10)


class Entry(NamedTuple):
    """An entry that was claimed for delivery; `attempts` counts this claim, `put_offs` those that failed."""

    steve_id: str
    transaction_pk: int
    seq: int
    from_wh: int
    to_wh: int
    usage_event_id: str
    external_customer_id: str
    external_subscription_id: str
    code: str
    property_name: str
    charge_box_id: str
    timestamp: datetime
    final: bool
    attempts: int
    put_offs: int
    server_errors: int
    failing_since: datetime | None
    created_at: datetime
    delivered_at: datetime | None
    period_to: datetime | None
    id_tag: str = ""

    @property
    def metric(self) -> Metric:
        return Metric(self.code, self.property_name)

    @property
    def key(self) -> tuple[str, int, int]:
        return self.steve_id, self.transaction_pk, self.seq

    @property
    def session(self) -> str:
        return session_id(self.steve_id, self.transaction_pk)

    @property
    def wh(self) -> int:
        return self.to_wh - self.from_wh


@dataclass(frozen=True, slots=True)
class Part:
    """An entry as a part of its session's chain."""

    from_wh: int
    to_wh: int
    timestamp: datetime
    code: str
    property_name: str
    state: str
    hold_reason: str | None
    last_error: str | None

    @property
    def metric(self) -> Metric:
        return Metric(self.code, self.property_name)

    @property
    def wh(self) -> int:
        return self.to_wh - self.from_wh


UNSENT = ("pending", "sending", "held")
# What of it is the entry's own.
CLAIMED = Entry._fields[:-1]
Key = tuple[str, int]
_SESSION: Final = ("steve_id", "transaction_pk")
KEY = (entry.c.steve_id, entry.c.transaction_pk, entry.c.seq)
_ATTEMPT: Final = (*_SESSION, "seq", "attempts")
_MINE: Final = bulk.rows(entry, _ATTEMPT, "my_entries").cte("mine")
_WANTED: Final = bulk.rows(session, _SESSION, "sessions").cte("wanted")


def _mine(entries: Sequence[Entry]) -> dict[str, str]:
    """The entries as _MINE has them: their keys, and which attempt it is."""
    return {
        "my_entries": bulk.encoded(
            _ATTEMPT, (dict(zip(_ATTEMPT, (*one.key, one.attempts), strict=True)) for one in entries)
        )
    }


def _wanted(keys: Collection[Key]) -> dict[str, str]:
    """Keys of sessions as _WANTED has them."""
    return {"sessions": bulk.encoded(_SESSION, (dict(zip(_SESSION, one, strict=True)) for one in sorted(set(keys))))}


async def add_entries(tx: Write, values: Sequence[Mapping[str, Any]]) -> None:
    await bulk.insert(tx, entry, values)


async def chains(tx: Read, sessions: Sequence[Key]) -> dict[Key, list[Part]]:
    """The entries of these sessions, in order."""
    found: dict[Key, list[Part]] = {}
    if not sessions:
        return found
    statement = (
        sa.select(entry.c.steve_id, entry.c.transaction_pk, *(entry.c[one.name] for one in fields(Part)))
        .join_from(_WANTED, entry, sa.and_(*(entry.c[name] == _WANTED.c[name] for name in _SESSION)))
        .order_by(*KEY)
    )
    for steve_id, pk, *part in await tx.execute(statement, _wanted(sessions)):
        found.setdefault((steve_id, pk), []).append(Part(*part))
    return found


async def claim(
    tx: Write, now: datetime, began: datetime, *, metric: Metric, limit: int, lease: timedelta
) -> list[Entry]:
    """Take entries whose time has come. Until the lease ends, nobody else takes them; then they are due again.

    Of those of another metric only what is of before this process `began`, or that nobody took for long: while the
    setting is changed, a replica with the other one may run as well, and takes its own. One that nobody ever took is
    this metric's from now on, if it is of before, unless it takes something back: that may have been billed by the
    other one.
    """
    # A claim that a crash of the database forgets is a claim that was never made: the entries are sent again, under the
    # same ids. So its commit need not wait for the disk.
    await tx.execute(sa.text("SET LOCAL synchronous_commit = off"))
    # By a clock that was ahead, this process has not begun yet.
    began = min(began, now)
    left = {"began": began, "left_since": max(began, now - LEFT_AFTER)}
    return await _take(tx, _claiming(), now, limit=limit, lease=lease, **left, **metric._asdict())


async def claim_uncounted(tx: Write, now: datetime, *, limit: int, lease: timedelta) -> list[Entry]:
    """Take delivered entries that are to be looked for in Lago, and nobody else until the lease ends."""
    return await _take(tx, _claiming_uncounted(), now, limit=limit, lease=lease)


async def _take(
    tx: Write, taking: sa.Select[Any], now: datetime, *, limit: int, lease: timedelta, **given: str | datetime
) -> list[Entry]:
    rows = await tx.execute(taking, {"now": now, "until": now + lease, "most": limit, **given})
    return [Entry(*row) for row in rows]


@cache
def _claiming() -> sa.Select[Any]:
    given = {name: sa.bindparam(name, type_=sa.Text) for name in Metric._fields}
    mine = sa.and_(*(entry.c[name] == value for name, value in given.items()))
    before = entry.c.created_at < sa.bindparam("began", type_=sa.DateTime(timezone=True))
    left = entry.c.created_at < sa.bindparam("left_since", type_=sa.DateTime(timezone=True))
    fresh = sa.and_(before, entry.c.attempts == 0, entry.c.to_wh >= entry.c.from_wh)
    metric = {name: sa.case((fresh, value), else_=entry.c[name]) for name, value in given.items()}
    values = {"state": "sending", "attempts": entry.c.attempts + 1, **metric}
    return _taking(sa.and_(_can_go(), sa.or_(mine, left)), values)


def _can_go() -> sa.ColumnElement[bool]:
    earlier = entry.alias("earlier")
    after_unsent = sa.exists().where(
        earlier.c.steve_id == entry.c.steve_id,
        earlier.c.transaction_pk == entry.c.transaction_pk,
        earlier.c.seq < entry.c.seq,
        earlier.c.state.in_(UNSENT),
    )
    # What is taken back must be there first.
    unsent = entry.c.state.in_(["pending", "sending"])
    return sa.and_(unsent, sa.or_(entry.c.to_wh >= entry.c.from_wh, sa.not_(after_unsent)))


async def others_wait(tx: Read, one: Entry, *, failing_after: datetime | None = None) -> bool:
    """Whether others wait to be delivered, in whatever replica; or those on which Lago began to fail after that."""
    others = sa.select(entry.c.seq).where(_can_go(), sa.or_(*(column != getattr(one, column.name) for column in KEY)))
    if failing_after is not None:
        others = others.where(entry.c.failing_since > failing_after)
    return bool(await tx.scalar(sa.select(others.exists())))


async def unsent(tx: Read, keys: Collection[tuple[str, int, int]]) -> set[tuple[str, int, int]]:
    """Those of these entries that are to be delivered yet."""
    statement = sa.select(*KEY).where(sa.tuple_(*KEY).in_(sorted(keys)), entry.c.state.in_(("pending", "sending")))
    return {(row.steve_id, row.transaction_pk, row.seq) for row in await tx.execute(statement)}


@cache
def _claiming_uncounted() -> sa.Select[Any]:
    return _taking(entry.c.state == "delivered", {})


def _taking(which: sa.ColumnElement[bool], values: Mapping[str, Any]) -> sa.Select[Any]:
    """Those of them that are due `now`, which are then due again at `until`."""
    taken = (
        sa.select(*KEY)
        .where(which, entry.c.due_at <= sa.bindparam("now"))
        .order_by(entry.c.due_at)
        .limit(sa.bindparam("most", type_=sa.Integer))
        .with_for_update(skip_locked=True)
        .cte("taken")
    )
    claimed = (
        sa.update(entry)
        .where(*(column == taken.c[column.name] for column in KEY))
        .values(**values, due_at=sa.bindparam("until"))
        .returning(*(entry.c[name] for name in CLAIMED))
        .cte("claimed")
    )
    return (
        sa.select(claimed, session.c.id_tag)
        .join_from(
            claimed,
            session,
            sa.and_(session.c.steve_id == claimed.c.steve_id, session.c.transaction_pk == claimed.c.transaction_pk),
        )
        .order_by(claimed.c.steve_id, claimed.c.transaction_pk, claimed.c.seq)
    )


_LOCKED: Final = (
    sa.select(session.c.transaction_pk)
    .join_from(session, _WANTED, sa.and_(*(session.c[name] == _WANTED.c[name] for name in _SESSION)))
    .order_by(session.c.steve_id, session.c.transaction_pk)
    .with_for_update(of=session)
    .cte("locked")
)
_LOCK: Final = sa.select(sa.func.count()).select_from(_LOCKED)


async def _lock(tx: Write, wanted: Mapping[str, str]) -> None:
    """Whoever decides about these sessions comes before or after, and is seen: what is said of a session by its entries
    is said by all of them. Always in this order.
    """
    await tx.execute(_LOCK, wanted)


async def finish(tx: Write, entries: Sequence[Entry], **values: Any) -> list[Entry]:  # noqa: ANN401 - the row's columns
    """End this attempt with `values`; returns those that were still this attempt's.

    A claim whose lease ran out may have been taken by another replica, which is then the one to speak.
    """
    if not entries:
        return []
    statement = (
        sa.update(entry)
        .where(
            *(column == _MINE.c[column.name] for column in KEY),
            entry.c.attempts == _MINE.c.attempts,
            entry.c.state == "sending",
        )
        .values(**values)
        .returning(*KEY)
    )
    ended = {tuple(row) for row in await tx.execute(statement, _mine(entries))}
    return [one for one in entries if one.key in ended]


async def put_off(
    tx: Write,
    entries: Sequence[Entry],
    *,
    due_at: datetime,
    why: str,
    asked: bool,
    failed_at: datetime | None,
    blamed: bool,
) -> None:
    """End this attempt, and try again at `due_at`. `asked`: Lago was, and failed; `failed_at`: it answered a server
    error; `blamed`: to this one.
    """
    errors: dict[str, Any] = {"server_errors": 0, "failing_since": None} if asked else {}
    if failed_at is not None:
        errors = {"server_errors": entry.c.server_errors + int(blamed)}
        errors["failing_since"] = sa.func.coalesce(entry.c.failing_since, failed_at)
    put_offs = entry.c.put_offs + int(asked)
    await finish(tx, entries, state="sending", due_at=due_at, last_error=why, put_offs=put_offs, **errors)


async def mark_counted(tx: Write, entries: Sequence[Entry], at: datetime) -> list[Entry]:
    """Lago counts these; a session of which it counts all is counted. Returns those that were not counted before."""
    if not entries:
        return []
    statement = (
        sa.update(entry)
        .where(*(column == _MINE.c[column.name] for column in KEY), entry.c.state == "delivered")
        .values(state="counted", counted_at=at)
        .returning(*KEY)
    )
    ended = {tuple(row) for row in await tx.execute(statement, _mine(entries))}
    counted = [one for one in entries if one.key in ended]
    if counted:
        wanted = _wanted({(one.steve_id, one.transaction_pk) for one in counted})
        await _lock(tx, wanted)
        await tx.execute(_COUNTED, wanted)
    return counted


# Those of these sessions all of whose entries are delivered, since when, and whether Lago counts them all.
_DONE: Final = (
    sa.select(
        entry.c.steve_id,
        entry.c.transaction_pk,
        sa.func.max(entry.c.delivered_at).label("delivered_at"),
        sa.func.bool_and(entry.c.state == "counted").label("all_counted"),
    )
    .join_from(_WANTED, entry, sa.and_(*(entry.c[name] == _WANTED.c[name] for name in _SESSION)))
    .group_by(entry.c.steve_id, entry.c.transaction_pk)
    .having(sa.not_(sa.func.bool_or(entry.c.state.in_(UNSENT))))
    .cte("done")
)
_COUNTED: Final = (
    sa.update(session)
    .where(*(session.c[name] == _DONE.c[name] for name in _SESSION), session.c.billing == "synced", _DONE.c.all_counted)
    .values(billing="counted")
)
_BILLED: Final = (
    sa.update(session)
    .where(
        *(session.c[name] == _DONE.c[name] for name in _SESSION),
        session.c.billing == "pending",
        session.c.settle_at.is_(None),
    )
    .values(billing=sa.case((_DONE.c.all_counted, "counted"), else_="synced"), billed_at=_DONE.c.delivered_at)
)


async def look_again(
    tx: Write, entries: Sequence[Entry], now: datetime, *, first: timedelta, longest: timedelta
) -> None:
    """Put the next look off, twice as long each time."""
    if not entries:
        return
    pause = sa.func.least(first * sa.func.power(2, sa.func.least(entry.c.looked_for, 16)), longest)
    await tx.execute(
        sa.update(entry)
        .where(*(column == _MINE.c[column.name] for column in KEY), entry.c.state == "delivered")
        .values(looked_for=entry.c.looked_for + 1, due_at=now + pause),
        _mine(entries),
    )


async def mark_billed(tx: Write, sessions: Collection[Key]) -> None:
    """Sessions with nothing left to decide or deliver are synced, or counted where Lago counts them already."""
    if not sessions:
        return
    wanted = _wanted(sessions)
    await _lock(tx, wanted)
    await tx.execute(_BILLED, wanted)


def _first_held(column: sa.Column[Any]) -> sa.ScalarSelect[Any]:
    """Of a session's held entries, that of the first one: a session is held for the reason that it says."""
    mine = (entry.c[name] == session.c[name] for name in _SESSION)
    return (
        sa.select(column)
        .where(*mine, entry.c.state == "held")
        .order_by(entry.c.seq)
        .limit(1)
        .correlate(session)
        .scalar_subquery()
    )


async def hold_sessions(
    tx: Write, entries: Sequence[Entry], *, reason: str, explanation: str, at: datetime
) -> dict[Key, tuple[str, str]]:
    """Hold the sessions of entries that are held since now, but for those that somebody ignored; returns which, and
    for what: the entry before this one may be held for another reason.

    What is to be decided about them stays so.
    """
    if not entries:
        return {}
    wanted = _wanted({(one.steve_id, one.transaction_pk) for one in entries})
    await _lock(tx, wanted)
    held = await tx.execute(
        sa.update(session)
        .where(*(session.c[name] == _WANTED.c[name] for name in _SESSION), session.c.ignored_wh.is_(None))
        .values(
            billing="held",
            hold_reason=_first_held(entry.c.hold_reason),
            hold_explanation=sa.func.coalesce(_first_held(entry.c.last_error), explanation),
            held_at=sa.case((session.c.hold_reason == _first_held(entry.c.hold_reason), session.c.held_at), else_=at),
        )
        .returning(session.c.steve_id, session.c.transaction_pk, session.c.hold_reason, session.c.hold_explanation),
        wanted,
    )
    # What would take back some of it waits with it. It is not on its way: see `claim`.
    await tx.execute(
        sa.update(entry)
        .where(
            *(entry.c[name] == _MINE.c[name] for name in _SESSION),
            entry.c.seq > _MINE.c.seq,
            entry.c.to_wh < entry.c.from_wh,
            entry.c.state == "pending",
        )
        .values(state="held", hold_reason=reason, last_error=explanation),
        _mine(entries),
    )
    return {(row.steve_id, row.transaction_pk): (row.hold_reason, row.hold_explanation) for row in held}


async def take_back(tx: Write, steve_id: str, pk: int) -> bool:
    """Delete a session's last entries, those that are held for being late: it is known that Lago has none of them.
    False where the last one is no such entry, or another one would stay held: its session is so, too.
    """
    mine = sa.and_(entry.c.steve_id == steve_id, entry.c.transaction_pk == pk)
    other, stays = entry.alias("other"), entry.alias("stays")
    kept = (
        sa.select(sa.func.coalesce(sa.func.max(other.c.seq), 0))
        .where(
            other.c.steve_id == steve_id,
            other.c.transaction_pk == pk,
            other.c.hold_reason.is_distinct_from("late"),
        )
        .scalar_subquery()
    )
    some_stay = sa.exists().where(
        stays.c.steve_id == steve_id, stays.c.transaction_pk == pk, stays.c.state == "held", stays.c.seq <= kept
    )
    deleted = await tx.execute(sa.delete(entry).where(mine, entry.c.seq > kept, sa.not_(some_stay)))
    return deleted.rowcount > 0


async def end_of_chain(tx: Read, steve_id: str, pk: int) -> tuple[int, int | None]:
    """The last entry's number and reading; 0 and None where there is none."""
    statement = (
        sa.select(entry.c.seq, entry.c.to_wh)
        .where(entry.c.steve_id == steve_id, entry.c.transaction_pk == pk)
        .order_by(entry.c.seq.desc())
        .limit(1)
    )
    row = (await tx.execute(statement)).first()
    return (int(row.seq), int(row.to_wh)) if row is not None else (0, None)


async def waiting(tx: Read) -> tuple[int, datetime | None]:
    """How many entries are not delivered, and the time of the next attempt."""
    statement = sa.select(sa.func.count(), sa.func.min(entry.c.due_at)).where(entry.c.state.in_(["pending", "sending"]))
    row = (await tx.execute(statement)).one()
    return int(row[0]), row[1]
