"""What the policy `enforce` wants of a card."""

from datetime import datetime
from typing import Any

from services.sync.cards import rules, store
from services.sync.links import store as links
from services.sync.links.rules import Owner, resolve
from shared.database.engine import Read


def wanted_block(card: Any, owner: Owner | None, blocked_ancestors: list[str]) -> str | None:  # noqa: ANN401 - a row of card
    """Why the policy wants the card blocked, or None. What a parent or a subscription would allow comes last."""
    if not card.active:
        return "it is not active"
    if blocked_ancestors:
        return f"its parent {blocked_ancestors[0]} is blocked"
    if card.card_type != "meta" and owner is None:
        return "it is linked to nobody"
    return None


async def all_wanted(tx: Read, now: datetime) -> list[tuple[Any, str | None]]:
    """Each card that SteVe has, and why the policy wants it blocked."""
    cards = {key: row for key, row in (await store.rows(tx)).items() if row.gone_at is None}
    return await _wanted(tx, cards, list(cards), now)


async def wanted(tx: Read, id_tag: str, now: datetime) -> str | None:
    """The same for one card."""
    chain, _ = rules.ancestors(id_tag, await store.parents(tx))
    rows = await store.rows(tx, [id_tag, *chain])
    cards = {key: row for key, row in rows.items() if key == id_tag or row.gone_at is None}
    [(_, reason)] = await _wanted(tx, cards, [id_tag], now)
    return reason


async def _wanted(tx: Read, cards: dict[str, Any], of: list[str], now: datetime) -> list[tuple[Any, str | None]]:
    ownership = await links.ownership(tx, of)
    parents = {key: row.parent_id_tag for key, row in cards.items()}
    found = []
    for key in of:
        chain, _ = rules.ancestors(key, parents)
        blocked = [one for one in chain if one in cards and cards[one].max_active == 0]
        owner = resolve(key, now, ownership.links, ownership.parents)
        found.append((cards[key], wanted_block(cards[key], owner if isinstance(owner, Owner) else None, blocked)))
    return found
