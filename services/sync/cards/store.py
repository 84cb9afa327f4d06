"""All SQL about cards."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import distinct_on, insert

from services.sync.cards import rules
from services.sync.cards.problems import CardUnknown
from services.sync.cards.tables import card, card_change, card_parent, mirror
from services.sync.clocks import AHEAD
from services.sync.links.tables import link
from services.sync.metadata import SCHEMA, metadata
from shared.contracts.requests.sync import CardView, LinkView, SearchCards, SteveCard
from shared.contracts.requests.sync_cards import CardSnapshot
from shared.database.engine import Read, Write

# A parent that was there when the card was first seen counts for all of the past: nobody knows better.
BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)


async def lock_mirror(tx: Write) -> None:
    """One mirroring at a time, over all replicas."""
    await tx.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": f"{SCHEMA}.cards"})


async def rows(tx: Read, id_tags: Sequence[str] | None = None) -> dict[str, sa.Row[Any]]:
    """Cards by their key; all of them without `id_tags`."""
    statement = sa.select(card)
    if id_tags is not None:
        statement = statement.where(card.c.id_tag.in_(id_tags))
    return {row.id_tag: row for row in await tx.execute(statement)}


async def locked(tx: Write, id_tag: str) -> sa.Row[Any] | None:
    # Not against those that only refer to the card, as links and changes of it do while they are written.
    statement = sa.select(card).where(card.c.id_tag == id_tag).with_for_update(key_share=True)
    return (await tx.execute(statement)).first()


async def known(tx: Read, id_tag: str) -> sa.Row[Any]:
    """:raises CardUnknown:"""
    row = (await rows(tx, [id_tag])).get(id_tag)
    if row is None:
        raise CardUnknown(id_tag)
    return row


async def lock_card(tx: Write, id_tag: str) -> None:
    """Take a card for one command, until the transaction ends."""
    await tx.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": f"{SCHEMA}.card.{id_tag}"})


async def parents(tx: Read) -> dict[str, str | None]:
    """Each card's parent now."""
    statement = sa.select(card.c.id_tag, card.c.parent_id_tag).where(card.c.gone_at.is_(None))
    return {row.id_tag: row.parent_id_tag for row in await tx.execute(statement)}


async def change(tx: Write, change_id: UUID) -> sa.Row[Any] | None:
    """A change with its card's id_tag, locked."""
    statement = (
        sa.select(card_change, card.c.id_tag)
        .join(card, card.c.pk == card_change.c.card_pk)
        .where(card_change.c.change_id == change_id)
        .with_for_update(of=card_change)
    )
    return (await tx.execute(statement)).first()


async def mark_undone(tx: Write, change_id: UUID, *, by: UUID) -> None:
    await tx.execute(sa.update(card_change).where(card_change.c.change_id == change_id).values(undone_by=by))


async def insert_cards(tx: Write, values: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Insert; returns primary keys by id_tag."""
    if not values:
        return {}
    result = await tx.execute(insert(card).returning(card.c.id_tag, card.c.pk), values)
    return {row.id_tag: row.pk for row in result}


async def update_card(tx: Write, pk: int, values: Mapping[str, Any]) -> None:
    await tx.execute(sa.update(card).where(card.c.pk == pk).values(**values))


async def set_parent(tx: Write, card_pk: int, parent_id_tag: str | None, *, since: datetime) -> None:
    """End the parent that is valid, and begin another one. Also one whose end is still to come: a clock that was ahead
    said so.
    """
    mine = card_parent.c.card_pk == card_pk
    goes_on = sa.or_(card_parent.c.valid_to.is_(None), card_parent.c.valid_to > since)
    # An interval that would be empty is none.
    await tx.execute(sa.delete(card_parent).where(mine, card_parent.c.valid_from >= since))
    await tx.execute(sa.update(card_parent).where(mine, goes_on).values(valid_to=since))
    if parent_id_tag is not None:
        await tx.execute(
            sa.insert(card_parent).values(card_pk=card_pk, parent_id_tag=parent_id_tag, valid_from=since, valid_to=None)
        )


async def last_seen(tx: Read, row: Any, now: datetime) -> datetime:  # noqa: ANN401 - a row of card
    """Until when it is known that SteVe had this tag: when it was asked last, not when its answer had come."""
    completed_at: datetime | None = (await tx.execute(sa.select(sa.func.max(mirror.c.completed_at)))).scalar_one()
    times: list[datetime | None] = [row.mirrored_at, completed_at] if row.gone_at is None else [row.gone_at]
    # One that is still to come was told by a clock that was ahead, and says nothing.
    return max((min(at, now) for at in times if at is not None and at <= now + AHEAD), default=now)


async def completed(tx: Write, steve_id: str, at: datetime, now: datetime) -> None:
    """All tags were read, and SteVe was asked for them at `at`."""
    statement = insert(mirror).values(steve_id=steve_id, completed_at=at)
    # An answer that another replica asked for earlier may come later; one that is still to come was told by a clock
    # that was ahead.
    latest = sa.case((mirror.c.completed_at > now, at), else_=sa.func.greatest(mirror.c.completed_at, at))
    await tx.execute(statement.on_conflict_do_update(index_elements=[mirror.c.steve_id], set_={"completed_at": latest}))


async def keep_change(
    tx: Write,
    *,
    change_id: UUID,
    card_pk: int,
    kind: str,
    at: datetime,
    by: str,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
) -> None:
    await tx.execute(
        sa.insert(card_change).values(
            change_id=change_id, card_pk=card_pk, kind=kind, changed_at=at, changed_by=by, before=before, after=after
        )
    )


def _steve(row: Any) -> SteveCard | None:  # noqa: ANN401 - a row of card
    if row.gone_at is not None:
        return None
    return SteveCard(
        ocpp_tag_pk=row.ocpp_tag_pk,
        id_tag=row.id_tag_as_sent,
        parent_id_tag=row.parent_id_tag,
        max_active_transaction_count=row.max_active,
        active_transaction_count=row.active_count,
        in_transaction=row.in_transaction,
        blocked=row.max_active == 0,
        expiry=row.expiry,
        note=row.steve_note,
    )


def _view(
    row: Any,  # noqa: ANN401 - a joined row
    children: Sequence[str],
    completed_at: datetime | None,
    last_change_id: UUID | None,
    ancestors: tuple[list[str], bool],
) -> CardView:
    current = None
    if row.external_subscription_id is not None:
        current = LinkView(
            external_customer_id=row.external_customer_id,
            external_subscription_id=row.external_subscription_id,
            valid_from=row.link_from,
            valid_to=row.link_to,
            linked_by=row.linked_by,
        )
    fresh = max(row.mirrored_at, completed_at) if completed_at and row.gone_at is None else row.mirrored_at
    return CardView(
        id_tag=row.id_tag,
        id_tag_as_sent=row.id_tag_as_sent if row.id_tag_as_sent != row.id_tag else None,
        card_id=row.card_id,
        display_name=row.display_name,
        cardholder=row.cardholder,
        card_type=row.card_type,
        active=row.active,
        notes=row.notes,
        steve=_steve(row),
        mirrored_at=fresh,
        link=current,
        children=list(children),
        block_kind=row.block_kind,
        block_reason=row.block_reason,
        blocked_by=row.blocked_by,
        blocked_at=row.blocked_at,
        remembered_limit=row.remembered_limit,
        last_change_id=last_change_id,
        ancestors=ancestors[0],
        parent_cycle=ancestors[1],
    )


def _with_link(at: datetime) -> sa.Select[Any]:
    valid = sa.and_(
        link.c.card_pk == card.c.pk,
        link.c.valid_from <= at,
        sa.or_(link.c.valid_to.is_(None), link.c.valid_to > at),
    )
    return sa.select(
        card,
        link.c.external_customer_id,
        link.c.external_subscription_id,
        link.c.valid_from.label("link_from"),
        link.c.valid_to.label("link_to"),
        link.c.linked_by,
    ).select_from(card.outerjoin(link, valid))


async def _views(tx: Read, found: Iterable[Any]) -> list[CardView]:
    found = list(found)
    children: dict[str, list[str]] = {}
    statement = (
        sa.select(card.c.id_tag, card.c.parent_id_tag)
        .where(card.c.parent_id_tag.in_([row.id_tag for row in found]), card.c.gone_at.is_(None))
        .order_by(card.c.id_tag)
    )
    for row in await tx.execute(statement):
        children.setdefault(row.parent_id_tag, []).append(row.id_tag)
    completed_at = (await tx.execute(sa.select(sa.func.max(mirror.c.completed_at)))).scalar_one()
    changes = await _last_changes(tx, [row.pk for row in found])
    above = await _above(tx, [row.id_tag for row in found])
    return [
        _view(
            row,
            children.get(row.id_tag, ()),
            completed_at,
            changes.get(row.pk),
            rules.ancestors(row.id_tag, above),
        )
        for row in found
    ]


async def _last_changes(tx: Read, pks: Sequence[int]) -> dict[int, UUID]:
    """The newest change of each card that can still be undone."""
    statement = (
        sa.select(card_change.c.card_pk, card_change.c.change_id)
        .ext(distinct_on(card_change.c.card_pk))
        .where(card_change.c.card_pk.in_(pks), card_change.c.undone_by.is_(None), card_change.c.kind != "create")
        .order_by(card_change.c.card_pk, card_change.c.changed_at.desc())
    )
    return {row.card_pk: row.change_id for row in await tx.execute(statement)}


async def _above(tx: Read, id_tags: Sequence[str]) -> dict[str, str | None]:
    """The parents of these cards, and theirs, and so on; a circle ends by itself."""
    above = (
        sa.select(card.c.id_tag, card.c.parent_id_tag).where(card.c.id_tag.in_(id_tags)).cte("above", recursive=True)
    )
    above = above.union(
        sa.select(card.c.id_tag, card.c.parent_id_tag).join(above, above.c.parent_id_tag == card.c.id_tag)
    )
    return {row.id_tag: row.parent_id_tag for row in await tx.execute(sa.select(above))}


async def view(tx: Read, id_tag: str, at: datetime) -> CardView | None:
    """A card with the link that is valid at `at`."""
    found = await _views(tx, await tx.execute(_with_link(at).where(card.c.id_tag == id_tag)))
    return found[0] if found else None


async def search(tx: Read, request: SearchCards, at: datetime) -> list[CardView]:
    """Cards in the order of their idTags, from the cursor on."""
    statement = _with_link(at).order_by(card.c.id_tag).limit(request.limit)
    if request.text:
        # The text is looked for as it is: a percent sign is one.
        pattern = "%" + request.text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        statement = statement.where(
            sa.or_(card.c.id_tag.ilike(pattern), card.c.display_name.ilike(pattern), card.c.cardholder.ilike(pattern))
        )
    if request.linked is not None:
        linked = link.c.pk.is_not(None)
        statement = statement.where(linked if request.linked else sa.not_(linked))
    if request.cursor:
        statement = statement.where(card.c.id_tag > request.cursor)
    return await _views(tx, await tx.execute(statement))


async def snapshot(tx: Read, at: datetime, *, after: str | None, limit: int) -> list[CardSnapshot]:
    """Cards in the order of their idTags with the link valid at `at` and their subject's version, in one statement."""
    versions = metadata.tables[f"{SCHEMA}.subject_version"]
    statement = (
        _with_link(at)
        .add_columns(sa.func.coalesce(versions.c.version, 0).label("subject_version"))
        .outerjoin(versions, versions.c.subject == sa.literal("card/") + card.c.id_tag)
        .order_by(card.c.id_tag)
        .limit(limit)
    )
    if after is not None:
        statement = statement.where(card.c.id_tag > after)
    return [
        CardSnapshot(
            id_tag=row.id_tag,
            card_id=row.card_id,
            subject_version=row.subject_version,
            active=row.active,
            blocked=row.max_active == 0,
            expiry=row.expiry,
            parent_id_tag=row.parent_id_tag,
            in_steve=row.gone_at is None,
            external_customer_id=row.external_customer_id,
            external_subscription_id=row.external_subscription_id,
        )
        for row in await tx.execute(statement)
    ]
