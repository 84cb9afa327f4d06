"""A run: who looks, what it found, and what became of each session."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from services.sync.ledger.delivery import Delivery
from services.sync.ledger.settle import Settler
from services.sync.runs import cadence, store
from services.sync.runs.cadence import Intervals
from services.sync.sessions import store as sessions
from services.sync.sessions.poll import RECENT, Poller
from services.sync.upstreams.errors import UpstreamError
from shared.bus.outbox import Outbox
from shared.contracts.events.sync import SyncRunFinished, SyncRunStarted
from shared.contracts.identity import Actor, Cause
from shared.contracts.requests.sync_work import RunCounters, RunTrigger, Segment
from shared.database.engine import Database
from shared.runtime.clock import Clock, NewId
from shared.runtime.log import get_logger

log = get_logger(__name__)

LEASE: Final = timedelta(seconds=60)
USUAL: Final[tuple[Segment, ...]] = ("new", "open", "settle", "deliver")
# How long a run waits for what other parts have in hand, before it calls a session failed (which is retried).
SETTLES_WITHIN_S: Final = 10.0
KEPT: Final = timedelta(days=90)
# Sessions whose outcome is read and written at once: a backlog has a hundred thousand.
LOG_AT_ONCE: Final = 5_000


class ClaimLostError(Exception):
    """Another replica took the run over; this one stops."""


@dataclass(slots=True)
class Run:
    """A run in hand. It is written down when there is something to tell; `requested` ones are from the start."""

    run_id: UUID
    trigger: RunTrigger
    requested_by: str
    segments: tuple[Segment, ...]
    requested_at: datetime
    cursor_before: int
    kept: bool = False
    seen: set[int] = field(default_factory=set)
    done: int = 0
    expected: int | None = None


class Runner:
    """A turn looks at SteVe when it is due, in whichever replica takes the claim; two never run at once."""

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        poller: Poller,
        settler: Settler,
        delivery: Delivery,
        *,
        steve_id: str,
        intervals: Intervals,
        sweep_every: timedelta,
        refresh_cards: Callable[[], Awaitable[object]],
        clock: Clock,
        new_id: NewId,
    ) -> None:
        self._database, self._outbox = database, outbox
        self._poller, self._settler, self._delivery = poller, settler, delivery
        self._steve_id, self._intervals, self._sweep_every = steve_id, intervals, sweep_every
        self._refresh_cards, self._clock, self._new_id = refresh_cards, clock, new_id
        self._me = new_id()
        self._hurry = False
        self._interval_s = intervals.active

    @property
    def interval_s(self) -> float:
        """Seconds until the next turn is worth it."""
        return self._interval_s

    def hurry(self) -> None:
        """Something happened at a charger: the next turn looks at once."""
        self._hurry = True

    async def turn(self) -> Run | None:
        """Look, if it is this replica's turn. :raises UpstreamError: SteVe does not answer; it is tried again."""
        now, hurry = self._clock(), self._hurry
        self._hurry = False
        async with self._database.write() as tx:
            await store.ensure_schedule(tx, self._steve_id, now)
            claim = await store.claim(tx, self._steve_id, self._me, now, lease=LEASE, hurry=hurry)
            if claim is None:
                # Whoever has it may have looked before that happened.
                self._hurry = self._hurry or hurry
                return None
            for left in await store.abandoned(tx, self._steve_id, self._me):
                await store.update(
                    tx, left.run_id, state="failed", finished_at=now, problem="The process that ran it died."
                )
            run = await self._next(tx, claim, now, trigger="event" if hurry else "schedule")
        try:
            await self._execute(run, now)
        except ClaimLostError:
            log.warning("A run was taken over by another replica.", action="run.lost", run_id=str(run.run_id))
            return None
        finally:
            await self._done(claim, run)
        return run

    async def _next(self, tx: Any, claim: Any, now: datetime, *, trigger: RunTrigger) -> Run:  # noqa: ANN401 - a transaction and a row
        row = await sessions.cursor_row(tx, self._steve_id)
        cursor = row.cursor if row is not None else 0
        waiting = await store.next_waiting(tx, self._steve_id)
        if waiting is None:
            segments: tuple[Segment, ...] = USUAL
            if claim.swept_at is None or now - claim.swept_at >= self._sweep_every:
                segments = ("new", "open", "sweep", "settle", "deliver")
            return Run(self._new_id(), trigger, "sync", segments, now, cursor)
        run = Run(
            waiting.run_id, waiting.trigger, waiting.requested_by, tuple(waiting.segments), waiting.requested_at, cursor
        )
        await self._begin(tx, run, now)
        return run

    async def _begin(self, tx: Any, run: Run, now: datetime) -> None:  # noqa: ANN401 - a transaction
        """Write the run down and tell it."""
        values = {
            "state": "running",
            "started_at": now,
            "claimed_by": self._me,
            "cursor_before": run.cursor_before,
            "expected": run.expected,
        }
        if run.trigger == "operator":
            await store.update(tx, run.run_id, **values)
        else:
            await store.add(
                tx,
                run_id=run.run_id,
                steve_id=self._steve_id,
                trigger=run.trigger,
                requested_by=run.requested_by,
                segments=list(run.segments),
                requested_at=run.requested_at,
                **values,
            )
        run.kept = True
        started = SyncRunStarted(
            run_id=run.run_id, trigger=run.trigger, segments=list(run.segments), cursor_before=run.cursor_before
        )
        await self._outbox.add(tx, started, self._cause(run))

    async def _execute(self, run: Run, started: datetime) -> None:
        problem: UpstreamError | None = None
        try:
            for segment in run.segments:
                await self._segment(run, segment)
        except UpstreamError as error:
            problem = error
        if run.seen and not run.kept:
            async with self._database.write() as tx:
                await self._begin(tx, run, started)
        if run.kept:
            await self._finish(run, started, problem)
        if problem is not None:
            raise problem

    async def _segment(self, run: Run, segment: Segment) -> None:
        if run.kept:
            async with self._database.write() as tx:
                await store.update(tx, run.run_id, segment=segment)
        match segment:
            case "cards":
                await self._refresh_cards()
            case "new":
                await self._poller.look_for_new(lambda pks, done: self._progress(run, pks, done))
            case "open":
                await self._poller.look_at_open(lambda pks, done: self._progress(run, pks, done))
            case "sweep":
                await self._poller.sweep(lambda pks, done: self._progress(run, pks, done))
                async with self._database.write() as tx:
                    await store.set_schedule(tx, self._steve_id, swept_at=self._clock())
            case "settle":
                run.seen |= {pk for steve_id, pk in await self._settler.settle() if steve_id == self._steve_id}
            case "deliver":
                await self._delivery.deliver()

    async def _progress(self, run: Run, pks: Iterable[int], done: int) -> None:
        """After each page: what was new in it; the claim is kept, or found to be lost."""
        run.seen |= set(pks)
        run.done += done
        now = self._clock()
        async with self._database.write() as tx:
            if not await store.renew(tx, self._steve_id, self._me, now, lease=LEASE):
                raise ClaimLostError
            if run.seen and not run.kept:
                await self._begin(tx, run, now)
            if run.kept:
                await store.update(tx, run.run_id, done=run.done)

    async def _finish(self, run: Run, started: datetime, problem: UpstreamError | None) -> None:
        totals: Counter[str] = Counter()
        seen = sorted(run.seen)
        for at in range(0, len(seen), LOG_AT_ONCE):
            found = await self._outcomes(seen[at : at + LOG_AT_ONCE], started)
            totals.update(outcome for outcome, _ in found.values())
            async with self._database.write() as tx:
                await store.keep_outcomes(tx, run.run_id, found)
        counters = count(totals)
        async with self._database.write() as tx:
            row = await sessions.cursor_row(tx, self._steve_id)
            cursor = row.cursor if row is not None else 0
            await store.update(
                tx,
                run.run_id,
                state="failed" if problem is not None else "finished",
                segment=None,
                finished_at=self._clock(),
                cursor_after=cursor,
                counters=counters.model_dump(),
                done=run.done,
                problem=str(problem) if problem is not None else None,
            )
            finished = SyncRunFinished(
                run_id=run.run_id,
                trigger=run.trigger,
                segments=list(run.segments),
                cursor_after=cursor,
                problem=str(problem) if problem is not None else None,
                **counters.model_dump(exclude={"still_open"}),
            )
            await self._outbox.add(tx, finished, self._cause(run))

    async def _outcomes(self, pks: Sequence[int], started: datetime) -> dict[int, tuple[str, str | None]]:
        """How the sessions stand; those that other parts have in hand right now are waited for a little."""
        deadline = asyncio.get_running_loop().time() + SETTLES_WITHIN_S
        while True:
            async with self._database.read() as tx:
                found = await store.outcomes(tx, self._steve_id, pks, since=started)
                in_hand = await store.in_hand(tx, self._steve_id, [pk for pk in found if found[pk][0] == "failed"])
            if not in_hand or asyncio.get_running_loop().time() > deadline:
                return found
            await asyncio.sleep(0.1)

    async def _done(self, claim: Any, run: Run) -> None:  # noqa: ANN401 - a row of run_schedule
        """Give the claim back, and say when to look next."""
        now = self._clock()
        news_at = now if run.seen else claim.news_at
        async with self._database.write() as tx:
            charging = await store.charging(tx, self._steve_id, since=now - RECENT)
            mode = claim.mode
            if claim.pinned_by is None:
                mode = cadence.next_mode(mode, claim.mode_since, news_at=news_at, charging=charging, now=now)
            self._interval_s = self._intervals.of(mode)
            await store.set_schedule(
                tx,
                self._steve_id,
                next_look_at=now + timedelta(seconds=self._interval_s),
                lease_until=None,
                claimed_by=None,
                mode=mode,
                mode_since=claim.mode_since if mode == claim.mode else now,
                news_at=news_at,
            )

    async def forget(self) -> int:
        """Delete runs that are past their time."""
        async with self._database.write() as tx:
            return await store.forget(tx, before=self._clock() - KEPT)

    def _cause(self, run: Run) -> Cause:
        kind = "operator" if run.trigger == "operator" else "system"
        return Cause(actor=Actor(kind=kind, id=run.requested_by), correlation_id=run.run_id)


def count(outcomes: Mapping[str, int]) -> RunCounters:
    """Counters that add up (RunCounters); open sessions are counted apart."""
    totals = {name: outcomes.get(name, 0) for name in ("billed", "already_billed", "held", "ignored", "failed")}
    return RunCounters(seen=sum(totals.values()), still_open=outcomes.get("open", 0), **totals)
