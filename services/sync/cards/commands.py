"""What operators ask of cards."""

from collections.abc import Mapping
from typing import Any, Final

from services.sync.cards import rules, store
from services.sync.cards.changing import Changes
from services.sync.cards.noting import Notes
from services.sync.cards.problems import BlockedByPolicy, CardUnknown
from services.sync.cards.writing import TagWriter
from services.sync.steve.models import TagForm
from shared.bus.effects import Effect
from shared.bus.outbox import Outbox
from shared.contracts.event import Event
from shared.contracts.events.sync import CardChanged, CardDiscovered
from shared.contracts.identity import Cause, id_tag_key
from shared.contracts.problem import Invalid
from shared.contracts.requests.sync import CardType, CardView
from shared.contracts.requests.sync_cards import (
    BlockCard,
    ChangeCard,
    ChangeParent,
    CreateCard,
    SetExpiry,
    UnblockCard,
)
from shared.database.engine import Write
from shared.runtime.clock import Clock

LOCAL: Final = ("display_name", "cardholder", "card_type", "active", "notes")
TYPES: Final[tuple[CardType, ...]] = ("ev_card", "keytag", "app", "meta")


class Cards:
    def __init__(
        self, changes: Changes, writer: TagWriter, notes: Notes, outbox: Outbox, *, enforce: bool, clock: Clock
    ) -> None:
        self._changes, self._writer, self._notes, self._outbox = changes, writer, notes, outbox
        self._enforce, self._clock = enforce, clock

    async def create_card(self, tx: Write, request: CreateCard, cause: Cause, effect: Effect) -> CardView:
        """:raises CardExists, ParentUnknown, ExpiryPast, WriteRefused, OutcomeUnknown, UpstreamSilent:"""
        self._changes.check_expiry(request.expiry)
        key = id_tag_key(request.id_tag)
        await store.lock_card(tx, key)
        parent = await self._changes.parent_tag(request.parent_id_tag)
        form = TagForm(
            id_tag=request.id_tag.strip(),
            parent_id_tag=parent.id_tag if parent is not None else None,
            expiry_date=request.expiry,
            max_active_transaction_count=request.max_active_transaction_count,
            note=request.note,
        )
        await effect.begin()
        tag = await self._writer.create(form)
        # An answer of SteVe's that was asked for before does not have it.
        now = self._clock()
        local = {
            "display_name": request.display_name,
            "cardholder": request.cardholder,
            "card_type": request.card_type,
        }
        pk, is_told = await self._notes.created(tx, key, tag, local, cause, now)
        change_id = await self._notes.changed(tx, pk, "create", cause, {}, {"id_tag": key}, now)
        discovered = CardDiscovered(
            id_tag=key,
            ocpp_tag_pk=tag.ocpp_tag_pk,
            parent_id_tag=request.parent_id_tag,
            blocked=tag.max_active_transaction_count == 0,
            expiry=tag.expiry_date,
        )
        personal = sorted(name for name, value in local.items() if value and name in rules.PERSONAL)
        changed = CardChanged(
            id_tag=key,
            change_id=change_id,
            before={},
            after={"card_type": request.card_type},
            personal_fields=personal,
        )
        return await self._done(tx, key, [changed] if is_told else [discovered, changed], cause)

    async def change_card(self, tx: Write, request: ChangeCard, cause: Cause) -> CardView:
        """Change what only this house knows.

        :raises CardUnknown, Invalid:
        """
        changes = checked_changes({str(name): value for name, value in request.changes.items()})
        row = await self._changes.take(tx, request.id_tag)
        await self._changes.change_local(tx, row, changes, cause)
        return await self._done(tx, request.id_tag, [], cause)

    async def block_card(self, tx: Write, request: BlockCard, cause: Cause, effect: Effect) -> CardView:
        """:raises CardUnknown, AlreadyBlocked, CardExpired, WriteConflict, OutcomeUnknown, UpstreamSilent:"""
        row = await self._changes.take(tx, request.id_tag)
        await effect.begin()
        await self._changes.block(tx, row, "operator", request.reason, cause)
        return await self._done(tx, request.id_tag, [], cause)

    async def unblock_card(self, tx: Write, request: UnblockCard, cause: Cause, effect: Effect) -> CardView:
        """:raises CardUnknown, NotBlocked, BlockedByPolicy, LimitUnknown, and as block_card:"""
        row = await self._changes.take(tx, request.id_tag)
        if row.block_kind == "policy" and self._enforce:
            raise BlockedByPolicy(request.id_tag, row.block_reason)
        await effect.begin()
        await self._changes.unblock(tx, row, request.limit, cause)
        return await self._done(tx, request.id_tag, [], cause)

    async def change_parent(self, tx: Write, request: ChangeParent, cause: Cause, effect: Effect) -> CardView:
        """:raises CardUnknown, ParentUnknown, ParentCycle, AlreadySo, and as block_card:"""
        row = await self._changes.take(tx, request.id_tag)
        await effect.begin()
        await self._changes.set_parent(tx, row, request.parent_id_tag, cause)
        return await self._done(tx, request.id_tag, [], cause)

    async def set_expiry(self, tx: Write, request: SetExpiry, cause: Cause, effect: Effect) -> CardView:
        """:raises CardUnknown, ExpiryPast, AlreadySo, and as block_card:"""
        row = await self._changes.take(tx, request.id_tag)
        await effect.begin()
        await self._changes.expire(tx, row, request.expiry, cause)
        return await self._done(tx, request.id_tag, [], cause)

    async def _done(self, tx: Write, id_tag: str, events: list[Event], cause: Cause) -> CardView:
        await self._outbox.add_all(tx, events, cause)
        view = await store.view(tx, id_tag, self._clock())
        if view is None:
            raise CardUnknown(id_tag)
        return view


def checked_changes(changes: Mapping[str, Any]) -> dict[str, Any]:
    """:raises Invalid: for a value that its field cannot have."""
    for name, value in changes.items():
        fits = {
            "card_type": value in TYPES,
            "active": isinstance(value, bool),
        }.get(name, value is None or (isinstance(value, str) and len(value) <= 1000))
        if name not in LOCAL or not fits:
            raise Invalid(f"{name} cannot be {value!r}.")
    return {
        name: value or None if name in {"display_name", "cardholder", "notes"} else value
        for name, value in changes.items()
    }
