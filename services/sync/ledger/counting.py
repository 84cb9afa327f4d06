"""Acknowledged is not counted: delivered events are read back until it is certain that Lago bills them.

Lago does not say that of an event, so it follows from what it does say (docs/decisions/0021): it has the event as it
was meant, the subscription ran at that time, and the invoice of that time was not final when the event came.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from services.sync.lago.client import LagoClient
from services.sync.lago.rules import Life, Subscribed
from services.sync.lago.store import subscribed
from services.sync.lago.subscriptions import Subscriptions
from services.sync.ledger import store, telling
from services.sync.ledger.readback import ReadBack, Verdict
from services.sync.ledger.store import Entry
from services.sync.sessions.chain import by_itself
from shared.bus.outbox import Outbox
from shared.contracts.identity import Actor
from shared.database.engine import Database
from shared.runtime.clock import Clock
from shared.runtime.log import get_logger

log = get_logger(__name__)

LAGO: Final = Actor(kind="upstream", id="lago")
BATCH: Final = 2000
# Lago may show an event a little later than it took it: looked for again after 5 s, doubling up to an hour.
FIRST_PAUSE: Final = timedelta(seconds=5)
LONGEST_PAUSE: Final = timedelta(hours=1)
LEASE: Final = timedelta(seconds=120)
# What Lago said of a subscription after it had the event: what does not count yet may count later.
BELIEVED_FOR: Final = timedelta(minutes=5)
NOT_CERTAIN: Final = "its subscription did not run then, or its invoice was final when the event came, or it is silent"

Key = tuple[str, int, int]


class Counting:
    def __init__(
        self,
        lago: LagoClient,
        subscriptions: Subscriptions,
        database: Database,
        outbox: Outbox,
        *,
        clock: Clock,
    ) -> None:
        self._lago, self._subscriptions = lago, subscriptions
        self._database, self._outbox, self._clock = database, outbox, clock
        self._read_back = ReadBack(lago)

    async def count(self) -> None:
        """Read back all that is due.

        :raises UpstreamError: Lago does not answer; they are looked for again when the lease has ended.
        """
        while await self.count_some():
            pass

    async def count_some(self) -> bool:
        """The same for some of it; True: there may be more. Errors as in `count`.

        As many at once as there are: Lago is asked once for all those of a subscription.
        """
        async with self._database.write() as tx:
            due = await store.claim_uncounted(tx, self._clock(), limit=BATCH, lease=LEASE)
        if due:
            await self._look_for(due)
        return len(due) == BATCH

    async def _look_for(self, due: Sequence[Entry]) -> None:
        verdicts = await self._read_back.compare(due)
        there = await self._certain([one for one in due if verdicts[one.key].same], verdicts)
        keys = {one.key for one in there}
        missing = [one for one in due if one.key not in keys]
        now = self._clock()
        async with self._database.write() as tx:
            found = await store.mark_counted(tx, there, now)
            await store.look_again(tx, missing, now, first=FIRST_PAUSE, longest=LONGEST_PAUSE)
            await self._outbox.add_each(tx, by_itself(map(telling.counted, found), LAGO))
        if missing:
            log.warning(
                "Delivered events are not counted yet.",
                action="ledger.not_counted",
                events=len(missing),
                example=missing[0].usage_event_id,
                why=verdicts[missing[0].key].explanation or NOT_CERTAIN,
            )

    async def _certain(self, stored: Sequence[Entry], verdicts: Mapping[Key, Verdict]) -> list[Entry]:
        """Those of these, which Lago has as they were meant, that it certainly bills."""
        known = await self._known_since_delivery(stored)
        counted: list[Entry] = []
        earlier: defaultdict[tuple[str, str], list[Entry]] = defaultdict(list)
        for one in stored:
            found = known.get(one.external_subscription_id)
            life = found.life() if found is not None else None
            if found is None or life is None:
                continue
            if life.is_before(one.timestamp):
                earlier[one.external_subscription_id, one.external_customer_id].append(one)
            elif (found.has_charge or not found.active) and _counts(life, one, verdicts):
                counted.append(one)
        for (subscription, customer), some in earlier.items():
            # The subscription that was billed was upgraded since: another one has its id now.
            lives = await self._lago.lives(subscription, customer)
            counted += [one for one in some if any(_counts(life, one, verdicts) for life in lives)]
        return counted

    async def _known_since_delivery(self, stored: Sequence[Entry]) -> dict[str, Subscribed]:
        """What Lago said of their subscriptions after it had them. Without an answer a subscription is not there."""
        delivered: dict[str, datetime] = {}
        for one in stored:
            assert one.delivered_at is not None  # noqa: S101 - it is looked for since then
            name = one.external_subscription_id
            delivered[name] = max(delivered.get(name, one.delivered_at), one.delivered_at)
        async with self._database.read() as tx:
            known = await subscribed(tx, delivered)
        now = self._clock()
        old = {
            name
            for name, at in delivered.items()
            if name not in known or known[name].is_older(now, min(now - at, BELIEVED_FOR))
        }
        answered = await self._subscriptions.refresh(old) if old else set[str]()
        if answered:
            async with self._database.read() as tx:
                known |= await subscribed(tx, answered)
        return {name: one for name, one in known.items() if name not in old or name in answered}


def _counts(life: Life, one: Entry, verdicts: Mapping[Key, Verdict]) -> bool:
    return life.counts(one.timestamp, verdicts[one.key].stored_at, one.external_customer_id, one.period_to)
