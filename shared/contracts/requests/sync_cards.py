"""Changing cards and links. Each change is answered with the card, whose `last_change_id` can be undone."""

from typing import Any, ClassVar, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field

from shared.contracts.identity import CardKey, Frozen
from shared.contracts.request import MAX_ROWS, Request
from shared.contracts.requests.sync import CardType, CardView, LinkView

_ID_TAG = r"^\s*[A-Za-z0-9.:_#-]{1,20}\s*$"
_NAME = Field(min_length=1, max_length=255)


class CreateCard(Request[CardView]):
    """A new tag in SteVe, with what this house adds to it."""

    name: ClassVar[str] = "create_card"
    owner: ClassVar[str] = "sync"
    command: ClassVar[bool] = True
    reply = CardView
    id_tag: str = Field(pattern=_ID_TAG, description="as SteVe shall spell it; 1 to 20 of A-Z a-z 0-9 . : _ # -")
    parent_id_tag: CardKey | None = None
    expiry: AwareDatetime | None = None
    max_active_transaction_count: int = Field(1, ge=-1, le=1000, description="0 blocked, negative unlimited")
    note: str | None = Field(None, max_length=1000)
    display_name: str | None = Field(None, max_length=200)
    cardholder: str | None = Field(None, max_length=200)
    card_type: CardType = "ev_card"


class ChangeCard(Request[CardView]):
    """Change what only this house knows of a card. `changes` holds new values by field: display_name, cardholder,
    card_type, active, notes; what is not in it stays.
    """

    name: ClassVar[str] = "change_card"
    owner: ClassVar[str] = "sync"
    command: ClassVar[bool] = True
    reply = CardView
    id_tag: CardKey
    changes: dict[Literal["display_name", "cardholder", "card_type", "active", "notes"], Any] = Field(min_length=1)


class BlockCard(Request[CardView]):
    """Set SteVe's limit to 0; the limit there was is remembered. A block wins over parents and subscriptions."""

    name: ClassVar[str] = "block_card"
    owner: ClassVar[str] = "sync"
    command: ClassVar[bool] = True
    reply = CardView
    id_tag: CardKey
    reason: str = Field(min_length=1, max_length=500)


class UnblockCard(Request[CardView]):
    """Restore the remembered limit. `limit` is needed where none is remembered: somebody blocked it in SteVe itself."""

    name: ClassVar[str] = "unblock_card"
    owner: ClassVar[str] = "sync"
    command: ClassVar[bool] = True
    reply = CardView
    id_tag: CardKey
    limit: int | None = Field(None, ge=-1, le=1000)


class ChangeParent(Request[CardView]):
    """Put a card under another one, or under none. Sessions that have begun stay whose they are."""

    name: ClassVar[str] = "change_parent"
    owner: ClassVar[str] = "sync"
    command: ClassVar[bool] = True
    reply = CardView
    id_tag: CardKey
    parent_id_tag: CardKey | None


class SetExpiry(Request[CardView]):
    """When the card expires in SteVe, or None for never. It must lie in the future."""

    name: ClassVar[str] = "set_expiry"
    owner: ClassVar[str] = "sync"
    command: ClassVar[bool] = True
    reply = CardView
    id_tag: CardKey
    expiry: AwareDatetime | None


class UndoChange(Request[CardView]):
    """Apply the inverse of a change. Refused, with the reason, where the card has moved on since."""

    name: ClassVar[str] = "undo_change"
    owner: ClassVar[str] = "sync"
    command: ClassVar[bool] = True
    reply = CardView
    change_id: UUID


class LinkPreview(Frozen):
    """What a link would change. `problems`: why it would be refused; empty where it would not."""

    id_tag: str
    current: LinkView | None
    valid_from: AwareDatetime
    release_from: AwareDatetime
    external_customer_id: str
    external_subscription_id: str
    children: list[str] = Field(description="cards below it without a link of their own, whose new sessions follow")
    open_sessions: list[str] = Field(description="running now; they stay with their owner")
    sessions_that_stay: int = Field(description="started at or after valid_from and owned already: they stay too")
    held_to_release: int = Field(
        description="held sessions without an owner since release_from: they could be released"
    )
    held_wh: int
    problems: list[str]


class PreviewLink(Request[LinkPreview]):
    name: ClassVar[str] = "preview_link"
    owner: ClassVar[str] = "sync"
    reply = LinkPreview
    id_tag: CardKey
    external_customer_id: str = _NAME
    external_subscription_id: str = _NAME
    valid_from: AwareDatetime | None = None
    release_from: AwareDatetime | None = Field(None, description="default: valid_from")


class RelinkCard(Request[CardView]):
    """Bill sessions that start at or after `valid_from` (default: now) to another subscription."""

    name: ClassVar[str] = "relink_card"
    owner: ClassVar[str] = "sync"
    command: ClassVar[bool] = True
    reply = CardView
    id_tag: CardKey
    external_customer_id: str = _NAME
    external_subscription_id: str = _NAME
    valid_from: AwareDatetime | None = None
    release_from: AwareDatetime | None = Field(
        None, description="release sessions held for want of this link that began then or later; None: none"
    )


class UnlinkCard(Request[CardView]):
    """End the card's link at `valid_to` (default: now)."""

    name: ClassVar[str] = "unlink_card"
    owner: ClassVar[str] = "sync"
    command: ClassVar[bool] = True
    reply = CardView
    id_tag: CardKey
    valid_to: AwareDatetime | None = None


class PortalAnswer(Frozen):
    """`url` is None where Lago has no such customer, or did not answer: then `problem` says so."""

    answered: bool
    url: str | None
    problem: str | None = None


class GetPortalUrl(Request[PortalAnswer]):
    """A customer's portal in Lago; the address works for a limited time."""

    name: ClassVar[str] = "get_portal_url"
    owner: ClassVar[str] = "sync"
    reply = PortalAnswer
    external_customer_id: str = _NAME


class CardSnapshot(Frozen):
    """A card as it stands, and the version of its subject that this includes."""

    id_tag: str
    card_id: UUID
    subject_version: int
    active: bool
    blocked: bool
    expiry: AwareDatetime | None
    parent_id_tag: str | None
    in_steve: bool
    external_customer_id: str | None
    external_subscription_id: str | None


class CardSnapshotPage(Frozen):
    cards: list[CardSnapshot]
    taken_at: AwareDatetime
    next_cursor: str | None = None


class SnapshotCards(Request[CardSnapshotPage]):
    """Where a reader that follows `card.*` starts: all cards, in the order of their idTags."""

    name: ClassVar[str] = "snapshot_cards"
    owner: ClassVar[str] = "sync"
    reply = CardSnapshotPage
    limit: int = Field(MAX_ROWS, ge=1, le=MAX_ROWS)
    cursor: str | None = None
