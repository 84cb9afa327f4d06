"""All SQL about links."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

import sqlalchemy as sa

from services.sync.cards.tables import card, card_parent
from services.sync.links.rules import Link, Parent
from services.sync.links.tables import link
from shared.database.engine import Read, Write


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
    statement = sa.select(
        family.c.id_tag,
        link.c.external_customer_id,
        link.c.external_subscription_id,
        link.c.valid_from,
        link.c.valid_to,
    ).join_from(family, link, link.c.card_pk == family.c.pk)
    for row in await tx.execute(statement):
        one = Link(row.external_customer_id, row.external_subscription_id, row.valid_from, row.valid_to)
        found.links.setdefault(row.id_tag, []).append(one)
    above_them = sa.select(
        family.c.id_tag, card_parent.c.parent_id_tag, card_parent.c.valid_from, card_parent.c.valid_to
    ).join_from(family, card_parent, card_parent.c.card_pk == family.c.pk)
    for one_above in await tx.execute(above_them):
        parents = found.parents.setdefault(one_above.id_tag, [])
        parents.append(Parent(one_above.parent_id_tag, one_above.valid_from, one_above.valid_to))
    return found


async def of_card(tx: Read, card_pk: int) -> list[sa.Row[tuple[object, ...]]]:
    """A card's links, newest first."""
    statement = sa.select(link).where(link.c.card_pk == card_pk).order_by(link.c.valid_from.desc())
    return list((await tx.execute(statement)).all())


async def add(
    tx: Write,
    *,
    card_pk: int,
    external_customer_id: str,
    external_subscription_id: str,
    valid_from: datetime,
    valid_to: datetime | None,
    by: str,
    at: datetime,
) -> None:
    """:raises sqlalchemy.exc.IntegrityError: it would overlap another link of the card."""
    await tx.execute(
        sa.insert(link).values(
            card_pk=card_pk,
            external_customer_id=external_customer_id,
            external_subscription_id=external_subscription_id,
            valid_from=valid_from,
            valid_to=valid_to,
            linked_by=by,
            linked_at=at,
        )
    )
