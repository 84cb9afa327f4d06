"""Changing cards: in SteVe, here, and to whom they are billed. Every answer is the card, and names its undo."""

from typing import Self
from uuid import UUID

from fastapi import APIRouter
from pydantic import AwareDatetime, Field, model_validator

from services.admin_api.api.deps import AsOperator, CardPath, Key
from services.admin_api.api.problems import documented
from services.admin_api.asking import Ask
from shared.contracts.identity import Frozen
from shared.contracts.requests.preauth import PinState, SetCardPin
from shared.contracts.requests.sync import CardType, CardView
from shared.contracts.requests.sync_cards import (
    BlockCard,
    ChangeCard,
    ChangeParent,
    CreateCard,
    SetExpiry,
    UnblockCard,
    UndoChange,
    UnlinkCard,
)


class CardBody(Frozen):
    """A new tag in SteVe, with what is kept of it here."""

    id_tag: str = Field(
        pattern=r"^[A-Za-z0-9.:_#-]{1,20}$", description="as SteVe shall spell it; 1 to 20 of A-Z a-z 0-9 . : _ # -"
    )
    parent_id_tag: str | None = Field(None, min_length=1, max_length=64)
    expiry: AwareDatetime | None = None
    max_active_transaction_count: int = Field(1, ge=-1, le=1000, description="0 blocked, -1 unlimited")
    note: str | None = Field(None, max_length=1000, description="SteVe's note")
    display_name: str | None = Field(None, max_length=200)
    cardholder: str | None = Field(None, max_length=200)
    card_type: CardType = "ev_card"


class CardChanges(Frozen):
    """What only ExpresSync keeps of a card. A field that is not sent stays as it is; null empties it."""

    display_name: str | None = Field(None, max_length=200)
    cardholder: str | None = Field(None, max_length=200)
    card_type: CardType | None = Field(None, description="cannot be emptied")
    active: bool | None = Field(None, description="false: its sessions are held; cannot be emptied")
    notes: str | None = Field(None, max_length=1000)

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("name at least one field to change")
        for name in ("card_type", "active"):
            if name in self.model_fields_set and getattr(self, name) is None:
                raise ValueError(f"{name} cannot be emptied")
        return self


class BlockBody(Frozen):
    reason: str = Field(min_length=1, max_length=500, description="why, for whoever asks later")


class UnblockBody(Frozen):
    limit: int | None = Field(
        None,
        ge=-1,
        le=1000,
        description="sessions at once, -1 unlimited; needed only where none is remembered: it was blocked in SteVe",
    )


class ParentBody(Frozen):
    parent_id_tag: str | None = Field(min_length=1, max_length=64, description="null: under none")


class ExpiryBody(Frozen):
    expiry: AwareDatetime | None = Field(description="null: never; otherwise in the future")


class UnlinkBody(Frozen):
    valid_to: AwareDatetime | None = Field(None, description="default: now")


class PinBody(Frozen):
    pin: str | None = Field(pattern="^[0-9]{4,8}$", repr=False, description="4 to 8 digits; null takes the PIN away")


async def create_card(ask: Ask, body: CardBody, key: str) -> CardView:
    """Each of these: :raises NoAnswerError: unknown; the same key finds out. :raises RemoteProblem: refused."""
    return await ask.change(CreateCard(**body.model_dump()), key)


async def change_card(ask: Ask, id_tag: str, body: CardChanges, key: str) -> CardView:
    changes = body.model_dump(mode="json", include=body.model_fields_set)
    return await ask.change(ChangeCard.model_validate({"id_tag": id_tag, "changes": changes}), key)


async def block_card(ask: Ask, id_tag: str, reason: str, key: str) -> CardView:
    return await ask.change(BlockCard(id_tag=id_tag, reason=reason), key)


async def unblock_card(ask: Ask, id_tag: str, limit: int | None, key: str) -> CardView:
    return await ask.change(UnblockCard(id_tag=id_tag, limit=limit), key)


async def change_parent(ask: Ask, id_tag: str, body: ParentBody, key: str) -> CardView:
    return await ask.change(ChangeParent(id_tag=id_tag, parent_id_tag=body.parent_id_tag), key)


async def set_expiry(ask: Ask, id_tag: str, body: ExpiryBody, key: str) -> CardView:
    return await ask.change(SetExpiry(id_tag=id_tag, expiry=body.expiry), key)


async def unlink_card(ask: Ask, id_tag: str, body: UnlinkBody, key: str) -> CardView:
    return await ask.change(UnlinkCard(id_tag=id_tag, valid_to=body.valid_to), key)


async def undo_change(ask: Ask, change_id: UUID, key: str) -> CardView:
    return await ask.change(UndoChange(change_id=change_id), key)


router = APIRouter(tags=["cards"], responses=documented(400, 401, 403, 409, 422, 503, 504))


@router.post("/cards", status_code=201)
async def post_card(ask: AsOperator, body: CardBody, key: Key) -> CardView:
    """Create a card, in SteVe and here."""
    return await create_card(ask, body, key)


@router.patch("/cards/{id_tag}", responses=documented(404))
async def patch_card(ask: AsOperator, id_tag: CardPath, body: CardChanges, key: Key) -> CardView:
    """Change what only ExpresSync keeps: name, cardholder, type, activity, notes. SteVe is not touched."""
    return await change_card(ask, id_tag, body, key)


@router.post("/cards/{id_tag}/block", responses=documented(404))
async def post_block(ask: AsOperator, id_tag: CardPath, body: BlockBody, key: Key) -> CardView:
    """Have SteVe refuse the card. Its limit is remembered, and wins over parents and subscriptions."""
    return await block_card(ask, id_tag, body.reason, key)


@router.post("/cards/{id_tag}/unblock", responses=documented(404))
async def post_unblock(ask: AsOperator, id_tag: CardPath, body: UnblockBody, key: Key) -> CardView:
    """Give the card back the limit it had."""
    return await unblock_card(ask, id_tag, body.limit, key)


@router.post("/cards/{id_tag}/parent", responses=documented(404))
async def post_parent(ask: AsOperator, id_tag: CardPath, body: ParentBody, key: Key) -> CardView:
    """Put the card under another one, or under none. Sessions that have begun stay whose they are."""
    return await change_parent(ask, id_tag, body, key)


@router.post("/cards/{id_tag}/expiry", responses=documented(404))
async def post_expiry(ask: AsOperator, id_tag: CardPath, body: ExpiryBody, key: Key) -> CardView:
    """Say when the card expires in SteVe."""
    return await set_expiry(ask, id_tag, body, key)


@router.post("/cards/{id_tag}/unlink", responses=documented(404))
async def post_unlink(ask: AsOperator, id_tag: CardPath, body: UnlinkBody, key: Key) -> CardView:
    """End the card's link: sessions that start later are held."""
    return await unlink_card(ask, id_tag, body, key)


@router.put("/cards/{id_tag}/pin")
async def put_pin(ask: AsOperator, id_tag: CardPath, body: PinBody, key: Key) -> PinState:
    """Give the card a PIN, which a login through a QR code asks for, or take it away. It cannot be read."""
    return await ask.change(SetCardPin(id_tag=id_tag, pin=body.pin), key)


@router.post("/changes/{change_id}/undo", responses=documented(404))
async def post_undo(ask: AsOperator, change_id: UUID, key: Key) -> CardView:
    """Undo a change of a card, named by its `last_change_id` or in the audit log; refused where it has moved on."""
    return await undo_change(ask, change_id, key)
