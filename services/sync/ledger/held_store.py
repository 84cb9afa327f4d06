"""All SQL about the held queue."""

from collections import defaultdict
from collections.abc import Collection
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from services.sync.lago.rules import Metric
from services.sync.lago.tables import subscription
from services.sync.ledger.rules import METRIC_CHANGED
from services.sync.ledger.store import CLAIMED, Entry
from services.sync.ledger.tables import entry
from services.sync.sessions.rules import unbilled
from services.sync.sessions.store import NOT_PUT_OFF, viewed
from services.sync.sessions.tables import session
from shared.contracts.request import MAX_ROWS
from shared.contracts.requests.sync_work import SearchHeld
from shared.database.engine import Read, Write

Key = tuple[str, int]
NOT_HELD: Final = {"hold_reason": None, "hold_explanation": None, "held_at": None}

_KEY = sa.tuple_(session.c.steve_id, session.c.transaction_pk)
_ENTRY_KEY = sa.tuple_(entry.c.steve_id, entry.c.transaction_pk)
_UNBILLED = sa.case((session.c.stopped_at.is_(None), unbilled(stopped=False)), else_=unbilled(stopped=True))
# What waits: the whole use, less what is billed. A held entry is not, though the chain has reached its end.
_UNSENT = (
    sa.select(sa.func.coalesce(sa.func.sum(entry.c.to_wh - entry.c.from_wh), 0))
    .where(
        entry.c.steve_id == session.c.steve_id,
        entry.c.transaction_pk == session.c.transaction_pk,
        entry.c.state == "held",
    )
    .correlate(session)
    .scalar_subquery()
)
_HAS_HELD_ENTRIES = sa.exists().where(
    entry.c.steve_id == session.c.steve_id,
    entry.c.transaction_pk == session.c.transaction_pk,
    entry.c.state == "held",
)
WAITING_WH = (
    sa.func.coalesce(session.c.stop_wh - sa.func.coalesce(session.c.billed_wh, session.c.start_wh), 0) + _UNSENT
)
# Lago's price is in the currency's unit and per kWh: Wh * price / 10 is cents.
_CENTS = sa.func.round(sa.cast(WAITING_WH, sa.Numeric) * subscription.c.unit_price / 10)


def _those(keys: Collection[Key]) -> sa.Select[tuple[str, int]]:
    """These keys as a table, in two parameters however many they are."""
    steve_ids, pks = zip(*sorted(keys), strict=True) if keys else ((), ())
    return sa.select(
        sa.func.unnest(sa.cast(list(steve_ids), sa.ARRAY(sa.Text))),
        sa.func.unnest(sa.cast(list(pks), sa.ARRAY(sa.BigInteger))),
    )


async def search(tx: Read, request: SearchHeld, *, after: tuple[datetime, int] | None) -> list[sa.Row[Any]]:
    """Held sessions as `sessions.store.view` needs them, with waiting_wh, cents and currency; longest held first."""
    statement = (
        viewed()
        .add_columns(WAITING_WH.label("waiting_wh"), _CENTS.label("cents"), subscription.c.currency)
        .outerjoin(subscription, subscription.c.external_subscription_id == session.c.owner_subscription)
        .where(session.c.billing == "held")
        .order_by(session.c.held_at, session.c.transaction_pk)
        .limit(request.limit)
    )
    exact = {
        session.c.hold_reason: request.reason,
        session.c.id_tag: request.id_tag,
        session.c.charge_box_id: request.charge_box_id,
    }
    for column, wanted in exact.items():
        if wanted is not None:
            statement = statement.where(column == wanted)
    if after is not None:
        position = sa.tuple_(session.c.held_at, session.c.transaction_pk)
        statement = statement.where(position > sa.tuple_(*map(sa.literal, after)))
    return list((await tx.execute(statement)).all())


async def classes(tx: Read) -> list[sa.Row[Any]]:
    """The whole queue by reason, the fullest first."""
    count = sa.func.count()
    statement = (
        sa.select(
            session.c.hold_reason.label("reason"),
            count.label("count"),
            sa.func.sum(WAITING_WH).label("energy_wh"),
            sa.func.min(session.c.held_at).label("oldest_at"),
        )
        .where(session.c.billing == "held")
        .group_by(session.c.hold_reason)
        .order_by(count.desc(), session.c.hold_reason)
    )
    return list((await tx.execute(statement)).all())


async def amounts(tx: Read) -> defaultdict[str, dict[str, int]]:
    """What waits for each reason in each currency, in cents."""
    statement = (
        sa.select(session.c.hold_reason, subscription.c.currency, sa.func.sum(_CENTS))
        .join_from(session, subscription, subscription.c.external_subscription_id == session.c.owner_subscription)
        .where(
            session.c.billing == "held", subscription.c.unit_price.is_not(None), subscription.c.currency.is_not(None)
        )
        .group_by(session.c.hold_reason, subscription.c.currency)
    )
    found: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for reason, currency, cents in await tx.execute(statement):
        found[reason][currency] = int(cents)
    return found


async def locked(tx: Write, keys: Collection[Key]) -> dict[Key, sa.Row[Any]]:
    """These sessions, locked, with `waiting_wh` and whether entries of theirs are held."""
    statement = (
        sa.select(session, WAITING_WH.label("waiting_wh"), _HAS_HELD_ENTRIES.label("has_held_entries"))
        .where(_KEY.in_(_those(keys)))
        .order_by(session.c.steve_id, session.c.transaction_pk)
        .with_for_update(of=session)
    )
    return {(row.steve_id, row.transaction_pk): row for row in await tx.execute(statement)}


def _class(reason: str | None) -> sa.ColumnElement[bool]:
    """Held for this reason, or for any."""
    is_held = session.c.billing == "held"
    return is_held if reason is None else sa.and_(is_held, session.c.hold_reason == reason)


async def keys_of_class(tx: Read, reason: str | None) -> list[Key]:
    """All of them, longest held first."""
    statement = (
        sa.select(session.c.steve_id, session.c.transaction_pk)
        .where(_class(reason))
        .order_by(session.c.held_at, session.c.transaction_pk)
    )
    return [(row.steve_id, row.transaction_pk) for row in await tx.execute(statement)]


async def retry(tx: Write, keys: Collection[Key], at: datetime) -> None:
    """Have these sessions, which are locked, decided again at `at`; one that was ignored is so no longer."""
    billing = sa.case((session.c.billing == "ignored", _UNBILLED), else_=session.c.billing)
    await tx.execute(
        sa.update(session)
        .where(_KEY.in_(_those(keys)))
        .values(billing=billing, ignored_wh=None, settle_at=at, **NOT_PUT_OFF)
    )


async def retry_class(tx: Write, reason: str | None, at: datetime) -> tuple[int, list[Key]]:
    """Have a whole class decided again at `at`, however many there are; returns how many, and the first ones."""
    taken = (
        sa.select(session.c.steve_id, session.c.transaction_pk)
        .where(_class(reason))
        .order_by(session.c.steve_id, session.c.transaction_pk)
        .with_for_update()
        .cte("taken")
    )
    done = (
        sa.update(session)
        .where(session.c.steve_id == taken.c.steve_id, session.c.transaction_pk == taken.c.transaction_pk)
        .values(settle_at=at, **NOT_PUT_OFF)
        .returning(session.c.steve_id, session.c.transaction_pk)
        .cte("done")
    )
    statement = sa.select(done, sa.func.count().over().label("in_all")).order_by(*done.c).limit(MAX_ROWS)
    rows = (await tx.execute(statement)).all()
    return rows[0].in_all if rows else 0, [(row.steve_id, row.transaction_pk) for row in rows]


async def stuck(tx: Write, reason: str | None, *, limit: int) -> list[sa.Row[Any]]:
    """Some of a class that have held entries, as `locked` gives them. What was ignored is sent by its name only."""
    statement = (
        sa.select(session.c.steve_id, session.c.transaction_pk)
        .where(_class(reason), _HAS_HELD_ENTRIES, session.c.ignored_wh.is_(None))
        .order_by(session.c.steve_id, session.c.transaction_pk)
        .limit(limit)
    )
    keys = [(row.steve_id, row.transaction_pk) for row in await tx.execute(statement)]
    return list((await locked(tx, keys)).values()) if keys else []


async def update(tx: Write, key: Key, **values: Any) -> None:  # noqa: ANN401 - the row's columns
    await tx.execute(
        sa.update(session).where(session.c.steve_id == key[0], session.c.transaction_pk == key[1]).values(**values)
    )


async def send_held(tx: Write, keys: Collection[Key], at: datetime) -> None:
    """Have the held entries of these sessions tried again, unchanged. The sessions are held no longer."""
    mine = _ENTRY_KEY.in_(_those(keys))
    await tx.execute(
        sa.update(entry)
        .where(mine, entry.c.state == "held")
        .values(state="pending", hold_reason=None, due_at=at, put_offs=0, server_errors=0, failing_since=None)
    )
    await tx.execute(sa.update(session).where(_KEY.in_(_those(keys))).values(billing=_UNBILLED, **NOT_HELD))


_SENT = ("delivered", "counted")


async def sent(tx: Read, keys: Collection[Key], *, before: datetime) -> list[Entry]:
    """What of these sessions was delivered before that moment."""
    statement = (
        sa.select(*(entry.c[name] for name in CLAIMED))
        .where(
            _ENTRY_KEY.in_(_those(keys)),
            entry.c.state.in_(_SENT),
            entry.c.delivered_at < before,
        )
        .order_by(entry.c.steve_id, entry.c.transaction_pk, entry.c.seq)
    )
    return [Entry(*row) for row in await tx.execute(statement)]


async def may_be_remade(tx: Read, keys: Collection[Key]) -> list[Entry]:
    """What of these sessions is held for being late, or because the metric was changed."""
    statement = sa.select(*(entry.c[name] for name in CLAIMED)).where(
        _ENTRY_KEY.in_(_those(keys)), entry.c.hold_reason.in_(("late", METRIC_CHANGED))
    )
    return [Entry(*row) for row in await tx.execute(statement)]


async def remake(tx: Write, key: Key, metric: Metric) -> bool:
    """Make for this metric those of its entries that are held because it was changed. Not where one of them takes
    something back, and something was sent for another metric: that may be what it takes back.
    """
    less, sent = entry.alias("less"), entry.alias("sent")

    def of(one: sa.FromClause) -> sa.ColumnElement[bool]:
        return sa.and_(one.c.steve_id == key[0], one.c.transaction_pk == key[1])

    takes_back = sa.exists().where(of(less), less.c.hold_reason == METRIC_CHANGED, less.c.to_wh < less.c.from_wh)
    another = sa.or_(*(sent.c[name] != value for name, value in metric._asdict().items()))
    from_another = sa.exists().where(of(sent), sent.c.state.in_(_SENT), another)
    result = await tx.execute(
        sa.update(entry)
        .where(of(entry), entry.c.hold_reason == METRIC_CHANGED, sa.not_(sa.and_(takes_back, from_another)))
        .values(**metric._asdict())
    )
    return result.rowcount > 0


async def send_again(tx: Write, key: Key, seqs: Collection[int], at: datetime) -> int:
    """Have sent entries sent once more, unchanged and under their ids; returns how many there were."""
    result = await tx.execute(
        sa.update(entry)
        .where(
            entry.c.steve_id == key[0],
            entry.c.transaction_pk == key[1],
            entry.c.seq.in_(sorted(seqs)),
            entry.c.state.in_(_SENT),
        )
        .values(
            state="pending",
            due_at=at,
            put_offs=0,
            server_errors=0,
            failing_since=None,
            delivered_at=None,
            delivered_by=None,
            counted_at=None,
            looked_for=0,
        )
    )
    return result.rowcount
