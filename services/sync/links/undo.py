"""Undoing changes of cards and links: the inverse, or the reason why it is too late for it.

Whether a change in SteVe is too late to undo, the tag tells that SteVe has now: what is noted may be as old as a look.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from services.sync.cards import store as cards
from services.sync.cards.changing import BlockKind, Changes
from services.sync.cards.problems import CannotUndo, ChangeUnknown
from services.sync.cards.rules import BLOCK, mirrored
from services.sync.links import store
from services.sync.links.handlers import Links
from services.sync.steve.models import Tag
from shared.bus.effects import Effect
from shared.contracts.identity import Cause
from shared.contracts.requests.sync import CardView
from shared.contracts.requests.sync_cards import UndoChange
from shared.database.engine import Write
from shared.runtime.clock import Clock

# Kinds of change whose inverse is written in SteVe.
IN_STEVE: Final = frozenset({"block", "unblock", "parent", "expiry"})
Inverse = Callable[[Write, Any, Any, Cause], Awaitable[UUID]]


class Undo:
    def __init__(self, cards_: Changes, links: Links, clock: Clock) -> None:
        self._cards, self._links, self._clock = cards_, links, clock
        self._inverses: dict[str, Inverse] = {
            "block": self._block,
            "unblock": self._unblock,
            "parent": self._parent,
            "expiry": self._expiry,
            "local": self._local,
            "link": self._link,
            "relink": self._relink,
            "unlink": self._unlink,
        }

    async def undo_change(self, tx: Write, request: UndoChange, cause: Cause, effect: Effect) -> CardView:
        """:raises ChangeUnknown, CannotUndo: and what the inverse itself may be refused for."""
        change = await cards.change(tx, request.change_id)
        if change is None:
            raise ChangeUnknown(request.change_id)
        if change.undone_by is not None:
            raise CannotUndo("It has been undone already.")
        inverse = self._inverses.get(change.kind)
        if inverse is None:
            raise CannotUndo("A card is never deleted in SteVe, because its transactions would go with it. Block it.")
        row = await self._cards.take(tx, change.id_tag)
        if change.kind in IN_STEVE:
            await effect.begin()
        by = await inverse(tx, row, change, cause)
        await cards.mark_undone(tx, request.change_id, by=by)
        view = await cards.view(tx, change.id_tag, self._clock())
        assert view is not None  # noqa: S101 - it was taken for this command
        return view

    async def _block(self, tx: Write, row: Any, change: Any, cause: Cause) -> UUID:  # noqa: ANN401 - rows
        # By when it was blocked: another block of the same kind is another one.
        as_it_was = row.max_active == 0 and row.blocked_at == _moment(change.after["blocked_at"])
        _unmoved(as_it_was, "It is not blocked as it was.")
        if change.before["limit"] == 0:
            block = {name: change.before[name] for name in BLOCK}
            return await self._cards.give_back(tx, row, {**block, "blocked_at": _moment(block["blocked_at"])}, cause)
        return await self._cards.unblock(tx, row, change.before["limit"], cause)

    async def _unblock(self, tx: Write, row: Any, change: Any, cause: Cause) -> UUID:  # noqa: ANN401 - rows
        def check(tag: Tag) -> None:
            now = tag.max_active_transaction_count
            _unmoved(now == change.after["limit"], f"Its limit is {now} by now.")

        reason = change.before["block_reason"] or "the unblocking was undone"
        kind: BlockKind = change.before["block_kind"] or "operator"
        if kind == "policy" and await self._cards.policy_lifts(tx, row):
            raise CannotUndo("The policy wants it blocked no longer. Block it yourself instead.")
        return await self._cards.block(tx, row, kind, reason, cause, check)

    async def _parent(self, tx: Write, row: Any, change: Any, cause: Cause) -> UUID:  # noqa: ANN401 - rows
        def check(tag: Tag) -> None:
            now = mirrored(tag)["parent_id_tag"]
            _unmoved(now == change.after["parent_id_tag"], f"Its parent is {now or 'no card'} by now.")

        return await self._cards.set_parent(tx, row, change.before["parent_id_tag"], cause, check)

    async def _expiry(self, tx: Write, row: Any, change: Any, cause: Cause) -> UUID:  # noqa: ANN401 - rows
        before, after = _moment(change.before["expiry"]), _moment(change.after["expiry"])

        def check(tag: Tag) -> None:
            _unmoved(tag.expiry_date == after, f"Its expiry is {tag.expiry_date or 'none'} by now.")

        if before is not None and before <= self._clock():
            raise CannotUndo(f"The expiry it had has passed ({before:%Y-%m-%d %H:%M} UTC); SteVe does not take it.")
        return await self._cards.expire(tx, row, before, cause, check)

    async def _local(self, tx: Write, row: Any, change: Any, cause: Cause) -> UUID:  # noqa: ANN401 - rows
        moved = [name for name, value in change.after.items() if getattr(row, name) != value]
        _unmoved(not moved, f"It was changed since: {', '.join(moved)}.")
        return await self._cards.change_local(tx, row, change.before, cause)

    async def _link(self, tx: Write, row: Any, change: Any, cause: Cause) -> UUID:  # noqa: ANN401 - rows
        current = await self._still(tx, change.after)
        ended = _moment(change.before.get("valid_to"))
        if ended is not None:
            # It was not made then, but went on: whoever paid until that end pays until then, used or not.
            return await self._links.end(tx, row, current, ended, cause)
        return await self._take_back(tx, row, current, cause)

    async def _relink(self, tx: Write, row: Any, change: Any, cause: Cause) -> UUID:  # noqa: ANN401 - rows
        """Back to the subscription before: from the beginning where nobody was billed by the new one since, else from
        now.
        """
        current = await self._still(tx, change.after)
        previous = await store.get(tx, change.before["link_pk"])
        if previous is None:
            # It was taken back in favour of this one, which was there before it.
            target, since = _link(change.before)
            await self._links.active_subscription(*target)
            # What it was billed before it took the place of the other stays its own, whenever that one begins.
            if await store.was_used_since(tx, current, row.id_tag, since, owned_since=change.changed_at):
                since = max(since, self._end_of(current))
            return await self._links.move(tx, row, current, target, since, cause)
        # It ended earlier by now: with its subscription, or with its tag.
        _unmoved(previous.valid_to == current.valid_from, "The end of the link before it was changed since.")
        target = (previous.external_customer_id, previous.external_subscription_id)
        await self._links.active_subscription(*target)
        if await store.was_used(tx, current, row.id_tag):
            return await self._links.move(tx, row, current, target, self._end_of(current), cause)
        since = current.valid_from
        await store.remove(tx, current.pk)
        await store.end(tx, previous.pk, None)
        return await self._links.restored(tx, row, previous, current, since, cause)

    async def _unlink(self, tx: Write, row: Any, change: Any, cause: Cause) -> UUID:  # noqa: ANN401 - rows
        target, since = _link(change.before)
        link = await store.get(tx, change.before["link_pk"])
        others = [one for one in await store.of_card(tx, row.pk) if one.pk != change.before["link_pk"]]
        again = [one for one in others if one.valid_to is None or one.valid_to > since]
        _unmoved(not again, "The card has been linked again since.")
        _unmoved(
            link is None or link.valid_to == _moment(change.after["valid_to"]), "The link's end was changed since."
        )
        left = change.after.get("ocpp_tag_pk")
        # Changes of before this was noted have none.
        _unmoved(left is not None, "It is not known whether SteVe still has the tag that was linked.")
        _unmoved(left == row.ocpp_tag_pk, "SteVe has another tag under this idTag by now.")
        await self._links.active_subscription(*target)
        if link is None:
            # It had been taken back as if it had never been.
            return await self._links.begin(tx, row, target, since, cause)
        # An end that it had before is still to come, or has passed meanwhile.
        return await self._links.reopen(tx, row, link, _moment(change.before.get("valid_to")), cause)

    async def _take_back(self, tx: Write, row: Any, current: Any, cause: Cause) -> UUID:  # noqa: ANN401 - rows
        """End the link; where nobody was billed by it, it never was."""
        if await store.was_used(tx, current, row.id_tag):
            return await self._links.end(tx, row, current, self._end_of(current), cause)
        await store.remove(tx, current.pk)
        return await self._links.removed(tx, row, current, cause)

    def _end_of(self, current: Any) -> datetime:  # noqa: ANN401 - a row of link
        """Now; where it begins only later, and a charger whose clock is ahead used it, as soon as it has begun."""
        earliest: datetime = current.valid_from + store.SHORTEST
        return max(self._clock(), earliest)

    @staticmethod
    async def _still(tx: Write, after: Any) -> Any:  # noqa: ANN401 - a row of link
        current = await store.get(tx, after["link_pk"])
        as_it_was = current is not None and current.valid_to == _moment(after.get("valid_to"))
        _unmoved(as_it_was, "The link has been changed or ended since.")
        return current


def _unmoved(holds: object, why: str) -> None:
    if not holds:
        raise CannotUndo(f"{why} Change it directly instead.")


def _link(told: Mapping[str, Any]) -> tuple[tuple[str, str], datetime]:
    """Customer and subscription of a link as a change tells of it, and since when."""
    target = (told["external_customer_id"], told["external_subscription_id"])
    return target, datetime.fromisoformat(told["valid_from"])


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text is not None else None
