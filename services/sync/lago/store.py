"""All SQL about subscriptions."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from services.sync.clocks import AHEAD
from services.sync.lago.rules import Subscribed
from services.sync.lago.tables import subscription
from shared.database.engine import Read, Write

# Older than any answer of Lago's that is believed.
LONG_AGO: Final = timedelta(days=365)


async def subscribed(tx: Read, ids: Collection[str]) -> dict[str, Subscribed]:
    statement = sa.select(subscription).where(subscription.c.external_subscription_id.in_(sorted(ids)))
    return {row.external_subscription_id: Subscribed(**row._asdict()) for row in await tx.execute(statement)}


async def keep_subscribed(tx: Write, answers: Sequence[Mapping[str, Any]], now: datetime) -> None:
    """Keep what Lago said. Where it knows none any more, what it said before stays, with its end, and when it first
    said so. An answer to an earlier question than that of what is kept says nothing new, unless that one is still to
    come: then a clock was ahead.
    """
    for values in sorted(answers, key=lambda one: str(one["external_subscription_id"])):
        statement = insert(subscription).values(**values)
        gone_at = sa.case((subscription.c.gone_at <= now, subscription.c.gone_at))
        ahead = subscription.c.checked_at > now + AHEAD
        await tx.execute(
            statement.on_conflict_do_update(
                index_elements=[subscription.c.external_subscription_id],
                set_={
                    **{column: statement.excluded[column] for column in values},
                    "gone_at": sa.case(
                        (statement.excluded.gone_at.is_(None), None),
                        else_=sa.func.coalesce(gone_at, statement.excluded.gone_at),
                    ),
                },
                where=sa.or_(statement.excluded.checked_at >= subscription.c.checked_at, ahead),
            )
        )


async def forget_freshness(tx: Write, ids: Collection[str], *, now: datetime, are_there: bool = False) -> None:
    """Have these asked for again before they are next believed. `are_there`: Lago has just said that it has them."""
    statement = sa.update(subscription).where(subscription.c.external_subscription_id.in_(sorted(ids)))
    there: dict[str, Any] = {"gone_at": None} if are_there else {}
    await tx.execute(statement.values(checked_at=now - LONG_AGO, **there))
