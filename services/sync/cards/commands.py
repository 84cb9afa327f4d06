"""Changing cards: in SteVe and here together, each change with its inverse."""

from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from services.sync.cards import rules, store
from services.sync.cards import wanted as policy
from services.sync.cards.mirror import BY_STEVE, AnotherTag
from services.sync.cards.problems import (
    AlreadyBlocked,
    AlreadySo,
    BlockedByPolicy,
    CardUnknown,
    ExpiryPast,
    LimitUnknown,
    NotBlocked,
    OutcomeUnknown,
    ParentCycle,
    ParentUnknown,
    WriteConflict,
)
from services.sync.cards.writing import TagWriter, differing
from services.sync.steve.models import Tag, TagForm
from shared.bus.effects import Effect
from shared.bus.outbox import Outbox
from shared.contracts.event import Event
from shared.contracts.events.sync import CardBlocked, CardChanged, CardDiscovered, CardParentChanged, CardUnblocked
from shared.contracts.identity import Cause, id_tag_key
from shared.contracts.problem import Invalid, Problem
from shared.contracts.requests.sync import CardType, CardView
from shared.contracts.requests.sync_cards import (
    BlockCard,
    ChangeCard,
    ChangeParent,
    CreateCard,
    SetExpiry,
    UnblockCard,
)
from shared.database.engine import Database, Write
from shared.runtime.clock import Clock, NewId

LOCAL: Final = ("display_name", "cardholder", "card_type", "active", "notes")
BlockKind = Literal["operator", "policy"]
Check = Callable[[Tag], None]
"""Raises where the tag that SteVe has now is not the one that is to be changed."""
TYPES: Final[tuple[CardType, ...]] = ("ev_card", "keytag", "app", "meta")


class Cards:
    """Each command takes a card for itself first, so that two do not write over each other.

    What SteVe has changed is recorded here however late it is: a change that SteVe keeps and nobody knows of could not
    be undone, and its repetition would find the card "changed already".
    """

    def __init__(
        self,
        database: Database,
        writer: TagWriter,
        outbox: Outbox,
        *,
        enforce: bool,
        clock: Clock,
        new_id: NewId,
        another_tag: AnotherTag,
    ) -> None:
        self._database, self._writer, self._outbox, self._another_tag = database, writer, outbox, another_tag
        self._enforce, self._clock, self._new_id = enforce, clock, new_id

    # Commands

    async def create_card(self, tx: Write, request: CreateCard, cause: Cause, effect: Effect) -> CardView:
        """:raises CardExists, ParentUnknown, ExpiryPast, WriteRefused, OutcomeUnknown, UpstreamSilent:"""
        self._check_expiry(request.expiry)
        key = id_tag_key(request.id_tag)
        await store.lock_card(tx, key)
        parent = await self._parent_tag(request.parent_id_tag)
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
        pk, is_told = await self._insert(tx, key, tag, local, cause, now)
        change_id = await self._keep(tx, pk, "create", cause, {}, {"id_tag": key}, now)
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
        row = await self.take(tx, request.id_tag)
        await self.change_local(tx, row, changes, cause)
        return await self._done(tx, request.id_tag, [], cause)

    async def block_card(self, tx: Write, request: BlockCard, cause: Cause, effect: Effect) -> CardView:
        """:raises CardUnknown, AlreadyBlocked, CardExpired, WriteConflict, OutcomeUnknown, UpstreamSilent:"""
        row = await self.take(tx, request.id_tag)
        await effect.begin()
        await self.block(tx, row, "operator", request.reason, cause)
        return await self._done(tx, request.id_tag, [], cause)

    async def unblock_card(self, tx: Write, request: UnblockCard, cause: Cause, effect: Effect) -> CardView:
        """:raises CardUnknown, NotBlocked, BlockedByPolicy, LimitUnknown, and as block_card:"""
        row = await self.take(tx, request.id_tag)
        if row.block_kind == "policy" and self._enforce:
            raise BlockedByPolicy(request.id_tag, row.block_reason)
        await effect.begin()
        await self.unblock(tx, row, request.limit, cause)
        return await self._done(tx, request.id_tag, [], cause)

    async def change_parent(self, tx: Write, request: ChangeParent, cause: Cause, effect: Effect) -> CardView:
        """:raises CardUnknown, ParentUnknown, ParentCycle, AlreadySo, and as block_card:"""
        row = await self.take(tx, request.id_tag)
        await effect.begin()
        await self.set_parent(tx, row, request.parent_id_tag, cause)
        return await self._done(tx, request.id_tag, [], cause)

    async def set_expiry(self, tx: Write, request: SetExpiry, cause: Cause, effect: Effect) -> CardView:
        """:raises CardUnknown, ExpiryPast, AlreadySo, and as block_card:"""
        row = await self.take(tx, request.id_tag)
        await effect.begin()
        await self.expire(tx, row, request.expiry, cause)
        return await self._done(tx, request.id_tag, [], cause)

    # What commands, undo and the policy are made of. `row` is the card's, taken by `take`.

    async def take(self, tx: Write, id_tag: str) -> Any:  # noqa: ANN401 - a row of card
        """The card's row; no other command changes the card until the transaction ends.

        By a lock of its own: the row itself is written to from beside this transaction (`_intend`).
        """
        await store.lock_card(tx, id_tag)
        row = (await store.rows(tx, [id_tag])).get(id_tag)
        if row is None:
            raise CardUnknown(id_tag)
        return row

    async def policy_lifts(self, tx: Write, row: Any) -> bool:  # noqa: ANN401 - a row of card
        """Whether a block of the policy's would be lifted again by its next turn."""
        return self._enforce and await policy.wanted(tx, row.id_tag, self._clock()) is None

    async def block(  # noqa: PLR0917 - a card, why and by whom
        self,
        tx: Write,
        row: Any,  # noqa: ANN401 - a row of card
        kind: BlockKind,
        reason: str,
        cause: Cause,
        check: Check | None = None,
    ) -> UUID:
        tag = await self._read(row, check)
        limit = tag.max_active_transaction_count
        if limit == 0 and rules.is_taken(row, kind):
            raise AlreadyBlocked(row.id_tag, row.blocked_by or "somebody", row.block_reason or "in SteVe itself")
        form = self._writer.form(tag, lambda one: one.model_copy(update={"max_active_transaction_count": 0}))
        now = self._clock()
        # A limit that is known already is older and truer than the 0 that stands there now.
        remembered = limit if limit != 0 else rules.limit_before(row, 0)
        intent = {
            "remembered_limit": remembered,
            "block_kind": kind,
            "block_reason": reason,
            "blocked_by": cause.actor.id,
            "blocked_at": now,
        }
        written = tag if limit == 0 else await self._intended(row, intent, lambda: self._writer.write(tag, form))
        await self._mirror(tx, row, tag, written, cause, own={"max_active"}, more=intent)
        before = {"limit": limit, **_block(row)}
        change_id = await self._keep(tx, row.pk, "block", cause, before, {"limit": 0, **_plain(intent)}, now)
        blocked = CardBlocked(
            id_tag=row.id_tag,
            change_id=change_id,
            kind=kind,
            reason=reason,
            limit_before=limit,
        )
        await self._outbox.add(tx, blocked, cause)
        return change_id

    async def unblock(self, tx: Write, row: Any, limit: int | None, cause: Cause) -> UUID:  # noqa: ANN401 - a row of card
        tag = await self._writer.read(row.id_tag)
        if tag.max_active_transaction_count != 0:
            raise NotBlocked(row.id_tag)
        wanted = limit if limit is not None else rules.limit_before(row, 0)
        if wanted is None or wanted == 0:
            raise LimitUnknown(row.id_tag)
        if self._enforce and (reason := await policy.wanted(tx, row.id_tag, self._clock())) is not None:
            raise BlockedByPolicy(row.id_tag, reason)
        form = self._writer.form(tag, lambda one: one.model_copy(update={"max_active_transaction_count": wanted}))
        written = await self._writer.write(tag, form)
        now = self._clock()
        await self._mirror(tx, row, tag, written, cause, own={"max_active"}, more=dict.fromkeys(rules.BLOCK))
        before = {"limit": 0, **_block(row)}
        change_id = await self._keep(tx, row.pk, "unblock", cause, before, {"limit": wanted}, now)
        kind = row.block_kind or "operator"
        await self._outbox.add(
            tx, CardUnblocked(id_tag=row.id_tag, change_id=change_id, kind=kind, limit=wanted), cause
        )
        return change_id

    async def set_parent(
        self,
        tx: Write,
        row: Any,  # noqa: ANN401 - a row of card
        parent_id_tag: str | None,
        cause: Cause,
        check: Check | None = None,
    ) -> UUID:
        if parent_id_tag is not None:
            chain, _ = rules.ancestors(parent_id_tag, await store.parents(tx))
            if row.id_tag in {parent_id_tag, *chain}:
                raise ParentCycle(row.id_tag, parent_id_tag)
        parent = await self._parent_tag(parent_id_tag)
        tag = await self._read(row, check)
        name = parent.id_tag if parent is not None else None
        form = self._writer.form(tag, lambda one: one.model_copy(update={"parent_id_tag": name}))
        found = rules.mirrored(tag)["parent_id_tag"]
        # What it replaces is what stands in SteVe, unless an earlier try has written this already.
        was = found if found != parent_id_tag else row.parent_id_tag
        if was == parent_id_tag and not rules.is_ahead(row.mirrored_at, self._clock()):
            raise AlreadySo(row.id_tag, "parent")
        written = await self._writer.write(tag, form)
        now = self._clock()
        await self._mirror(tx, row, tag, written, cause, own={"parent_id_tag"}, more={})
        await store.set_parent(tx, row.pk, parent_id_tag, since=now)
        before, after = {"parent_id_tag": was}, {"parent_id_tag": parent_id_tag}
        change_id = await self._keep(tx, row.pk, "parent", cause, before, after, now)
        changed = CardParentChanged(id_tag=row.id_tag, change_id=change_id, before=was, after=parent_id_tag)
        await self._outbox.add(tx, changed, cause)
        return change_id

    async def expire(
        self,
        tx: Write,
        row: Any,  # noqa: ANN401 - a row of card
        expiry: datetime | None,
        cause: Cause,
        check: Check | None = None,
    ) -> UUID:
        self._check_expiry(expiry)
        tag = await self._read(row, check)
        form = self._writer.form(tag, lambda one: one.model_copy(update={"expiry_date": expiry}))
        is_written = not differing(form, tag)
        if is_written and row.expiry == tag.expiry_date:
            raise AlreadySo(row.id_tag, "expiry")
        written = await self._writer.write(tag, form)
        now = self._clock()
        await self._mirror(tx, row, tag, written, cause, own={"expiry"}, more={})
        # As with a parent.
        before = _plain({"expiry": row.expiry if is_written else tag.expiry_date})
        after = _plain({"expiry": written.expiry_date})
        change_id = await self._keep(tx, row.pk, "expiry", cause, before, after, now)
        await self._outbox.add(
            tx, CardChanged(id_tag=row.id_tag, change_id=change_id, before=before, after=after), cause
        )
        return change_id

    async def change_local(self, tx: Write, row: Any, changes: Mapping[str, Any], cause: Cause) -> UUID:  # noqa: ANN401 - a row of card
        before = {name: getattr(row, name) for name in changes}
        told = rules.change(before, changes, {name: name for name in changes})
        await store.update_card(tx, row.pk, changes)
        change_id = await self._keep(tx, row.pk, "local", cause, before, changes, self._clock())
        event = CardChanged(
            id_tag=row.id_tag,
            change_id=change_id,
            before=told.before,
            after=told.after,
            personal_fields=told.personal,
        )
        await self._outbox.add(tx, event, cause)
        return change_id

    # Inside

    async def _read(self, row: Any, check: Check | None) -> Tag:  # noqa: ANN401 - a row of card
        tag = await self._writer.read(row.id_tag)
        if check is not None:
            check(tag)
        return tag

    async def _intended(self, row: Any, intent: Mapping[str, Any], write: Callable[[], Any]) -> Tag:  # noqa: ANN401 - a row of card
        """Write in SteVe what is noted beforehand: whatever dies in between, the limit there was is not lost."""
        before = _block(row, plain=False)
        async with self._database.write() as beside:
            await store.update_card(beside, row.pk, intent)
        try:
            written: Tag = await write()
        except (OutcomeUnknown, WriteConflict):
            raise
        except Problem:
            async with self._database.write() as beside:
                await store.update_card(beside, row.pk, before)
            raise
        return written

    async def _parent_tag(self, parent_id_tag: str | None) -> Tag | None:
        if parent_id_tag is None:
            return None
        parent = await self._writer.look_up(parent_id_tag)
        if parent is None:
            # SteVe itself would say that the card exists already (facts: tags).
            raise ParentUnknown(parent_id_tag)
        return parent

    def _check_expiry(self, expiry: datetime | None) -> None:
        if expiry is not None and expiry <= self._clock():
            raise ExpiryPast(expiry)

    async def _mirror(
        self,
        tx: Write,
        row: Any,  # noqa: ANN401 - a row of card
        found: Tag,
        tag: Tag,
        cause: Cause,
        *,
        own: Collection[str],
        more: Mapping[str, Any],
    ) -> None:
        """Note what SteVe has now, and whether the tag that was found there is still the one that was noted.

        The columns `own` are what the command itself changed, and tells. All else was changed in SteVe itself: the next
        look finds it noted, and would neither tell it nor follow it. The same where a look noted what came after the
        tag was read: writing all of it put back what was before.
        """
        # The mirror may have noted the same while SteVe was asked.
        noted = await store.locked(tx, row.id_tag)
        if noted is None:
            raise CardUnknown(row.id_tag)
        # What SteVe answered before it had all of this is older, whenever that comes.
        now = self._clock()
        values = rules.mirrored(tag)
        change = rules.change(
            noted._asdict(), values, {column: name for column, name in rules.TOLD.items() if column not in own}
        )
        if found.ocpp_tag_pk != noted.ocpp_tag_pk:
            await self._another_tag(tx, noted, rules.mirrored(found), cause)
        elif "parent_id_tag" not in own and (
            noted.parent_id_tag != values["parent_id_tag"] or rules.is_ahead(noted.mirrored_at, now)
        ):
            await store.set_parent(tx, noted.pk, values["parent_id_tag"], since=now)
        values |= rules.of_block(noted, tag.max_active_transaction_count, now)
        await store.update_card(tx, row.pk, {**values, "mirrored_at": now, "gone_at": None, **more})
        back = noted.gone_at is not None and "gone_at" not in own
        if change or back:
            event = CardChanged(
                id_tag=noted.id_tag,
                change_id=self._new_id(),
                before=change.before | ({"in_steve": False} if back else {}),
                after=change.after | ({"in_steve": True} if back else {}),
                personal_fields=change.personal,
            )
            await self._outbox.add(tx, event, Cause(actor=BY_STEVE, correlation_id=cause.correlation_id))

    async def _insert(  # noqa: PLR0917 - a card, by whom and when
        self, tx: Write, key: str, tag: Tag, local: Mapping[str, Any], cause: Cause, now: datetime
    ) -> tuple[int, bool]:
        """Note a card that was created; also returns whether a look was faster, and told that SteVe has it."""
        # A look that has seen it may not have committed it yet; nor may one begin before this is.
        await store.lock_mirror(tx)
        known = (await store.rows(tx, [key])).get(key)
        if known is not None:
            # It was there once and had been deleted in SteVe: its past stays with it, and whoever paid for it does not.
            await self._mirror(tx, known, tag, tag, cause, own={*rules.TOLD, "gone_at"}, more=local)
            return int(known.pk), known.ocpp_tag_pk == tag.ocpp_tag_pk
        values = rules.mirrored(tag) | {
            "id_tag": key,
            "card_id": self._new_id(),
            "discovered_at": now,
            "mirrored_at": now,
            "blocked_since": now if tag.max_active_transaction_count == 0 else None,
            **local,
        }
        pk = (await store.insert_cards(tx, [values]))[key]
        await store.set_parent(tx, pk, values["parent_id_tag"], since=store.BEGINNING)
        return pk, False

    async def _keep(  # noqa: PLR0917 - a row's columns
        self,
        tx: Write,
        card_pk: int,
        kind: str,
        cause: Cause,
        before: Mapping[str, Any],
        after: Mapping[str, Any],
        now: datetime,
    ) -> UUID:
        change_id = self._new_id()
        await store.keep_change(
            tx,
            change_id=change_id,
            card_pk=card_pk,
            kind=kind,
            at=now,
            by=cause.actor.id,
            before=before,
            after=after,
        )
        return change_id

    async def _done(self, tx: Write, id_tag: str, events: list[Event], cause: Cause) -> CardView:
        await self._outbox.add_all(tx, events, cause)
        view = await store.view(tx, id_tag, self._clock())
        if view is None:
            raise CardUnknown(id_tag)
        return view


def _block(row: Any, *, plain: bool = True) -> dict[str, Any]:  # noqa: ANN401 - a row of card
    columns = {name: getattr(row, name) for name in rules.BLOCK}
    return _plain(columns) if plain else columns


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}


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
