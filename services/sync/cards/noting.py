"""Noting a card as it stands in SteVe after a write, and each change with what it replaced."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from services.sync.cards import rules, store
from services.sync.cards.mirror import BY_STEVE, AnotherTag
from services.sync.cards.problems import CardUnknown
from services.sync.steve.models import Tag
from shared.bus.outbox import Outbox
from shared.contracts.events.sync import CardChanged
from shared.contracts.identity import Cause
from shared.database.engine import Write
from shared.runtime.clock import Clock, NewId


class Notes:
    def __init__(self, outbox: Outbox, *, clock: Clock, new_id: NewId, another_tag: AnotherTag) -> None:
        self._outbox, self._clock, self._new_id, self._another_tag = outbox, clock, new_id, another_tag

    async def written(
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

    async def created(  # noqa: PLR0917 - a card, by whom and when
        self, tx: Write, key: str, tag: Tag, local: Mapping[str, Any], cause: Cause, now: datetime
    ) -> tuple[int, bool]:
        """Note a card that was created; also returns whether a look was faster, and told that SteVe has it."""
        # A look that has seen it may not have committed it yet; nor may one begin before this is.
        await store.lock_mirror(tx)
        known = (await store.rows(tx, [key])).get(key)
        if known is not None:
            # It was there once and had been deleted in SteVe: its past stays with it, and whoever paid for it does not.
            await self.written(tx, known, tag, tag, cause, own={*rules.TOLD, "gone_at"}, more=local)
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

    async def changed(  # noqa: PLR0917 - a row's columns
        self,
        tx: Write,
        card_pk: int,
        kind: str,
        cause: Cause,
        before: Mapping[str, Any],
        after: Mapping[str, Any],
        now: datetime,
    ) -> UUID:
        """Store a change with its inverse; returns its id."""
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
