"""What changed between SteVe's tag and its mirror. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from services.sync.clocks import AHEAD
from services.sync.steve.models import Tag
from shared.contracts.identity import id_tag_key

# The mirror's columns that follow SteVe, and the names under which a change of them is told.
TOLD: Final = {
    "id_tag_as_sent": "id_tag_as_sent",
    "ocpp_tag_pk": "ocpp_tag_pk",
    "parent_id_tag": "parent_id_tag",
    "expiry": "expiry",
    "max_active": "max_active_transaction_count",
    "steve_note": "note",
}
# The mirror's columns about a block of ours.
BLOCK: Final = ("remembered_limit", "block_kind", "block_reason", "blocked_by", "blocked_at")
# Longer than a write to SteVe may take.
BLOCK_WRITTEN_WITHIN: Final = timedelta(minutes=5)
# Their values never leave the house (contracts: Events).
PERSONAL: Final = frozenset({"note", "display_name", "cardholder", "notes"})


def mirrored(tag: Tag) -> dict[str, Any]:
    """The mirror's columns for a tag."""
    return {
        "id_tag_as_sent": tag.id_tag,
        "ocpp_tag_pk": tag.ocpp_tag_pk,
        "parent_id_tag": id_tag_key(tag.parent_id_tag) if tag.parent_id_tag else None,
        "expiry": tag.expiry_date,
        "max_active": tag.max_active_transaction_count,
        "active_count": tag.active_transaction_count,
        "in_transaction": tag.in_transaction,
        "steve_note": tag.note,
    }


def block_is_over(row: Any, max_active: int, now: datetime) -> bool:  # noqa: ANN401 - a row of card
    """Whether what is noted of a block of ours is history, now that SteVe has this limit.

    A block that comes later is another one, and nobody is to lift it for the reason of this one.
    """
    if max_active == 0 or row.block_kind is None:
        return False
    # It was noted before it was written, and may be on its way.
    return bool(row.max_active == 0 or now - row.blocked_at > BLOCK_WRITTEN_WITHIN)


def limit_before(row: Any, max_active: int) -> int | None:  # noqa: ANN401 - a row of card
    """The limit to go back to from a block, now that SteVe has this limit."""
    if max_active != 0:
        return None
    # Of a block of ours it was noted before that was written, of another one when that was found.
    is_noted = row.max_active == 0 or row.block_kind is not None
    remembered: int | None = row.remembered_limit if is_noted else row.max_active
    return remembered


def is_taken(row: Any, kind: str) -> bool:  # noqa: ANN401 - a row of card
    """Whether a card that SteVe is found to block is not to be blocked by this kind.

    What is not the policy's own block is somebody's, and theirs to lift; an operator's block goes over all but another.
    """
    if kind == "policy":
        return bool(row.block_kind != "policy")
    return bool(row.block_kind == "operator" and row.max_active == 0)


def of_block(row: Any, max_active: int, now: datetime) -> dict[str, Any]:  # noqa: ANN401 - a row of card
    """What is to be noted of a card's block, now that SteVe is found with this limit."""
    values: dict[str, Any] = {"blocked_since": (row.blocked_since or now) if max_active == 0 else None}
    if block_is_over(row, max_active, now):
        return values | dict.fromkeys(BLOCK)
    if row.block_kind is None:
        # Somebody blocked it in SteVe's own pages, or lifted that.
        values["remembered_limit"] = limit_before(row, max_active)
    return values


@dataclass(frozen=True, slots=True)
class Change:
    """Fields by their told names; personal ones only in `personal`."""

    before: dict[str, Any]
    after: dict[str, Any]
    personal: list[str]

    def __bool__(self) -> bool:
        return bool(self.before or self.after or self.personal)


def is_ahead(at: datetime, now: datetime) -> bool:
    """Whether a clock noted it that was ahead: what began then is still to come."""
    return at > now + AHEAD


def change(before: Mapping[str, Any], after: Mapping[str, Any], told: Mapping[str, str]) -> Change:
    """What differs in the columns of `told`, as an event may carry it."""
    moved = {name: column for column, name in told.items() if before[column] != after[column]}
    return Change(
        before={name: _plain(before[column]) for name, column in moved.items() if name not in PERSONAL},
        after={name: _plain(after[column]) for name, column in moved.items() if name not in PERSONAL},
        personal=sorted(name for name in moved if name in PERSONAL),
    )


def _plain(value: Any) -> Any:  # noqa: ANN401 - a column's value as JSON has it
    return value.isoformat() if isinstance(value, datetime) else value


def ancestors(id_tag: str, parents: Mapping[str, str | None]) -> tuple[list[str], bool]:
    """The parent, its parent and so on, nearest first, and whether they run in a circle."""
    chain: list[str] = []
    seen = {id_tag}
    current = parents.get(id_tag)
    while current is not None:
        if current in seen:
            return chain, True
        seen.add(current)
        chain.append(current)
        current = parents.get(current)
    return chain, False


def was_blocked(card: Any, at: datetime) -> bool:  # noqa: ANN401 - a row of card
    """Whether a card that is blocked was so at `at` already."""
    return card.blocked_since is not None and bool(card.blocked_since <= at)


def had_expired(card: Any, at: datetime) -> bool:  # noqa: ANN401 - a row of card
    return card.expiry is not None and bool(card.expiry < at)
