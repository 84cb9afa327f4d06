"""What commands, undo and the policy change of a card: in SteVe and here together, each change with its inverse."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from services.sync.cards import rules, store
from services.sync.cards import wanted as policy
from services.sync.cards.noting import Notes
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
from services.sync.steve.models import Tag
from shared.bus.outbox import Outbox
from shared.contracts.events.sync import CardBlocked, CardChanged, CardParentChanged, CardUnblocked
from shared.contracts.identity import Cause
from shared.contracts.problem import Problem
from shared.database.engine import Database, Write
from shared.runtime.clock import Clock

TOLD_OF_A_BLOCK: Final = ("block_kind", "block_reason", "blocked_by")
BlockKind = Literal["operator", "policy"]
Check = Callable[[Tag], None]
"""Raises where the tag that SteVe has now is not the one that is to be changed."""


class Changes:
    """Whoever changes a card takes it first, so that two do not write over each other; `row` is the card's, as taken.

    What SteVe has changed is recorded here however late it is: a change that SteVe keeps and nobody knows of could not
    be undone, and its repetition would find the card "changed already".
    """

    def __init__(
        self, database: Database, writer: TagWriter, notes: Notes, outbox: Outbox, *, enforce: bool, clock: Clock
    ) -> None:
        self._database, self._writer, self._notes, self._outbox = database, writer, notes, outbox
        self._enforce, self._clock = enforce, clock

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
        # What it replaces is what stands in SteVe, unless an earlier try has written this already.
        is_written = limit == 0 and row.max_active != 0 and row.block_kind == kind and remembered is not None
        was = remembered if is_written else limit
        intent = {
            "remembered_limit": remembered,
            "block_kind": kind,
            "block_reason": reason,
            "blocked_by": cause.actor.id,
            "blocked_at": now,
        }
        written = tag if limit == 0 else await self._intended(row, intent, lambda: self._writer.write(tag, form))
        await self._notes.written(tx, row, tag, written, cause, own={"max_active"}, more=intent)
        before = {"limit": was, **_block(row)}
        change_id = await self._notes.changed(tx, row.pk, "block", cause, before, {"limit": 0, **_plain(intent)}, now)
        blocked = CardBlocked(
            id_tag=row.id_tag,
            change_id=change_id,
            kind=kind,
            reason=reason,
            limit_before=was,
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
        await self._notes.written(tx, row, tag, written, cause, own={"max_active"}, more=dict.fromkeys(rules.BLOCK))
        before = {"limit": 0, **_block(row)}
        change_id = await self._notes.changed(tx, row.pk, "unblock", cause, before, {"limit": wanted}, now)
        kind = row.block_kind or "operator"
        await self._outbox.add(
            tx, CardUnblocked(id_tag=row.id_tag, change_id=change_id, kind=kind, limit=wanted), cause
        )
        return change_id

    async def give_back(self, tx: Write, row: Any, block: Mapping[str, Any], cause: Cause) -> UUID:  # noqa: ANN401 - a row of card
        """Take an operator's block off one that was there before, of the policy's or SteVe's own: that stays, and is
        `block`, columns by name. The limit to go back to stays too: it may have been found with the operator's.
        """
        tag = await self._writer.read(row.id_tag)
        if tag.max_active_transaction_count != 0:
            raise NotBlocked(row.id_tag)
        now = self._clock()
        columns = {**block, "remembered_limit": row.remembered_limit}
        await self._notes.written(tx, row, tag, tag, cause, own=set(), more=columns)
        before, after = _block(row), _plain(columns)
        change_id = await self._notes.changed(
            tx, row.pk, "unblock", cause, {"limit": 0, **before}, {"limit": 0, **after}, now
        )
        # Neither blocked nor unblocked: its limit is 0 all the while.
        told = [name for name in TOLD_OF_A_BLOCK if before[name] != after[name]]
        event = CardChanged(
            id_tag=row.id_tag,
            change_id=change_id,
            before={name: before[name] for name in told},
            after={name: after[name] for name in told},
        )
        await self._outbox.add(tx, event, cause)
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
        parent = await self.parent_tag(parent_id_tag)
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
        await self._notes.written(tx, row, tag, written, cause, own={"parent_id_tag"}, more={})
        await store.set_parent(tx, row.pk, parent_id_tag, since=now)
        before, after = {"parent_id_tag": was}, {"parent_id_tag": parent_id_tag}
        change_id = await self._notes.changed(tx, row.pk, "parent", cause, before, after, now)
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
        self.check_expiry(expiry)
        tag = await self._read(row, check)
        form = self._writer.form(tag, lambda one: one.model_copy(update={"expiry_date": expiry}))
        is_written = not differing(form, tag)
        if is_written and row.expiry == tag.expiry_date:
            raise AlreadySo(row.id_tag, "expiry")
        written = await self._writer.write(tag, form)
        now = self._clock()
        await self._notes.written(tx, row, tag, written, cause, own={"expiry"}, more={})
        # As with a parent.
        before = _plain({"expiry": row.expiry if is_written else tag.expiry_date})
        after = _plain({"expiry": written.expiry_date})
        change_id = await self._notes.changed(tx, row.pk, "expiry", cause, before, after, now)
        await self._outbox.add(
            tx, CardChanged(id_tag=row.id_tag, change_id=change_id, before=before, after=after), cause
        )
        return change_id

    async def change_local(self, tx: Write, row: Any, changes: Mapping[str, Any], cause: Cause) -> UUID:  # noqa: ANN401 - a row of card
        before = {name: getattr(row, name) for name in changes}
        told = rules.change(before, changes, {name: name for name in changes})
        await store.update_card(tx, row.pk, changes)
        change_id = await self._notes.changed(tx, row.pk, "local", cause, before, changes, self._clock())
        event = CardChanged(
            id_tag=row.id_tag,
            change_id=change_id,
            before=told.before,
            after=told.after,
            personal_fields=told.personal,
        )
        await self._outbox.add(tx, event, cause)
        return change_id

    async def parent_tag(self, parent_id_tag: str | None) -> Tag | None:
        """:raises ParentUnknown, UpstreamSilent:"""
        if parent_id_tag is None:
            return None
        parent = await self._writer.look_up(parent_id_tag)
        if parent is None:
            # SteVe itself would say that the card exists already (facts: tags).
            raise ParentUnknown(parent_id_tag)
        return parent

    def check_expiry(self, expiry: datetime | None) -> None:
        """:raises ExpiryPast:"""
        if expiry is not None and expiry <= self._clock():
            raise ExpiryPast(expiry)

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


def _block(row: Any, *, plain: bool = True) -> dict[str, Any]:  # noqa: ANN401 - a row of card
    columns = {name: getattr(row, name) for name in rules.BLOCK}
    return _plain(columns) if plain else columns


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}
