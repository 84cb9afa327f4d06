"""What was answered to starts, and by whom: SteVe's REST tells neither."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from services.sync import bulk
from services.sync.sessions.tables import blocked_start, session, start_verdict
from shared.database.engine import Read, Write

# A session that was first seen, or began, within this time of a start is that start's.
NEAR: Final = timedelta(seconds=60)
# A session that was seen before the start is not that start's; preauth's clock and ours differ by less than this.
SKEW: Final = timedelta(seconds=5)
# Sessions that could be the same start's are not further apart than this, by a station's clock. Only there for the
# index: a card may have any number of sessions.
RIVALS: Final = timedelta(days=1)


async def keep_verdict(tx: Write, steve_id: str, pk: int, verdict: str, at: datetime) -> None:
    values = {"steve_id": steve_id, "transaction_pk": pk, "verdict": verdict, "seen_at": at}
    await tx.execute(insert(start_verdict).values(**values).on_conflict_do_nothing())


async def keep_blocked(tx: Write, steve_id: str, charge_box_id: str, id_tag: str, at: datetime) -> None:
    """Preauth had a start answered Blocked. It was told before SteVe wrote the transaction, so without its id."""
    values = {"steve_id": steve_id, "charge_box_id": charge_box_id, "id_tag": id_tag, "at": at}
    await tx.execute(insert(blocked_start).values(**values).on_conflict_do_nothing())


async def intercepted(tx: Read, steve_id: str, pks: Sequence[int]) -> set[int]:
    """Which of these sessions began with a start that preauth had answered Blocked."""
    return set((await tx.execute(_intercepted(), bulk.these(steve_id, pks))).scalars())


@cache
def _intercepted() -> sa.Select[Any]:
    """One start makes one session, the nearest to it: a driver who was blocked often tries again within the minute."""
    one, other = session.alias("one"), session.alias("other")
    nearer = (
        sa.exists()
        .where(
            _may_be(other),
            other.c.started_at.between(one.c.started_at - RIVALS, one.c.started_at + RIVALS),
            sa.tuple_(_apart_s(other), other.c.transaction_pk) < sa.tuple_(_apart_s(one), one.c.transaction_pk),
        )
        .correlate(one, blocked_start)
    )
    return sa.select(one.c.transaction_pk).where(bulk.among(one), sa.exists().where(_may_be(one), sa.not_(nearer)))


async def forget(tx: Write, *, before: datetime) -> None:
    """Delete what was answered earlier, but for sessions about which something is still to be decided by it."""
    undecided = sa.or_(session.c.billing.in_(["open", "pending", "held"]), session.c.settle_at.is_not(None))
    theirs = sa.and_(
        session.c.steve_id == start_verdict.c.steve_id, session.c.transaction_pk == start_verdict.c.transaction_pk
    )
    for table, at, belongs in (
        (start_verdict, start_verdict.c.seen_at, theirs),
        (blocked_start, blocked_start.c.at, _may_be(session)),
    ):
        await tx.execute(sa.delete(table).where(at < before, sa.not_(sa.exists().where(belongs, undecided))))


def _may_be(one: sa.FromClause) -> sa.ColumnElement[bool]:
    """Whether a session may be a blocked start's: of that card at that charger, and at that time.

    When it was first seen is by our own clock, but may be long after it began; when it began is by the station's, which
    may be wrong. A session that was uploaded late is far from the start by both.
    """
    return sa.and_(
        one.c.steve_id == blocked_start.c.steve_id,
        one.c.charge_box_id == blocked_start.c.charge_box_id,
        one.c.id_tag == blocked_start.c.id_tag,
        one.c.first_seen_at >= blocked_start.c.at - SKEW,
        _apart_s(one) <= NEAR.total_seconds(),
    )


def _apart_s(one: sa.FromClause) -> sa.ColumnElement[float]:
    """How far a session lies from a blocked start, by the clock that says less, in seconds."""
    by_clock = (
        sa.func.abs(sa.extract("epoch", moment - blocked_start.c.at))
        for moment in (one.c.first_seen_at, one.c.started_at)
    )
    return sa.func.least(*by_clock)
