"""All SQL about the ledger."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from services.sync import bulk
from services.sync.ledger.tables import entry
from services.sync.sessions.tables import session
from shared.contracts.identity import session_id
from shared.database.engine import Read, Write


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry that was claimed for delivery; `attempts` counts this one."""

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
    server_errors: int
    created_at: datetime
    id_tag: str = ""

    @property
    def key(self) -> tuple[str, int, int]:
        return self.steve_id, self.transaction_pk, self.seq

    @property
    def session(self) -> str:
        return session_id(self.steve_id, self.transaction_pk)

    @property
    def wh(self) -> int:
        return self.to_wh - self.from_wh


_CLAIMED = (
    "steve_id",
    "transaction_pk",
    "seq",
    "from_wh",
    "to_wh",
    "usage_event_id",
    "external_customer_id",
    "external_subscription_id",
    "code",
    "property_name",
    "charge_box_id",
    "timestamp",
    "final",
    "attempts",
    "server_errors",
    "created_at",
)
KEY = (entry.c.steve_id, entry.c.transaction_pk, entry.c.seq)


async def add_entries(tx: Write, values: Sequence[Mapping[str, Any]]) -> None:
    await bulk.insert(tx, entry, values)


async def claim(tx: Write, now: datetime, *, limit: int, lease: timedelta) -> list[Entry]:
    """Take entries whose time has come. Until the lease ends, nobody else takes them; then they are due again."""
    # A claim that a crash of the database forgets is a claim that was never made: the entries are sent again, under the
    # same ids. So its commit need not wait for the disk.
    await tx.execute(sa.text("SET LOCAL synchronous_commit = off"))
    due = sa.and_(entry.c.state.in_(["pending", "sending"]), entry.c.due_at <= now)
    values = {"state": "sending", "attempts": entry.c.attempts + 1, "due_at": now + lease}
    return await _take(tx, due, values, limit=limit)


async def claim_uncounted(tx: Write, now: datetime, *, limit: int, lease: timedelta) -> list[Entry]:
    """Take delivered entries that are to be looked for in Lago, and nobody else until the lease ends."""
    due = sa.and_(entry.c.state == "delivered", entry.c.due_at <= now)
    return await _take(tx, due, {"due_at": now + lease}, limit=limit)


async def _take(tx: Write, due: sa.ColumnElement[bool], values: Mapping[str, Any], *, limit: int) -> list[Entry]:
    taken = (
        sa.select(*KEY).where(due).order_by(entry.c.due_at).limit(limit).with_for_update(skip_locked=True).cte("taken")
    )
    claimed = (
        sa.update(entry)
        .where(*(column == taken.c[column.name] for column in KEY))
        .values(**values)
        .returning(*(entry.c[name] for name in _CLAIMED))
        .cte("claimed")
    )
    statement = (
        sa.select(claimed, session.c.id_tag)
        .join_from(
            claimed,
            session,
            sa.and_(session.c.steve_id == claimed.c.steve_id, session.c.transaction_pk == claimed.c.transaction_pk),
        )
        .order_by(claimed.c.steve_id, claimed.c.transaction_pk, claimed.c.seq)
    )
    return [Entry(**row._asdict()) for row in await tx.execute(statement)]


def _keys(entries: Sequence[Entry]) -> sa.Select[Any]:
    """The entries' keys as a table, in one parameter a column however many they are."""
    columns = zip(*((one.steve_id, one.transaction_pk, one.seq, one.attempts) for one in entries), strict=True)
    texts, pks, seqs, attempts = (list(column) for column in columns)
    return sa.select(
        sa.func.unnest(sa.cast(texts, sa.ARRAY(sa.Text))).label("steve_id"),
        sa.func.unnest(sa.cast(pks, sa.ARRAY(sa.BigInteger))).label("transaction_pk"),
        sa.func.unnest(sa.cast(seqs, sa.ARRAY(sa.Integer))).label("seq"),
        sa.func.unnest(sa.cast(attempts, sa.ARRAY(sa.Integer))).label("attempts"),
    )


async def finish(tx: Write, entries: Sequence[Entry], **values: Any) -> list[Entry]:  # noqa: ANN401 - the row's columns
    """End this attempt with `values`; returns those that were still this attempt's.

    A claim whose lease ran out may have been taken by another replica, which is then the one to speak.
    """
    if not entries:
        return []
    mine = _keys(entries).cte("mine")
    statement = (
        sa.update(entry)
        .where(
            *(column == mine.c[column.name] for column in KEY),
            entry.c.attempts == mine.c.attempts,
            entry.c.state == "sending",
        )
        .values(**values)
        .returning(*KEY)
    )
    ended = {tuple(row) for row in await tx.execute(statement)}
    return [one for one in entries if one.key in ended]


async def mark_counted(tx: Write, entries: Sequence[Entry], at: datetime) -> list[Entry]:
    """Lago counts these; a session of which it counts all is counted. Returns those that were not counted before."""
    if not entries:
        return []
    mine = _keys(entries).cte("mine")
    statement = (
        sa.update(entry)
        .where(*(column == mine.c[column.name] for column in KEY), entry.c.state == "delivered")
        .values(state="counted", counted_at=at)
        .returning(*KEY)
    )
    ended = {tuple(row) for row in await tx.execute(statement)}
    counted = [one for one in entries if one.key in ended]
    pks = sa.tuple_(session.c.steve_id, session.c.transaction_pk)
    waiting = sa.exists().where(
        entry.c.steve_id == session.c.steve_id,
        entry.c.transaction_pk == session.c.transaction_pk,
        entry.c.state != "counted",
    )
    if counted:
        sessions = sorted({(one.steve_id, one.transaction_pk) for one in counted})
        await tx.execute(
            sa.update(session)
            .where(pks.in_(sessions), session.c.billing == "synced", sa.not_(waiting))
            .values(billing="counted")
        )
    return counted


async def look_again(
    tx: Write, entries: Sequence[Entry], now: datetime, *, first: timedelta, longest: timedelta
) -> None:
    """Put the next look off, twice as long each time."""
    if not entries:
        return
    mine = _keys(entries).cte("mine")
    pause = sa.func.least(first * sa.func.power(2, sa.func.least(entry.c.looked_for, 16)), longest)
    await tx.execute(
        sa.update(entry)
        .where(*(column == mine.c[column.name] for column in KEY), entry.c.state == "delivered")
        .values(looked_for=entry.c.looked_for + 1, due_at=now + pause)
    )


async def mark_billed(tx: Write, sessions: Collection[tuple[str, int]], at: datetime) -> None:
    """Sessions with nothing left to decide or deliver are synced."""
    if not sessions:
        return
    pks = sa.tuple_(session.c.steve_id, session.c.transaction_pk)
    waiting = sa.exists().where(
        entry.c.steve_id == session.c.steve_id,
        entry.c.transaction_pk == session.c.transaction_pk,
        entry.c.state.in_(["pending", "sending", "held"]),
    )
    await tx.execute(
        sa.update(session)
        .where(
            pks.in_(sorted(sessions)), session.c.billing == "pending", session.c.settle_at.is_(None), sa.not_(waiting)
        )
        .values(billing="synced", billed_at=at)
    )


async def hold_sessions(
    tx: Write, sessions: Collection[tuple[str, int]], *, reason: str, explanation: str, at: datetime
) -> None:
    """Hold sessions because of an entry that cannot be delivered."""
    pks = sa.tuple_(session.c.steve_id, session.c.transaction_pk)
    await tx.execute(
        sa.update(session)
        .where(pks.in_(sorted(sessions)))
        .values(billing="held", hold_reason=reason, hold_explanation=explanation, held_at=at, settle_at=None)
    )


async def take_back(tx: Write, steve_id: str, pk: int, seq: int) -> bool:
    """Delete a session's held last entry, of which it is known that Lago has nothing; False where it is none."""
    statement = sa.delete(entry).where(
        entry.c.steve_id == steve_id, entry.c.transaction_pk == pk, entry.c.seq == seq, entry.c.state == "held"
    )
    return (await tx.execute(statement)).rowcount == 1


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
