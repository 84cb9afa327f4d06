"""Answers to what others ask about cards."""

from collections.abc import Awaitable, Callable

from services.sync.cards import store
from services.sync.cards.problems import CardUnknown
from services.sync.steve.client import SteveClient
from services.sync.upstreams.errors import UpstreamError
from shared.contracts.identity import Cause
from shared.contracts.requests.sync import (
    CardPage,
    CardView,
    GetCard,
    ReadCardInSteve,
    SearchCards,
    SteveAnswer,
)
from shared.contracts.requests.sync_cards import CardSnapshotPage, SnapshotCards
from shared.database.engine import Database
from shared.runtime.clock import Clock


class CardQueries:
    """`same_steve` raises where the SteVe that answers is another one, which knows nothing of our cards."""

    def __init__(
        self, database: Database, steve: SteveClient, clock: Clock, *, same_steve: Callable[[], Awaitable[None]]
    ) -> None:
        self._database, self._steve, self._clock, self._same_steve = database, steve, clock, same_steve

    async def get_card(self, request: GetCard, _: Cause) -> CardView:
        """:raises CardUnknown: not in the mirror."""
        async with self._database.read() as tx:
            found = await store.view(tx, request.id_tag, self._clock())
        if found is None:
            raise CardUnknown(request.id_tag)
        return found

    async def search_cards(self, request: SearchCards, _: Cause) -> CardPage:
        async with self._database.read() as tx:
            cards = await store.search(tx, request, self._clock())
        more = len(cards) == request.limit
        return CardPage(cards=cards, next_cursor=cards[-1].id_tag if more else None)

    async def snapshot_cards(self, request: SnapshotCards, _: Cause) -> CardSnapshotPage:
        """All cards as they stand, with the version that each one's events have come to: one statement, one moment."""
        now = self._clock()
        async with self._database.read() as tx:
            cards = await store.snapshot(tx, now, after=request.cursor, limit=request.limit)
        more = len(cards) == request.limit
        return CardSnapshotPage(cards=cards, taken_at=now, next_cursor=cards[-1].id_tag if more else None)

    async def read_card_in_steve(self, request: ReadCardInSteve, _: Cause) -> SteveAnswer:
        """What SteVe says now; when it does not answer, the reply says so and is no "no such card"."""
        asked_at = self._clock()
        try:
            await self._same_steve()
            tag = await self._steve.find_tag(request.id_tag, urgent=True)
            parent = None
            if tag is not None and tag.parent_id_tag:
                parent = await self._steve.find_tag(tag.parent_id_tag, urgent=True)
        except UpstreamError as error:
            return SteveAnswer(answered=False, card=None, asked_at=asked_at, problem=error.explanation)
        return SteveAnswer(
            answered=True,
            card=tag.view() if tag is not None else None,
            parent=parent.view() if parent is not None else None,
            asked_at=asked_at,
        )
