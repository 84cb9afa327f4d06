"""Acknowledged is not counted: delivered events are read back until Lago shows them as a subscription's."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from services.sync.lago.client import LagoClient
from services.sync.ledger import store
from services.sync.ledger.readback import ReadBack
from services.sync.ledger.store import Entry
from shared.bus.outbox import Outbox
from shared.contracts.events.sync import TransactionCounted
from shared.contracts.identity import Actor, Cause
from shared.database.engine import Database
from shared.runtime.clock import Clock, NewId
from shared.runtime.log import get_logger

log = get_logger(__name__)

BATCH: Final = 2000
# Lago assigns events in the background: looked for again after 5 s, doubling up to an hour.
FIRST_PAUSE: Final = timedelta(seconds=5)
LONGEST_PAUSE: Final = timedelta(hours=1)
LEASE: Final = timedelta(seconds=120)


class Counting:
    def __init__(self, lago: LagoClient, database: Database, outbox: Outbox, *, clock: Clock, new_id: NewId) -> None:
        self._database, self._outbox, self._clock, self._new_id = database, outbox, clock, new_id
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
        there = [one for one in due if verdicts[one.key].same and verdicts[one.key].counted]
        missing = [one for one in due if not (verdicts[one.key].same and verdicts[one.key].counted)]
        now = self._clock()
        async with self._database.write() as tx:
            found = await store.mark_counted(tx, there, now)
            await store.look_again(tx, missing, now, first=FIRST_PAUSE, longest=LONGEST_PAUSE)
            cause = Cause(actor=Actor(kind="upstream", id="lago"), correlation_id=self._new_id())
            await self._outbox.add_all(tx, [_counted(one) for one in found], cause)
        if missing:
            log.warning(
                "Delivered events are not counted yet.",
                action="ledger.not_counted",
                events=len(missing),
                example=missing[0].usage_event_id,
                why=verdicts[missing[0].key].explanation or "Lago shows it without a subscription",
            )


def _counted(one: Entry) -> TransactionCounted:
    return TransactionCounted(
        session=one.session,
        charge_box_id=one.charge_box_id,
        id_tag=one.id_tag,
        seq=one.seq,
        from_wh=one.from_wh,
        to_wh=one.to_wh,
        usage_event_id=one.usage_event_id,
        external_customer_id=one.external_customer_id,
        external_subscription_id=one.external_subscription_id,
        final=one.final,
    )
