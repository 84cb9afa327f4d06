"""All SQL about webhooks."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from services.sync.lago.tables import subscription
from services.sync.sessions.store import NOT_PUT_OFF
from services.sync.sessions.tables import session
from services.sync.webhooks.tables import webhook
from shared.contracts.requests.sync import FailedWebhook
from shared.database.engine import Read, Write

Stored = Literal["new", "known", "revived", "other_body"]


@dataclass(frozen=True, slots=True)
class Claimed:
    """A webhook to act on; `attempts` counts this one."""

    unique_key: str
    webhook_type: str
    body: bytes
    attempts: int


@dataclass(frozen=True, slots=True)
class Standing:
    """How many wait and how many were given up; when the newest came."""

    waiting: int
    failed: int
    received_at: datetime | None


async def keep(tx: Write, values: Mapping[str, Any]) -> Stored:
    """Keep a webhook once per key. One that had failed and is sent again waits again; another body under a key is
    not kept.
    """
    created = await tx.execute(
        insert(webhook).values(**values).on_conflict_do_nothing().returning(webhook.c.unique_key)
    )
    if created.first() is not None:
        return "new"
    mine = webhook.c.unique_key == values["unique_key"]
    row = (await tx.execute(sa.select(webhook.c.body, webhook.c.state).where(mine))).one()
    if bytes(row.body) != values["body"]:
        return "other_body"
    if row.state != "failed":
        return "known"
    return (
        "revived"
        if await _wait_again(tx, sa.and_(mine, webhook.c.state == "failed"), values["received_at"])
        else "known"
    )


async def replay(tx: Write, keys: Collection[str], at: datetime, *, failed: bool) -> set[str]:
    """Have these, and with `failed` all that were given up, acted on again, whatever came of them; returns which."""
    which = webhook.c.unique_key.in_(sorted(keys))
    return await _wait_again(tx, sa.or_(which, webhook.c.state == "failed") if failed else which, at)


async def _wait_again(tx: Write, which: sa.ColumnElement[bool], at: datetime) -> set[str]:
    result = await tx.execute(
        sa.update(webhook)
        .where(which)
        .values(state="waiting", attempts=0, next_attempt_at=at, last_error=None, dispatched_at=None)
        .returning(webhook.c.unique_key)
    )
    return set(result.scalars())


async def claim(tx: Write, now: datetime, *, limit: int, lease: timedelta) -> list[Claimed]:
    """Take webhooks whose time has come. Until the lease ends nobody else takes them; then they are due again."""
    taken = (
        sa.select(webhook.c.unique_key)
        .where(webhook.c.state == "waiting", webhook.c.next_attempt_at <= now)
        .order_by(webhook.c.next_attempt_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("taken")
    )
    statement = (
        sa.update(webhook)
        .where(webhook.c.unique_key == taken.c.unique_key)
        .values(attempts=webhook.c.attempts + 1, next_attempt_at=now + lease)
        .returning(webhook.c.unique_key, webhook.c.webhook_type, webhook.c.body, webhook.c.attempts)
    )
    return [
        Claimed(row.unique_key, row.webhook_type, bytes(row.body), row.attempts) for row in await tx.execute(statement)
    ]


async def finish(tx: Write, one: Claimed, **values: Any) -> bool:  # noqa: ANN401 - the row's columns
    """End this attempt; False where its lease ran out and another replica has taken it."""
    result = await tx.execute(
        sa.update(webhook)
        .where(
            webhook.c.unique_key == one.unique_key,
            webhook.c.attempts == one.attempts,
            webhook.c.state == "waiting",
        )
        .values(**values)
    )
    return result.rowcount == 1


async def standing(tx: Read) -> Standing:
    statement = sa.select(
        sa.select(sa.func.count()).where(webhook.c.state == "waiting").scalar_subquery().label("waiting"),
        sa.select(sa.func.count()).where(webhook.c.state == "failed").scalar_subquery().label("failed"),
        sa.select(sa.func.max(webhook.c.received_at)).scalar_subquery().label("received_at"),
    )
    return Standing(*(await tx.execute(statement)).one())


async def newest_failed(tx: Read, *, limit: int) -> list[FailedWebhook]:
    statement = (
        sa.select(webhook.c.unique_key, webhook.c.webhook_type, webhook.c.received_at, webhook.c.last_error)
        .where(webhook.c.state == "failed")
        .order_by(webhook.c.received_at.desc())
        .limit(limit)
    )
    return [
        FailedWebhook(
            unique_key=row.unique_key,
            webhook_type=row.webhook_type,
            received_at=row.received_at,
            why=row.last_error or "",
        )
        for row in await tx.execute(statement)
    ]


async def forget(tx: Write, *, before: datetime) -> int:
    """Delete what was dealt with; what failed stays until somebody has looked at it."""
    settled = webhook.c.state.in_(["done", "ignored"])
    return (await tx.execute(sa.delete(webhook).where(settled, webhook.c.received_at < before))).rowcount


async def known(tx: Read, subscriptions: Collection[str]) -> frozenset[str]:
    """Those of these about which something is believed here. Most of a Lago's may have nothing to do with charging."""
    if not subscriptions:
        return frozenset()
    mine = subscription.c.external_subscription_id
    return frozenset((await tx.execute(sa.select(mine).where(mine.in_(sorted(subscriptions))))).scalars())


async def subscriptions_of(tx: Read, customers: Collection[str]) -> frozenset[str]:
    """The customers' subscriptions that are known here."""
    if not customers:
        return frozenset()
    statement = sa.select(subscription.c.external_subscription_id).where(
        subscription.c.external_customer_id.in_(sorted(customers))
    )
    return frozenset((await tx.execute(statement)).scalars())


async def settle_now(tx: Write, subscriptions: Collection[str], at: datetime) -> int:
    """Decide now about sessions of these that would be looked at later anyway; returns how many."""
    keys = (
        sa.select(session.c.steve_id, session.c.transaction_pk)
        .where(session.c.owner_subscription.in_(sorted(subscriptions)), session.c.settle_at > at)
        .with_for_update(skip_locked=True)
        .cte("keys")
    )
    result = await tx.execute(
        sa.update(session)
        .where(session.c.steve_id == keys.c.steve_id, session.c.transaction_pk == keys.c.transaction_pk)
        .values(settle_at=at, **NOT_PUT_OFF)
    )
    return result.rowcount
