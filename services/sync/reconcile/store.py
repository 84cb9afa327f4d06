"""All SQL about reconciliation."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from services.sync.clocks import AHEAD
from services.sync.lago.tables import subscription
from services.sync.ledger.tables import entry
from services.sync.metadata import SCHEMA
from services.sync.reconcile.rules import Span
from services.sync.reconcile.tables import event_error, result, subject
from services.sync.sessions.tables import session
from shared.database.engine import Read, Write

Key = tuple[str, int]

_WH = entry.c.to_wh - entry.c.from_wh
_ENTRY_KEY = (entry.c.steve_id, entry.c.transaction_pk)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A subscription to compare now; `attempts` told nothing before."""

    external_subscription_id: str
    claims: int
    attempts: int
    period_from: datetime | None
    period_to: datetime | None


async def entries_in(tx: Read, subscription_id: str, span: Span) -> list[Any]:
    """The ledger's entries of a subscription that are stamped in a span, with what Lago objected to."""
    statement = (
        sa.select(
            *_ENTRY_KEY,
            entry.c.usage_event_id,
            entry.c.external_customer_id,
            _WH.label("wh"),
            entry.c.timestamp,
            entry.c.code,
            entry.c.property_name,
            entry.c.state,
            entry.c.created_at,
            entry.c.delivered_at,
            event_error.c.problem,
        )
        .select_from(entry.outerjoin(event_error, event_error.c.usage_event_id == entry.c.usage_event_id))
        .where(entry.c.external_subscription_id == subscription_id, entry.c.timestamp.between(span.start, span.end))
        .order_by(entry.c.timestamp, entry.c.usage_event_id)
    )
    return list((await tx.execute(statement)).all())


async def sessions_in(tx: Read, subscription_id: str, span: Span, keys: Collection[Key]) -> list[sa.Row[Any]]:
    """The sessions under these keys and those of this owner that ended in the span, with `ledger_wh`, what all their
    entries make, and `held_entries_wh`, what those make that are held.
    """
    mine = sa.and_(entry.c.steve_id == session.c.steve_id, entry.c.transaction_pk == session.c.transaction_pk)
    total = sa.select(sa.func.coalesce(sa.func.sum(_WH), 0)).where(mine).correlate(session)
    ended = sa.select(session.c.steve_id, session.c.transaction_pk).where(
        session.c.owner_subscription == subscription_id, session.c.stopped_at.between(span.start, span.end)
    )
    given = sa.select(
        sa.func.unnest(sa.cast([one[0] for one in keys], sa.ARRAY(sa.Text))),
        sa.func.unnest(sa.cast([one[1] for one in keys], sa.ARRAY(sa.BigInteger))),
    )
    wanted = ended.union(given).cte("wanted")
    columns = list(wanted.c)
    statement = (
        sa.select(
            session,
            total.scalar_subquery().label("ledger_wh"),
            total.where(entry.c.state == "held").scalar_subquery().label("held_entries_wh"),
        )
        .join_from(
            session,
            wanted,
            sa.and_(session.c.steve_id == columns[0], session.c.transaction_pk == columns[1]),
        )
        .order_by(session.c.started_at, session.c.transaction_pk)
    )
    return list((await tx.execute(statement)).all())


async def elsewhere(tx: Read, usage_event_ids: Collection[str]) -> list[Any]:
    """Where the ledger has these usage events."""
    statement = sa.select(
        *_ENTRY_KEY,
        entry.c.usage_event_id,
        entry.c.external_subscription_id,
        entry.c.timestamp,
        entry.c.code,
        _WH.label("wh"),
    ).where(entry.c.usage_event_id == sa.any_(sa.cast(sorted(usage_event_ids), sa.ARRAY(sa.Text))))
    return list((await tx.execute(statement)).all())


async def periods(tx: Read, usage_event_ids: Collection[str]) -> dict[str, datetime]:
    """When the billing periods end that these usage events of the ledger's are stamped in, where that is known."""
    statement = sa.select(entry.c.usage_event_id, entry.c.period_to).where(
        entry.c.usage_event_id == sa.any_(sa.cast(sorted(usage_event_ids), sa.ARRAY(sa.Text))),
        entry.c.period_to.is_not(None),
    )
    return {row.usage_event_id: row.period_to for row in await tx.execute(statement)}


async def customer_of(tx: Read, subscription_id: str, *, until: datetime | None = None) -> str | None:
    """Whose it is, or was at `until`: as the ledger had billed it last, else as a session's owner; None: nothing was
    ever billed to it.
    """
    billed = (
        sa.select(entry.c.external_customer_id)
        .where(entry.c.external_subscription_id == subscription_id)
        .order_by(entry.c.timestamp.desc())
        .limit(1)
    )
    owned = sa.select(session.c.owner_customer).where(session.c.owner_subscription == subscription_id).limit(1)
    then = [billed.where(entry.c.timestamp <= until)] if until is not None else []
    for statement in (*then, billed, owned):
        found: str | None = (await tx.execute(statement)).scalar()
        if found is not None:
            return found
    return None


async def believed(tx: Read, subscription_id: str) -> sa.Row[Any] | None:
    """What Lago last said about the subscription."""
    statement = sa.select(subscription).where(subscription.c.external_subscription_id == subscription_id)
    return (await tx.execute(statement)).first()


async def stamped(
    tx: Read, subscription_id: str, *, since: datetime | None = None, before: datetime | None = None
) -> tuple[datetime, datetime] | None:
    """The first and the last time for which something was billed to a subscription, after `since` and before `before`
    where they are given.
    """
    statement = sa.select(sa.func.min(entry.c.timestamp), sa.func.max(entry.c.timestamp)).where(
        entry.c.external_subscription_id == subscription_id,
        *([entry.c.timestamp > since] if since is not None else []),
        *([entry.c.timestamp < before] if before is not None else []),
    )
    first, last = (await tx.execute(statement)).one()
    return (first, last) if first is not None else None


async def report_errors(tx: Write, problems: Mapping[str, str], at: datetime) -> set[str]:
    """Lago objects to these usage events: those of ours are read back and compared soon; returns whose they are."""
    rows = await elsewhere(tx, problems)
    if not rows:
        return set()
    values = [
        {"usage_event_id": row.usage_event_id, "problem": problems[row.usage_event_id], "reported_at": at}
        for row in rows
    ]
    statement = insert(event_error)
    await tx.execute(
        statement.on_conflict_do_update(
            index_elements=[event_error.c.usage_event_id],
            set_={"problem": statement.excluded.problem, "reported_at": at},
        ),
        values,
    )
    ids = [row.usage_event_id for row in rows]
    await tx.execute(
        sa.update(entry).where(entry.c.usage_event_id.in_(ids), entry.c.state == "delivered").values(due_at=at)
    )
    concerned = {row.external_subscription_id for row in rows}
    await make_due(tx, concerned, at)
    return concerned


async def forget_errors(tx: Write, usage_event_ids: Collection[str], *, before: datetime) -> None:
    """Lago counts these by now: what it objected to until then is over."""
    mine = event_error.c.usage_event_id == sa.any_(sa.cast(sorted(usage_event_ids), sa.ARRAY(sa.Text)))
    await tx.execute(sa.delete(event_error).where(mine, event_error.c.reported_at < before))


async def make_due(tx: Write, subscriptions: Collection[str], at: datetime) -> None:
    """Have these compared now."""
    statement = insert(subject)
    values = [{"external_subscription_id": one, "due_at": at} for one in sorted(subscriptions)]
    await tx.execute(
        statement.on_conflict_do_update(
            index_elements=[subject.c.external_subscription_id],
            # One more claim: a comparison under way has not seen what is new.
            set_={"due_at": at, "attempts": 0, "claims": subject.c.claims + 1},
        ),
        values,
    )


# A few steps through an index instead of all of a table.
_FIND = """
WITH RECURSIVE found AS (
    (SELECT {column} AS id FROM {table} WHERE {column} IS NOT NULL ORDER BY {column} LIMIT 1)
    UNION ALL
    SELECT (SELECT {column} FROM {table} WHERE {column} > found.id ORDER BY {column} LIMIT 1)
    FROM found WHERE found.id IS NOT NULL
)
INSERT INTO reconcile_subject (external_subscription_id, due_at)
SELECT id, CAST(:due_at AS timestamptz) FROM found WHERE id IS NOT NULL
ON CONFLICT DO NOTHING
"""


async def find_subjects(tx: Write, due_at: datetime) -> int:
    """Add the subscriptions that were billed or are to be, and are not among the subjects; returns how many."""
    added = 0
    for table, column in (("ledger_entry", "external_subscription_id"), ("session", "owner_subscription")):
        statement = sa.text(_FIND.format(table=table, column=column))
        added += (await tx.execute(statement, {"due_at": due_at})).rowcount
    return added


async def claim(tx: Write, now: datetime, *, limit: int, lease: timedelta) -> list[Claimed]:
    """Take subscriptions whose time has come. Until the lease ends nobody else takes them; then they are due again."""
    taken = (
        sa.select(subject.c.external_subscription_id)
        .where(subject.c.due_at <= now)
        .order_by(subject.c.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("taken")
    )
    statement = (
        sa.update(subject)
        .where(subject.c.external_subscription_id == taken.c.external_subscription_id)
        .values(due_at=now + lease, claims=subject.c.claims + 1)
        .returning(*subject.c)
    )
    return [
        Claimed(row.external_subscription_id, row.claims, row.attempts, row.period_from, row.period_to)
        for row in await tx.execute(statement)
    ]


async def finish(tx: Write, one: Claimed, **values: Any) -> None:  # noqa: ANN401 - the row's columns
    """End this turn, unless another one has begun since."""
    await tx.execute(
        sa.update(subject)
        .where(subject.c.external_subscription_id == one.external_subscription_id, subject.c.claims == one.claims)
        .values(**values)
    )


async def keep(tx: Write, values: Mapping[str, Any], now: datetime) -> bool:
    """Keep the newest result of a subscription's period; returns whether its differences have not been told yet.

    A comparison that began earlier and took longer than the one that is kept says nothing new, unless that one is
    still to come: a clock that was ahead told it.
    """
    name = f"{SCHEMA}.reconcile.{values['external_subscription_id']}"
    # Two that compare at once tell a difference once.
    await tx.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": name})
    key = [result.c.external_subscription_id, result.c.period_from]
    key_names = {column.name for column in key}
    mine = sa.and_(*(column == values[column.name] for column in key))
    before = (await tx.execute(sa.select(result.c.told, result.c.checked_at).where(mine))).first()
    if before is not None and values["checked_at"] < before.checked_at <= now + AHEAD:
        return False
    statement = insert(result).values(**values)
    changed = {column: statement.excluded[column] for column in values if column not in key_names}
    await tx.execute(statement.on_conflict_do_update(index_elements=key, set_=changed))
    return values["told"] is not None and (before is None or values["told"] != before.told)


async def results(
    tx: Read, *, subscription_id: str | None, differing: bool, after: tuple[str, datetime] | None, limit: int
) -> list[sa.Row[Any]]:
    """Kept results by subscription, the newest period first."""
    statement = sa.select(result).order_by(result.c.external_subscription_id, result.c.period_from.desc()).limit(limit)
    if subscription_id is not None:
        statement = statement.where(result.c.external_subscription_id == subscription_id)
    if differing:
        statement = statement.where(sa.not_(result.c.equal))
    if after is not None:
        last, period = after
        statement = statement.where(
            sa.or_(
                result.c.external_subscription_id > last,
                sa.and_(result.c.external_subscription_id == last, result.c.period_from < period),
            )
        )
    return list((await tx.execute(statement)).all())


async def differing_before(tx: Read, subscription_id: str, before: datetime, *, limit: int) -> list[Any]:
    """Periods that began before and do not add up, as they were compared last, the longest ago first."""
    statement = (
        sa.select(result)
        .where(
            result.c.external_subscription_id == subscription_id,
            sa.not_(result.c.equal),
            result.c.period_from < before,
        )
        .order_by(result.c.checked_at)
        .limit(limit)
    )
    return list((await tx.execute(statement)).all())


async def subjects(tx: Read, *, after: str, limit: int) -> list[str]:
    statement = (
        sa.select(subject.c.external_subscription_id)
        .where(subject.c.external_subscription_id > after)
        .order_by(subject.c.external_subscription_id)
        .limit(limit)
    )
    return list((await tx.execute(statement)).scalars())


async def differing(tx: Read) -> int:
    """How many periods do not add up, as they were compared last."""
    found = await tx.execute(sa.select(sa.func.count()).select_from(result).where(sa.not_(result.c.equal)))
    return int(found.scalar_one())
