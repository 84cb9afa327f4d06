"""Linking a card, and releasing in the same transaction what was held for want of its link."""

from datetime import UTC, datetime

from services.sync.ledger.held import HeldQueue
from services.sync.links import store
from services.sync.links.handlers import Links
from shared.contracts.identity import Cause
from shared.contracts.request import MAX_ROWS
from shared.contracts.requests.sync import CardView, LinkCard
from shared.contracts.requests.sync_cards import RelinkCard
from shared.contracts.requests.sync_work import ReleaseHeld
from shared.database.engine import Write
from shared.runtime.clock import Clock


class Linking:
    """The operator's confirmed date decides, never the link's own: without one nothing that is held is released."""

    def __init__(self, links: Links, held: HeldQueue, clock: Clock) -> None:
        self._links, self._held, self._clock = links, held, clock

    async def link_card(self, tx: Write, request: LinkCard, cause: Cause) -> CardView:
        """:raises: as `Links.link_card`."""
        made = await self._links.link_card(tx, request, cause)
        await self._release(tx, request.id_tag, request.release_from, cause)
        return made

    async def relink_card(self, tx: Write, request: RelinkCard, cause: Cause) -> CardView:
        """:raises: as `Links.relink_card`."""
        made = await self._links.relink_card(tx, request, cause)
        await self._release(tx, request.id_tag, request.release_from, cause)
        return made

    async def _release(self, tx: Write, id_tag: str, since: datetime | None, cause: Cause) -> None:
        """Exactly those that `preview_link` counts; what cannot be released stays held, with its reason."""
        if since is None:
            return
        concerned = await store.family(tx, id_tag, self._clock())
        sessions = await store.held_of(tx, concerned, since.astimezone(UTC))
        for start in range(0, len(sessions), MAX_ROWS):
            await self._held.release_held(tx, ReleaseHeld(sessions=sessions[start : start + MAX_ROWS]), cause)
