"""All SQL about links."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from services.sync.cards.tables import card, card_parent
from services.sync.links.rules import OWNERLESS, Link, Parent
from services.sync.links.tables import link
from services.sync.sessions.tables import session
from shared.contracts.identity import session_id
from shared.database.engine import Read, Write

# An interval has a length.
SHORTEST: Final = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Ownership:
    """All there is to resolve owners of some cards: their links and parents, and their ancestors', at any time."""

    links: dict[str, list[Link]] = field(default_factory=dict)
    parents: dict[str, list[Parent]] = field(default_factory=dict)


async def ownership(tx: Read, id_tags: Collection[str]) -> Ownership:
    found = Ownership()
    if not id_tags:
        return found
    family = sa.select(card.c.pk, card.c.id_tag).where(card.c.id_tag.in_(sorted(id_tags))).cte("family", recursive=True)
    above = sa.select(card.c.pk, card.c.id_tag).join_from(
        sa.join(family, card_parent, card_parent.c.card_pk == family.c.pk),
        card,
        card.c.id_tag == card_parent.c.parent_id_tag,
    )
    # UNION drops what is there already, so a circle of parents ends.
    family = family.union(above)
    of_links = sa.select(
        family.c.id_tag,
        link.c.external_customer_id,
        link.c.external_subscription_id,
        sa.null().label("parent_id_tag"),
        link.c.valid_from,
        link.c.valid_to,
        link.c.linked_at,
    ).join_from(family, link, link.c.card_pk == family.c.pk)
    of_parents = sa.select(
        family.c.id_tag,
        sa.null(),
        sa.null(),
        card_parent.c.parent_id_tag,
        card_parent.c.valid_from,
        card_parent.c.valid_to,
        sa.null(),
    ).join_from(family, card_parent, card_parent.c.card_pk == family.c.pk)
    # In one statement: a parent that was changed between two would be known without its links.
    for row in await tx.execute(sa.union_all(of_links, of_parents)):
        if row.external_subscription_id is None:
            above_it = Parent(row.parent_id_tag, row.valid_from, row.valid_to)
            found.parents.setdefault(row.id_tag, []).append(above_it)
            continue
        one = Link(row.external_customer_id, row.external_subscription_id, row.valid_from, row.valid_to, row.linked_at)
        found.links.setdefault(row.id_tag, []).append(one)
    return found


async def of_card(tx: Read, card_pk: int) -> list[Any]:
    """A card's links, newest first."""
    statement = sa.select(link).where(link.c.card_pk == card_pk).order_by(link.c.valid_from.desc())
    return list((await tx.execute(statement)).all())


async def add(tx: Write, card_pk: int, target: tuple[str, str], since: datetime, *, by: str, at: datetime) -> int:
    """Begin a link without an end; returns its primary key. `target` is customer and subscription.

    :raises sqlalchemy.exc.IntegrityError: it would overlap another link of the card.
    """
    statement = (
        sa.insert(link)
        .values(
            card_pk=card_pk,
            external_customer_id=target[0],
            external_subscription_id=target[1],
            valid_from=since,
            valid_to=None,
            linked_by=by,
            linked_at=at,
        )
        .returning(link.c.pk)
    )
    return int((await tx.execute(statement)).scalar_one())


async def end(tx: Write, pk: int, until: datetime | None) -> None:
    """Set or lift a link's end."""
    await tx.execute(sa.update(link).where(link.c.pk == pk).values(valid_to=until))


async def remove(tx: Write, pk: int) -> None:
    """Take back a link that nobody was ever billed by."""
    await tx.execute(sa.delete(link).where(link.c.pk == pk))


async def get(tx: Read, pk: int) -> Any:  # noqa: ANN401 - a row of link, or None
    return (await tx.execute(sa.select(link).where(link.c.pk == pk))).first()


async def was_used(tx: Read, one: Any, id_tag: str) -> bool:  # noqa: ANN401 - a row of link
    """Whether a session has its owner by this link, of the card itself or of one below it: one that began under it, or
    one that a release gave this owner since it was made.
    """
    statement = sa.select(sa.literal(1)).where(
        session.c.owner_id_tag == id_tag,
        session.c.owner_subscription == one.external_subscription_id,
        sa.or_(session.c.started_at >= one.valid_from, session.c.owner_at >= one.linked_at),
    )
    return (await tx.execute(statement.limit(1))).first() is not None


async def was_used_since(
    tx: Read,
    one: Any,  # noqa: ANN401 - a row of link
    id_tag: str,
    since: datetime,
    *,
    owned_since: datetime,
) -> bool:
    """Whether a session that began at `since` or later was given its owner after `owned_since`, by this link, which
    began before.
    """
    statement = sa.select(sa.literal(1)).where(
        session.c.owner_id_tag == id_tag,
        session.c.owner_subscription == one.external_subscription_id,
        session.c.started_at >= since,
        session.c.owner_at >= owned_since,
    )
    return (await tx.execute(statement.limit(1))).first() is not None


def _goes_on(at: datetime) -> sa.ColumnElement[bool]:
    """A link that could end at `at`: it has no end, or a later one."""
    return sa.or_(link.c.valid_to.is_(None), link.c.valid_to > sa.func.greatest(at, link.c.valid_from + SHORTEST))


async def made_before(tx: Write, card_pk: int, at: datetime) -> list[Any]:
    """A card's links that were made before `at` and go on after it, locked."""
    statement = sa.select(link).where(link.c.card_pk == card_pk, link.c.linked_at <= at, _goes_on(at))
    return list((await tx.execute(statement.with_for_update())).all())


async def going_on(tx: Read, external_subscription_id: str, at: datetime) -> list[Any]:
    """Links to this subscription that go on after `at`, with their card's id_tag."""
    statement = (
        sa.select(link, card.c.id_tag)
        .join(card, card.c.pk == link.c.card_pk)
        .where(link.c.external_subscription_id == external_subscription_id, _goes_on(at))
        .order_by(link.c.card_pk)
    )
    return list((await tx.execute(statement)).all())


async def linked_subscriptions(tx: Read, at: datetime) -> list[str]:
    """All subscriptions that cards are linked to after `at`."""
    statement = sa.select(link.c.external_subscription_id).where(_goes_on(at)).distinct()
    return sorted((await tx.execute(statement)).scalars())


@dataclass(frozen=True, slots=True)
class Effect:
    """Whom a link from a time on would concern."""

    children: list[str]
    open_sessions: list[str]
    owned: int
    held: int
    held_wh: int


async def family(tx: Read, id_tag: str, at: datetime) -> list[str]:
    """The card, and those below it without a link of their own at `at` or later: whom its link concerns."""
    has_link = sa.exists().where(link.c.card_pk == card.c.pk, _goes_on(at))
    below = sa.select(card.c.id_tag).where(card.c.id_tag == id_tag).cte("below", recursive=True)
    below = below.union(
        sa.select(card.c.id_tag).join(below, card.c.parent_id_tag == below.c.id_tag).where(sa.not_(has_link))
    )
    return sorted((await tx.execute(sa.select(below.c.id_tag))).scalars())


def _held_since(since: datetime) -> sa.ColumnElement[bool]:
    return sa.and_(
        session.c.billing == "held",
        session.c.hold_reason.in_(sorted(OWNERLESS)),
        session.c.owner_subscription.is_(None),
        session.c.started_at >= since,
    )


async def held_of(tx: Read, id_tags: Collection[str], since: datetime) -> list[str]:
    """Sessions of these cards that began at or after `since` and are held for want of an owner: never had any. Oldest
    first.
    """
    statement = (
        sa.select(session.c.steve_id, session.c.transaction_pk)
        .where(session.c.id_tag.in_(sorted(id_tags)), _held_since(since))
        .order_by(session.c.started_at, session.c.transaction_pk)
    )
    return [session_id(row.steve_id, row.transaction_pk) for row in await tx.execute(statement)]


async def effect(tx: Read, id_tag: str, since: datetime, *, release_from: datetime, now: datetime) -> Effect:
    """Whom a link from `since` on would concern, what becomes of their sessions, and which could be released."""
    concerned = await family(tx, id_tag, now)
    mine = session.c.id_tag.in_(concerned)
    running = await tx.execute(
        sa.select(session.c.steve_id, session.c.transaction_pk).where(mine, session.c.stopped_at.is_(None)).limit(100)
    )
    owned = sa.and_(session.c.owner_subscription.is_not(None), session.c.started_at >= since)
    held = _held_since(release_from)
    counts = (
        await tx.execute(
            sa.select(
                sa.func.count().filter(owned),
                sa.func.count().filter(held),
                sa.func.coalesce(sa.func.sum(session.c.stop_wh - session.c.start_wh).filter(held), 0),
            ).where(mine)
        )
    ).one()
    return Effect(
        children=[one for one in concerned if one != id_tag],
        open_sessions=[session_id(row.steve_id, row.transaction_pk) for row in running],
        owned=int(counts[0]),
        held=int(counts[1]),
        held_wh=int(counts[2]),
    )
