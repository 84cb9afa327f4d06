"""Ending with Lago: a link whose subscription has ended ends at that moment, and one whose subscription Lago has no
longer, canceled or deleted with its customer, when Lago first said so.
"""

from datetime import datetime, timedelta
from typing import Final

from services.sync.cards.changing import Changes
from services.sync.clocks import AHEAD
from services.sync.lago.store import subscribed
from services.sync.lago.subscriptions import Subscriptions
from services.sync.links import store
from services.sync.links.handlers import Links
from shared.contracts.identity import Actor, Cause
from shared.database.engine import Database
from shared.runtime.clock import Clock, NewId
from shared.runtime.log import get_logger

log = get_logger(__name__)

# Webhooks make what is known stale at once; without them it is asked for again this often.
ASK_EVERY: Final = timedelta(minutes=10)
LAGO: Final = Actor(kind="upstream", id="lago")


class Follow:
    def __init__(
        self,
        database: Database,
        subscriptions: Subscriptions,
        cards: Changes,
        links: Links,
        *,
        clock: Clock,
        new_id: NewId,
    ) -> None:
        self._database, self._subscriptions, self._cards, self._links = database, subscriptions, cards, links
        self._clock, self._new_id = clock, new_id

    async def follow(self) -> int:
        """End links whose subscription has ended; returns how many. Lago's silence ends nothing."""
        now = self._clock()
        async with self._database.read() as tx:
            names = await store.linked_subscriptions(tx, now)
            known = await subscribed(tx, names)
        stale = {name for name in names if name not in known or known[name].is_older(now, ASK_EVERY)}
        if stale:
            await self._subscriptions.refresh(stale)
            async with self._database.read() as tx:
                known = await subscribed(tx, names)
        ended = 0
        for name, one in known.items():
            if (over_at := one.over_at()) is not None and over_at <= now:
                ended += await self._end(name, now)
        return ended

    async def _end(self, name: str, now: datetime) -> int:
        async with self._database.write() as tx:
            links = await store.going_on(tx, name, now)
            # Read after the links: whoever makes one, or has it go on, forgets what Lago said before.
            known = (await subscribed(tx, [name])).get(name)
            if known is None or known.is_older(now, ASK_EVERY) or (over_at := known.over_at()) is None:
                return 0
            ended = 0
            for found in links:
                if known.checked_at < found.linked_at <= now + AHEAD:
                    # Made while Lago's answer was on its way.
                    continue
                row = await self._cards.take(tx, found.id_tag)
                link = await store.get(tx, found.pk)
                until = max(over_at, found.valid_from + store.SHORTEST)
                if link is None or (link.valid_to is not None and link.valid_to <= until):
                    # Another replica, or an operator, was first.
                    continue
                cause = Cause(actor=LAGO, correlation_id=self._new_id())
                await self._links.end(tx, row, link, until, cause)
                ended += 1
        if ended:
            log.info("Links ended with their subscription.", action="links.ended", subscription=name, links=ended)
        return ended
