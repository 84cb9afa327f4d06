"""What a session that is not held needs, for Lago to count what SteVe recorded (reconcile: its proposals)."""

import asyncio
from collections import defaultdict
from collections.abc import Collection
from datetime import timedelta
from typing import Any, Final

from services.sync.lago.rules import Metric
from services.sync.ledger import held_store as store
from services.sync.ledger import store as ledger
from services.sync.ledger.held_store import Key
from services.sync.ledger.readback import ReadBack
from services.sync.ledger.rules import METRIC_CHANGED
from services.sync.ledger.store import Entry
from services.sync.sessions.rules import unbilled
from services.sync.sessions.store import NOT_PUT_OFF
from services.sync.upstreams.errors import UpstreamError
from shared.database.engine import Database, Write
from shared.runtime.clock import Clock

# Lago may not show yet what it took just now; sending that again would be wrong.
SHOWN_AFTER: Final = timedelta(minutes=5)
READ_WITHIN_S: Final = 4.0
NOTHING = "It is not held but {billing}, and Lago has all of it as SteVe recorded it."

Missing = dict[Key, set[int]]


class Repair:
    """`metric` is what bills by now."""

    def __init__(self, read_back: ReadBack, database: Database, clock: Clock, metric: Metric) -> None:
        self._read_back, self._database, self._clock, self._metric = read_back, database, clock, metric

    async def missing(self, keys: Collection[Key]) -> Missing | str:
        """The entries of these sessions that were sent and that Lago does not have, or why it cannot be told."""
        async with self._database.read() as tx:
            sent = await store.sent(tx, keys, before=self._clock() - SHOWN_AFTER)
        found: defaultdict[Key, set[int]] = defaultdict(set)
        try:
            async with asyncio.timeout(READ_WITHIN_S):
                verdicts = await self._read_back.compare(sent)
        except (UpstreamError, TimeoutError) as error:
            return f"Lago did not say what it has of it: {str(error) or 'it took too long'}. Try again later."
        for one in sent:
            if not verdicts[one.key].found:
                found[one.steve_id, one.transaction_pk].add(one.seq)
        return found

    async def landed(self, keys: Collection[Key]) -> dict[Key, str]:
        """Sessions whose held entries cannot be made anew, and why: an attempt that nobody heard of brought one to Lago
        since, or Lago does not say. One that stores events in ClickHouse would count both.
        """
        async with self._database.read() as tx:
            held = await store.may_be_remade(tx, keys)
        try:
            async with asyncio.timeout(READ_WITHIN_S):
                verdicts = await self._read_back.compare(held)
        except (UpstreamError, TimeoutError) as error:
            why = f"Lago did not say what it has of it: {str(error) or 'it took too long'}. Try again later."
            return {(one.steve_id, one.transaction_pk): why for one in held}
        return {
            (one.steve_id, one.transaction_pk): f"Lago has {one.usage_event_id} by now: {self._then(one)}."
            for one in held
            if verdicts[one.key].found
        }

    def _then(self, one: Entry) -> str:
        if one.metric == self._metric:
            return "retry it"
        return "bill by hand there what it does not count of it, then ignore it"

    async def remake(self, tx: Write, row: Any) -> dict[str, Any] | str | None:  # noqa: ANN401 - a row of session
        """Have sent for the metric that bills now what was made for another one, and that Lago does not have; or why
        not. None where it is not held for that.
        """
        if row.hold_reason != METRIC_CHANGED:
            return None
        key = (row.steve_id, row.transaction_pk)
        if not await store.remake(tx, key, self._metric):
            return "It takes back what another metric may have billed. Correct that by hand in Lago, then ignore it."
        await store.send_held(tx, [key], self._clock())
        return {}

    async def repair(self, tx: Write, row: Any, missing: Missing | str) -> str | None:  # noqa: ANN401 - a row of session
        """Have what is missing sent again, and what differs decided again, or is held and not in the queue; or else why
        there is nothing to do.

        The ids stay what they were: Lago takes each of them once, and before it is sent it is looked for again.
        """
        key, now = (row.steve_id, row.transaction_pk), self._clock()
        if isinstance(missing, str):
            return missing
        seq, billed_wh = await ledger.end_of_chain(tx, *key)
        differs = row.has_held_entries or (row.stopped_at is not None and row.stop_wh != billed_wh)
        again = await store.send_again(tx, key, missing.get(key, ()), now)
        if not differs and not again:
            return NOTHING.format(billing=row.billing)
        values: dict[str, Any] = {"billing": unbilled(stopped=row.stopped_at is not None)}
        if differs:
            values |= {"last_seq": seq, "billed_wh": billed_wh, "settle_at": now, **NOT_PUT_OFF}
        await store.update(tx, key, **values)
        return None
