"""The mirror of SteVe's tags: what is new, what changed, what is gone."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from services.sync.cards import rules, store
from services.sync.clocks import AHEAD
from services.sync.steve.client import SteveClient
from services.sync.steve.models import Tag
from services.sync.upstreams.errors import UpstreamError, not_read
from shared.bus.outbox import Outbox
from shared.contracts.event import Event
from shared.contracts.events.sync import CardChanged, CardDiscovered
from shared.contracts.identity import Actor, Cause, id_tag_key
from shared.database.engine import Database, Write
from shared.runtime.clock import Clock, NewId
from shared.runtime.log import get_logger

log = get_logger(__name__)

BY_STEVE = Actor(kind="upstream", id="steve")

AnotherTag = Callable[[Write, Any, Mapping[str, Any], Cause], Awaitable[None]]
"""Told of a card, as it is still noted, under whose idTag SteVe has another tag, and how that one is mirrored."""


def _is_news(row: Any, asked_at: datetime, now: datetime) -> bool:  # noqa: ANN401 - a row of card
    """Whether an answer of SteVe's that was asked for then is newer than what is noted, unless that is still to come:
    it was noted by a clock that was ahead.
    """
    return bool(row.mirrored_at <= asked_at) or rules.is_ahead(row.mirrored_at, now)


def _is_same(row: Any, seen: Mapping[str, Any], now: datetime) -> bool:  # noqa: ANN401 - a row of card
    noted = row._asdict()
    return (
        row.gone_at is None
        and not rules.is_ahead(row.mirrored_at, now)
        and not rules.block_is_over(row, seen["max_active"], now)
        and all(noted[name] == value for name, value in seen.items())
    )


class Mirror:
    """`same_steve` raises where the SteVe that answers is another one, whose cards are not ours."""

    def __init__(
        self,
        steve: SteveClient,
        database: Database,
        outbox: Outbox,
        *,
        steve_id: str,
        clock: Clock,
        new_id: NewId,
        same_steve: Callable[[], Awaitable[None]],
        object_to: Callable[[UpstreamError | None], None],
        another_tag: AnotherTag,
    ) -> None:
        self._steve, self._database, self._outbox = steve, database, outbox
        self._steve_id, self._clock, self._new_id = steve_id, clock, new_id
        self._same_steve, self._object_to, self._another_tag = same_steve, object_to, another_tag

    async def refresh(self) -> None:
        """Read all tags. :raises UpstreamError: SteVe did not answer, or is another one; the mirror stays as it is."""
        await self._same_steve()
        asked_at = self._clock()
        with not_read("tags", self._object_to):
            tags = await self._steve.tags()
        async with self._database.write() as tx:
            await self.apply(tx, tags, asked_at=asked_at, whole=True)
            await store.completed(tx, self._steve_id, asked_at, self._clock())

    async def fetch(self, id_tags: Sequence[str]) -> None:
        """Read these tags now: cards that a transaction names and the mirror does not have yet."""
        asked_at = self._clock()
        tags = [tag for id_tag in id_tags if (tag := await self._steve.find_tag(id_tag)) is not None]
        if tags:
            async with self._database.write() as tx:
                await self.apply(tx, tags, asked_at=asked_at, whole=False)

    async def apply(self, tx: Write, tags: Sequence[Tag], *, asked_at: datetime, whole: bool) -> None:
        """Bring the mirror to what SteVe answered. `whole`: these are all there are, so what is missing is gone.

        A card that was written to after `asked_at` is left alone: the answer may be from before. Nor is anything known
        of SteVe by it that came later, however long the answer took.
        """
        await store.lock_mirror(tx)
        by_key: dict[str, Tag] = {id_tag_key(tag.id_tag): tag for tag in tags}
        known = await store.rows(tx, None if whole else list(by_key))
        now = self._clock()
        events: list[Event] = []
        new = {key: tag for key, tag in by_key.items() if key not in known}
        events += await self._discover(tx, new, asked_at, now)
        for key, tag in by_key.items():
            if key in known and _is_news(known[key], asked_at, now):
                events += await self._follow(tx, known[key], rules.mirrored(tag), asked_at, now)
        if whole:
            for key, row in known.items():
                if key in by_key or not _is_news(row, asked_at, now):
                    continue
                if row.gone_at is None:
                    events.append(self._changed(key, {"in_steve": True}, {"in_steve": False}, []))
                # A time still to come was noted by a clock that was ahead, and does not tell since when there may be
                # another tag.
                if row.gone_at is None or row.gone_at > now + AHEAD:
                    await store.update_card(tx, row.pk, {"gone_at": asked_at})
        await self._outbox.add_all(tx, events, Cause(actor=BY_STEVE, correlation_id=self._new_id()))

    async def _discover(self, tx: Write, new: dict[str, Tag], asked_at: datetime, now: datetime) -> list[Event]:
        values = [
            {
                **rules.mirrored(tag),
                "id_tag": key,
                "card_id": self._new_id(),
                "discovered_at": now,
                "mirrored_at": asked_at,
                "blocked_since": now if tag.max_active_transaction_count == 0 else None,
            }
            for key, tag in new.items()
        ]
        pks = await store.insert_cards(tx, values)
        events: list[Event] = []
        for value in values:
            if value["parent_id_tag"] is not None:
                await store.set_parent(tx, pks[value["id_tag"]], value["parent_id_tag"], since=store.BEGINNING)
            events.append(
                CardDiscovered(
                    id_tag=value["id_tag"],
                    ocpp_tag_pk=value["ocpp_tag_pk"],
                    parent_id_tag=value["parent_id_tag"],
                    blocked=value["max_active"] == 0,
                    expiry=value["expiry"],
                )
            )
        return events

    async def _follow(
        self,
        tx: Write,
        row: Any,  # noqa: ANN401 - a row of card
        seen: dict[str, Any],
        asked_at: datetime,
        now: datetime,
    ) -> list[Event]:
        if _is_same(row, seen, now):
            return []
        # The card before its links, as a command does that finds another tag; one may have written to it meanwhile.
        row = await store.locked(tx, row.id_tag)
        # What it wrote since the answer came is not from a clock that is ahead.
        now = self._clock()
        if not _is_news(row, asked_at, now) or _is_same(row, seen, now):
            return []
        before = row._asdict()
        if row.ocpp_tag_pk != seen["ocpp_tag_pk"]:
            cause = Cause(actor=BY_STEVE, correlation_id=self._new_id())
            await self._another_tag(tx, row, seen, cause)
        elif before["parent_id_tag"] != seen["parent_id_tag"] or rules.is_ahead(row.mirrored_at, now):
            await store.set_parent(tx, row.pk, seen["parent_id_tag"], since=asked_at)
        values = {**seen, "mirrored_at": asked_at, "gone_at": None}
        await store.update_card(tx, row.pk, values | rules.of_block(row, seen["max_active"], now))
        change = rules.change(before, seen, rules.TOLD)
        events: list[Event] = []
        if row.gone_at is not None:
            events.append(self._changed(row.id_tag, {"in_steve": False}, {"in_steve": True}, []))
        if change:
            events.append(self._changed(row.id_tag, change.before, change.after, change.personal))
        return events

    def _changed(self, key: str, before: dict[str, Any], after: dict[str, Any], personal: list[str]) -> CardChanged:
        return CardChanged(id_tag=key, change_id=self._new_id(), before=before, after=after, personal_fields=personal)
