"""Bringing entries to Lago, each counted exactly once whatever happens on the way."""

import asyncio
import random
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from services.sync.lago.client import MAX_BATCH, BatchRefused, LagoClient
from services.sync.lago.gate import Gate
from services.sync.lago.store import subscribed
from services.sync.lago.subscriptions import Subscriptions
from services.sync.ledger import store
from services.sync.ledger.in_time import WAITED, is_doubtful, not_billed
from services.sync.ledger.ingestion import Ingestion
from services.sync.ledger.readback import ReadBack, Verdict
from services.sync.ledger.rules import METRIC_CHANGED, another_metric
from services.sync.ledger.silence import Silence
from services.sync.ledger.store import Entry
from services.sync.ledger.telling import as_event, synced
from services.sync.sessions.chain import by_itself
from services.sync.upstreams.errors import (
    MisconfiguredError,
    NotAskedError,
    RefusedError,
    UnavailableError,
    UpstreamError,
)
from shared.bus.outbox import Outbox
from shared.contracts.events.sync import TransactionHeld
from shared.contracts.identity import Actor
from shared.database.engine import Database
from shared.runtime.clock import Clock
from shared.runtime.log import get_logger
from shared.runtime.together import together

log = get_logger(__name__)

# Longer than any attempt takes, with its read-backs: whoever holds a claim past it has died.
LEASE: Final = timedelta(seconds=120)
FIRST_BACKOFF_S: Final = 1.0
LONGEST_BACKOFF_S: Final = 300.0
# Server errors that an event is to blame for, with doubling pauses, before it is held: a proxy's bad minute is none.
HOLD_AFTER: Final = 6
# Where nothing else is taken, it may be Lago as a whole; what fails quite alone for so long is held all the same.
ALONE_FOR: Final = timedelta(hours=6)
# Entries that a lane takes at once and sends in batches: fewer transactions, and one that dies leaves no more behind.
CLAIM: Final = 5 * MAX_BATCH
LAGO: Final = Actor(kind="upstream", id="lago")


def backoff_s(put_offs: int, chance: float) -> float:
    """Seconds to wait the next time: doubling from 1 to 300, jittered by half. `chance` is 0 to 1."""
    return float(min(FIRST_BACKOFF_S * 2.0 ** min(put_offs, 12), LONGEST_BACKOFF_S)) * (0.5 + 0.5 * chance)


class Delivery:
    """May be asked to deliver in any number of tasks and replicas; `in_flight` batches of this one are on their way."""

    def __init__(
        self,
        lago: LagoClient,
        gate: Gate,
        subscriptions: Subscriptions,
        database: Database,
        outbox: Outbox,
        *,
        in_flight: int,
        count_after: timedelta,
        clock: Clock,
        object_to: Callable[[UpstreamError | None], None],
    ) -> None:
        self._lago, self._gate, self._database, self._outbox = lago, gate, database, outbox
        self._in_flight, self._count_after, self._clock, self._began = in_flight, count_after, clock, clock()
        self._read_back = ReadBack(lago)
        self._ingestion = Ingestion(object_to)
        self._silence = Silence(lago, subscriptions)
        # Shared by whoever delivers: lanes of the service's own, and those of a run.
        self._free = asyncio.Semaphore(in_flight)
        # Why nothing can go for now, so that nobody needs to wait for it.
        self.rests: UpstreamError | None = None

    async def deliver(self, until: Callable[[], bool] = lambda: False) -> int:
        """Deliver what is due, several batches at once, or some, where `until()` says that it is enough; returns how
        many entries were taken up.

        :raises UpstreamError: Lago cannot be asked whether it is set up for billing.
        """
        taken = sum(await together(self._lane(until) for _ in range(self._in_flight)))
        # What was tried meanwhile may have gone well, or not.
        self.rests = self._why_none(is_open=self._gate.was_open)
        return taken

    async def _lane(self, until: Callable[[], bool]) -> int:
        taken = 0
        while (some := await self.lane()) is not None:
            taken += some
            if some < CLAIM or until():
                break
        return taken

    async def lane(self) -> int | None:
        """Deliver some of what is due; returns how many entries were taken up, None where it is better to wait.

        :raises UpstreamError: as in `deliver`.
        """
        self._ingestion.forget_old(self._clock())
        if not await self._may_go():
            return None
        async with self._database.write() as tx:
            claimed = await store.claim(
                tx, self._clock(), self._began, metric=self._gate.metric, limit=CLAIM, lease=LEASE
            )
            if not claimed and (failing := self._ingestion.failing):
                self._ingestion.keep(await store.unsent(tx, failing))
        if not claimed or not await self._deliver_claimed(claimed):
            return None
        return len(claimed)

    async def _may_go(self) -> bool:
        """While Lago is left alone, or is sent nothing because it takes no events, nothing is claimed either: all of it
        would be given back, over and over.
        """
        try:
            is_open = await self._gate.is_open()
        except UpstreamError as error:
            self.rests = error
            raise
        self.rests = self._why_none(is_open=is_open)
        takes_some = self._ingestion.wait(self._clock()) is None
        return is_open and takes_some and not self._lago.is_left_alone

    def _why_none(self, *, is_open: bool) -> UpstreamError | None:
        if not is_open:
            return MisconfiguredError("lago", "billing_gate", self._gate.problem or "is not set up for billing")
        if self._ingestion.wait(self._clock()) is not None:
            return UnavailableError("lago", "server_error", "fails on usage events, and is sent none for a moment")
        if self._lago.is_failing:
            return UnavailableError("lago", "not_asked", "failed repeatedly, and is left alone but for trials")
        return None

    async def _deliver_claimed(self, claimed: Sequence[Entry]) -> bool:
        """One attempt for each of these, batch by batch; what Lago acknowledged is written down at the end, together.

        False when Lago is not to be asked again right away.
        """
        acknowledged: list[Entry] = []
        claimed = await self._of_the_metric(claimed)
        batches = [claimed[at : at + MAX_BATCH] for at in range(0, len(claimed), MAX_BATCH)]
        well = True
        while batches and well:
            async with self._free:
                well = await self._deliver_batch(batches.pop(0), acknowledged)
        await self._delivered(acknowledged, by="acknowledged")
        await self._release([one for batch in batches for one in batch])
        return well

    async def _of_the_metric(self, claimed: Sequence[Entry]) -> Sequence[Entry]:
        """Set aside what another metric is to count: sent as it is, nothing would, and Lago would take it."""
        others = {one.metric for one in claimed} - {self._gate.metric}
        for other in others:
            mine = [one for one in claimed if one.metric == other]
            await self._hold(mine, METRIC_CHANGED, another_metric(other, self._gate.metric))
        return [one for one in claimed if one.metric not in others] if others else claimed

    async def _deliver_batch(self, batch: Sequence[Entry], acknowledged: list[Entry]) -> bool:
        try:
            if self._gate.events_store == "clickhouse":
                # It takes a second one without a word, so what may be there already is looked for first (facts 6).
                batch = await self._settle_repeats(batch)
            if batch:
                batch = await self._in_time(batch)
            return not batch or await self._send(batch, acknowledged)
        except RefusedError as error:
            # Sending does not end up here: Lago would not say what it has under one of these ids.
            return await self._one_by_one(batch, error, acknowledged)
        except NotAskedError:
            await self._release(batch)
            return False
        except UpstreamError as error:
            await self._put_off(batch, error)
            return False

    async def _one_by_one(self, batch: Sequence[Entry], error: RefusedError, acknowledged: list[Entry]) -> bool:
        """Without an answer about it, an event waits; the others do not wait with it."""
        if len(batch) == 1:
            await self._put_off(batch, error)
            return True
        well = [await self._deliver_batch([one], acknowledged) for one in batch]
        return all(well)

    async def _in_time(self, batch: Sequence[Entry]) -> Sequence[Entry]:
        """Set aside what became late while it waited: in a period that is over, Lago takes it and never bills it.

        What was sent before may be there in time; only what is not there is late.

        :raises NotAskedError: Lago is silent altogether, and nothing of this was tried.
        """
        now = self._clock()
        async with self._database.read() as tx:
            believed = await subscribed(tx, {one.external_subscription_id for one in batch})
        names = {one.external_subscription_id for one in batch}
        waited = {one.external_subscription_id for one in batch if one.attempts > 1 or now - one.created_at > WAITED}
        metric = self._gate.metric
        doubtful = {name for name in names if is_doubtful(believed.get(name), metric, now, waited=name in waited)}
        answered = await self._silence.ask(doubtful, now)
        if answered:
            async with self._database.read() as tx:
                believed |= await subscribed(tx, answered)
        # A replica that is set up otherwise may have asked later, about its own metric.
        answered = {name for name in answered if believed[name].is_about(metric)}
        silent = doubtful - answered
        unsure = [one for one in batch if one.external_subscription_id in silent]
        for name in silent:
            about = [one for one in unsure if one.external_subscription_id == name]
            unanswered = f"Lago has not answered about subscription {name} yet."
            await self._release(about, self._silence.until(name, now), last_error=unanswered)
        # Also where nothing had to be asked: what is retried may be known to be late.
        why = {
            one.key: reason
            for one in batch
            if one.external_subscription_id not in silent
            and (reason := not_billed(believed[one.external_subscription_id], one.timestamp))
        }
        if not why and not unsure:
            return batch
        late = [one for one in batch if one.key in why]
        verdicts = await self._read_back.compare(late)
        await self._delivered([one for one in late if verdicts[one.key].same], by="read_back")
        for one in late:
            if not verdicts[one.key].found:
                await self._hold([one], *why[one.key])
            elif not verdicts[one.key].same:
                await self._hold([one], "id_conflict", verdicts[one.key].explanation)
        aside = {one.key for one in [*unsure, *late]}
        return [one for one in batch if one.key not in aside]

    async def _send(self, batch: Sequence[Entry], acknowledged: list[Entry]) -> bool:
        wait = self._ingestion.wait(self._clock())
        if wait is not None:
            await self._put_off(batch, wait)
            return False
        if not self._ingestion.is_doubtful or len(batch) == 1:
            return await self._post(batch, acknowledged)
        # One that did not fail yet, or any: one that Lago does not bear would hide that it takes the others.
        one = random.choice([one for one in batch if one.failing_since is None] or batch)  # noqa: S311 - no secret
        rest = [other for other in batch if other is not one]
        if await self._post([one], acknowledged):
            return await self._post(rest, acknowledged)
        await self._put_off(rest, self._ingestion.wait(self._clock()) or NotAskedError("lago", FIRST_BACKOFF_S))
        return False

    async def _post(self, batch: Sequence[Entry], acknowledged: list[Entry]) -> bool:
        try:
            refused = await self._lago.send([as_event(one) for one in batch])
        except RefusedError as error:
            if len(batch) > 1:
                return await self._halves(batch, acknowledged)
            await self._hold(batch, "lago_refused", f"Lago {error.explanation}.")
            return True
        except UpstreamError as error:
            if error.reason == "server_error":
                return await self._failed(batch, error, acknowledged)
            await self._put_off(batch, error)
            return False
        if refused is not None:
            return await self._sort_out(batch, refused, acknowledged)
        self._ingestion.took(self._clock())
        acknowledged += batch
        return True

    async def _sort_out(self, batch: Sequence[Entry], refused: BatchRefused, acknowledged: list[Entry]) -> bool:
        """Nothing of it was stored. Those that are wrong are set aside, those that are there already are looked at,
        and the rest goes again at once: with fewer events each time, this ends.
        """
        for index, why in refused.wrong.items():
            await self._hold([batch[index]], "lago_refused", f"Lago refuses it: {why}.")
        duplicates = [batch[index] for index in sorted(refused.duplicates)]
        rest = [one for index, one in enumerate(batch) if index not in refused.duplicates | refused.wrong.keys()]
        try:
            await self._settle_duplicates(duplicates)
        except UpstreamError as error:
            await self._put_off([*duplicates, *rest], error)
            return False
        return not rest or await self._send(rest, acknowledged)

    async def _halves(self, batch: Sequence[Entry], acknowledged: list[Entry]) -> bool:
        """Find the events that Lago does not bear, by sending smaller and smaller batches."""
        middle = len(batch) // 2
        first = await self._send(batch[:middle], acknowledged)
        if not first:
            # Lago itself has gone away meanwhile: the other half waits as well.
            await self._release(batch[middle:])
            return False
        return await self._send(batch[middle:], acknowledged)

    async def _failed(self, batch: Sequence[Entry], error: UpstreamError, acknowledged: list[Entry]) -> bool:
        """A server error: Lago takes no events for now, or it is one of these (facts 8)."""
        now = self._clock()
        to_blame = self._ingestion.failed_on(batch, error, now)
        if to_blame and len(batch) > 1:
            self._ingestion.forget(batch)
            return await self._halves(batch, acknowledged)
        words = await self._why_its_own(batch[0], error, now, blamed=to_blame) if len(batch) == 1 else None
        if words is None or not await self._is_well():
            await self._put_off(batch, error, blamed=to_blame)
            return to_blame
        await self._hold(batch, "lago_fails_on_it", words)
        return True

    async def _why_its_own(self, one: Entry, error: UpstreamError, now: datetime, *, blamed: bool) -> str | None:
        """Why to hold one that Lago failed on again; None: it may still be Lago as a whole.

        Other replicas, and this one before it was started anew, know more: what they failed on is in the database.
        """
        since = one.failing_since or now
        async with self._database.read() as tx:
            if blamed and one.server_errors + 1 >= HOLD_AFTER:
                if not await store.others_wait(tx, one, failing_after=self._ingestion.took_at):
                    return f"Lago {error.explanation} to this event alone, and took others meanwhile."
            elif now - since >= ALONE_FOR and not await store.others_wait(tx, one):
                return f"Lago {error.explanation} to this event since {since:%Y-%m-%d %H:%M} UTC."
        return None

    async def _is_well(self) -> bool:
        try:
            await self._lago.organization()
        except UpstreamError:
            return False
        return True

    async def _settle_duplicates(self, duplicates: Sequence[Entry]) -> None:
        """Lago has these ids already: delivered before, if they are the same events."""
        verdicts = await self._read_back.compare(duplicates)
        same = [one for one in duplicates if verdicts[one.key].same]
        await self._delivered(same, by="read_back")
        for one in duplicates:
            verdict = verdicts[one.key]
            if not verdict.same:
                await self._hold([one], "id_conflict", verdict.explanation)

    async def _settle_repeats(self, batch: Sequence[Entry]) -> list[Entry]:
        """Look for those that were sent before, and keep those that are to be sent (again)."""
        repeats = [one for one in batch if one.attempts > 1]
        verdicts: dict[tuple[str, int, int], Verdict] = await self._read_back.compare(repeats) if repeats else {}
        await self._delivered([one for one in repeats if verdicts[one.key].same], by="read_back")
        for one in repeats:
            if verdicts[one.key].found and not verdicts[one.key].same:
                await self._hold([one], "id_conflict", verdicts[one.key].explanation)
        return [one for one in batch if one.key not in verdicts or not verdicts[one.key].found]

    async def _delivered(self, entries: Sequence[Entry], *, by: str) -> None:
        if not entries:
            return
        now = self._clock()
        async with self._database.write() as tx:
            mine = await store.finish(
                tx,
                entries,
                state="delivered",
                delivered_at=now,
                delivered_by=by,
                last_error=None,
                due_at=now + self._count_after,
            )
            await store.mark_billed(tx, {(one.steve_id, one.transaction_pk) for one in mine})
            await self._outbox.add_each(tx, by_itself(map(synced, mine), LAGO))
        self._ingestion.forget(entries)

    async def _hold(self, entries: Sequence[Entry], reason: str, explanation: str) -> None:
        now = self._clock()
        log.error("A usage event is held.", action="ledger.held", reason=reason, events=len(entries), why=explanation)
        async with self._database.write() as tx:
            mine = await store.finish(tx, entries, state="held", hold_reason=reason, last_error=explanation)
            sessions = await store.hold_sessions(tx, mine, reason=reason, explanation=explanation, at=now)
            held = [
                TransactionHeld(
                    session=one.session,
                    charge_box_id=one.charge_box_id,
                    id_tag=one.id_tag,
                    reason=why[0],
                    explanation=why[1],
                    energy_wh=one.wh,
                )
                for one in mine
                if (why := sessions.get((one.steve_id, one.transaction_pk)))
            ]
            await self._outbox.add_each(tx, by_itself(held, LAGO))
        self._ingestion.forget(entries)

    async def _put_off(self, entries: Sequence[Entry], error: UpstreamError, *, blamed: bool = False) -> None:
        """It may have been stored or not: the same events go again, later."""
        now = self._clock()
        put_offs = max(one.put_offs for one in entries)
        pause = max(backoff_s(put_offs, random.random()), error.retry_after_s or 0.0)  # noqa: S311 - jitter
        async with self._database.write() as tx:
            await store.put_off(
                tx,
                entries,
                due_at=now + timedelta(seconds=pause),
                why=str(error),
                asked=error.reason not in {"not_asked", "rate_limited"},
                failed_at=now if error.reason == "server_error" else None,
                blamed=blamed,
            )
        log.warning(
            "Usage events wait for Lago.",
            action="ledger.put_off",
            events=len(entries),
            put_offs=put_offs + 1,
            pause_s=round(pause, 1),
            error=str(error),
        )

    async def _release(self, entries: Sequence[Entry], until: datetime | None = None, **why: str) -> None:
        """Give back what was not tried."""
        if not entries:
            return
        async with self._database.write() as tx:
            soon = self._clock() + timedelta(seconds=backoff_s(0, random.random()))  # noqa: S311 - jitter
            await store.finish(tx, entries, state="sending", due_at=until or soon, **why)
