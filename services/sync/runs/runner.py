"""A run: who looks, what it found, and what became of each session."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from pyroaring import BitMap

from services.sync.ledger.delivery import Delivery
from services.sync.ledger.settle import Settler
from services.sync.runs import cadence, store
from services.sync.runs.beside import Beside, Until
from services.sync.runs.cadence import Intervals
from services.sync.runs.claim import Claim, ClaimLostError
from services.sync.runs.run import Run, count
from services.sync.sessions import starts
from services.sync.sessions import store as sessions
from services.sync.sessions.poll import RECENT, Poller, Progress
from services.sync.upstreams.errors import UpstreamError
from shared.bus.outbox import Outbox
from shared.contracts.events.sync import SyncRunFinished, SyncRunStarted, Upstream
from shared.contracts.requests.sync_work import RunCounters, RunState, RunTrigger, Segment
from shared.database.engine import Database, Read, Write
from shared.runtime.clock import Clock, NewId
from shared.runtime.log import get_logger

log = get_logger(__name__)

USUAL: Final[tuple[Segment, ...]] = ("new", "open", "settle", "deliver")
ASKS_STEVE: Final[frozenset[Segment]] = frozenset({"cards", "new", "open", "sweep"})
# What takes longer is gone on with by the next turn, because what happens meanwhile at a charger is not to wait for it.
SLICE_S: Final = 5.0
SWEEP_SLICE_S: Final = 5.0
# How long a run waits, altogether, for what other parts have in hand, before it calls a session failed (which is
# retried).
SETTLES_WITHIN_S: Final = 10.0
KEPT: Final = timedelta(days=90)
# Sessions whose outcome is read and written at once: a backlog has a hundred thousand.
LOG_AT_ONCE: Final = 5_000
# The same while it runs, at each beat: enough to follow a backlog, and not so much that its newest sessions are looked
# at again and again until they are through.
COUNT_AT_ONCE: Final = 1_000


class _CutOffError(Exception):
    """The process is to end."""


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
        self._claim = Claim(database, steve_id=steve_id, by=self._me, clock=clock)
        self._hurry = False
        self._enough: Until = lambda: False
        self._interval_s = intervals.active
        self._beside = Beside()
        # What was settled since a run looked, and what of it a run has counted before that one is through.
        self._settled, self._counted = BitMap(), BitMap()
        # Sessions that were in hand when a turn's time was over, and since when: the next one counts them.
        self._carried = BitMap()
        self._carried_since: datetime | None = None

    @property
    def interval_s(self) -> float:
        """Seconds until the next turn is worth it."""
        return self._interval_s

    def hurry(self) -> None:
        """Something happened at a charger: the next turn looks at once."""
        self._hurry = True

    async def turn(self, enough: Until = lambda: False) -> Run | None:
        """Look, if it is this replica's turn. `enough`: the process is to end, and so is the turn, soon.

        :raises UpstreamError: SteVe does not answer; it is tried again.
        """
        self._enough = enough
        now, hurry = self._clock(), self._hurry
        self._hurry = False
        async with self._database.write() as tx:
            await store.ensure_schedule(tx, self._steve_id, now)
            schedule = await self._claim.take(tx, hurry=hurry)
            if schedule is None:
                # Whoever has it may have looked before that happened.
                self._hurry = self._hurry or hurry
                return None
            await self._close_abandoned(tx, now)
            run = await self._next(tx, schedule, now, trigger="event" if hurry else "schedule")
        try:
            await self._claim.while_held(self._execute(run), lambda tx: self._note(tx, run))
        except ClaimLostError:
            log.warning("A run was taken over by another replica.", action="run.lost", run_id=str(run.run_id))
            return None
        finally:
            await self._done(run)
        return run

    async def _close_abandoned(self, tx: Write, now: datetime) -> None:
        """Runs that nobody is at, because the process died or broke off, have failed. Their work is done by others."""
        for row in await store.abandoned(tx, self._steve_id):
            run = Run.of(row, cursor=await self._cursor(tx), at=now)
            problem = "It broke off: the process that ran it died, or could not go on. The next run goes on with it."
            await self._end(tx, run, "failed", RunCounters(**row.counters), problem)

    async def _next(self, tx: Write, schedule: Any, now: datetime, *, trigger: RunTrigger) -> Run:  # noqa: ANN401 - a row
        cursor = await self._cursor(tx)
        waiting = await store.next_waiting(tx, self._steve_id)
        if waiting is None:
            segments: tuple[Segment, ...] = USUAL
            # One that lies as far ahead was noted by a clock that was.
            if schedule.swept_at is None or abs(now - schedule.swept_at) >= self._sweep_every:
                segments = ("new", "open", "sweep", "settle", "deliver")
            return Run(self._new_id(), trigger, "sync", segments, now, cursor, now)
        run = Run.of(waiting, cursor=cursor, at=now)
        await self._begin(tx, run)
        run.kept = True
        return run

    async def _begin(self, tx: Write, run: Run) -> None:
        """Write the run down and tell it."""
        values = {
            "state": "running",
            "started_at": run.started_at,
            "claimed_by": self._me,
            "cursor_before": run.cursor_before,
            **_progress(run),
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
        started = SyncRunStarted(
            run_id=run.run_id, trigger=run.trigger, segments=list(run.segments), cursor_before=run.cursor_before
        )
        await self._outbox.add(tx, started, run.cause())

    async def _execute(self, run: Run) -> None:
        """Without SteVe, nothing; without Lago, all else: what SteVe recorded is seen in time however Lago stands.

        :raises UpstreamError: SteVe does not answer.
        """
        without: dict[Upstream, UpstreamError] = {}
        for segment in run.segments:
            try:
                self._go_on()
                run.segment = segment
                await self._segment(run, segment)
            except UpstreamError as error:
                without[error.upstream] = error
            except _CutOffError:
                run.more = True
                if run.trigger == "operator" or len(run.seen) > LOG_AT_ONCE:
                    # Whoever takes the claim next, at once, finds that nobody is at it, and tells that it broke off.
                    return
                break
            await self._keep_if_news(run)
            if "steve" in without:
                break
        if run.kept:
            await self._finish(run, without)
        if "steve" in without:
            raise without["steve"]

    async def _segment(self, run: Run, segment: Segment) -> None:
        async def page(pks: Iterable[int], done: int, left: int | None) -> None:
            run.read(pks, done, left)
            await self._keep_if_news(run)
            self._go_on()

        match segment:
            case "cards":
                await self._refresh_cards()
            case "new":
                await self._poller.look_for_new(page)
            case "open":
                await self._poller.look_at_open(page)
            case "sweep":
                await self._sweep(run, page)
            case "settle":
                run.carry(self._carried, self._carried_since)
                self._carried, self._carried_since = BitMap(), None
                await self._in_slices(run, page, partial(self._beside.advance, "settle", self._settle))
                run.see(self._settled - self._counted)
                self._settled = BitMap()
                if not self._beside.is_at("settle"):
                    self._counted = BitMap()
            case "deliver":
                await self._in_slices(run, page, partial(self._beside.advance, "deliver", self._deliver))

    async def _settle(self, until: Until) -> None:
        def note(settled: list[tuple[str, int]]) -> None:
            self._settled.update(pk for steve_id, pk in settled if steve_id == self._steve_id)

        await self._settler.settle(until, note)

    async def _deliver(self, until: Until) -> None:
        await self._delivery.deliver(until)
        if self._delivery.rests is not None:
            raise self._delivery.rests

    async def _in_slices(self, run: Run, page: Progress, work: Callable[[Until], Awaitable[bool]]) -> bool:
        """Work in slices, because what happens meanwhile is not to wait for its end: it is looked for between them, by
        the next turns, or here where the run was asked for by hand and is one. True: it is through.
        """
        while not await work(self._slice_ends(SWEEP_SLICE_S if run.segment == "sweep" else SLICE_S)):
            if run.trigger != "operator":
                run.more = True
                return False
            self._go_on()
            self._hurry = False
            await self._poller.look_for_new(page)
            await self._poller.look_at_open(page)
        return True

    async def _sweep(self, run: Run, page: Progress) -> None:
        if await self._in_slices(run, page, lambda until: self._poller.sweep(page, until=until)):
            async with self._database.write() as tx:
                await self._claim.hold(tx)
                await store.set_schedule(tx, self._steve_id, swept_at=self._clock())

    def _slice_ends(self, seconds: float) -> Until:
        time = asyncio.get_running_loop().time
        end = time() + seconds
        return lambda: self._hurry or self._enough() or time() >= end

    def _go_on(self) -> None:
        if self._enough():
            raise _CutOffError

    async def _keep_if_news(self, run: Run) -> None:
        if run.seen and not run.kept:
            async with self._database.write() as tx:
                await self._claim.hold(tx)
                await self._begin(tx, run)
            run.kept = True

    async def _note(self, tx: Write, run: Run) -> None:
        """How far it has come, for whoever watches. What is not final yet is not counted yet."""
        if run.kept:
            some = run.some_undecided(COUNT_AT_ONCE)
            run.decide(some, await store.standings(tx, self._steve_id, some, since=run.since))
            await store.update(tx, run.run_id, **_progress(run))

    async def _finish(self, run: Run, without: Mapping[Upstream, UpstreamError]) -> None:
        """Count what became of the sessions. What is still in hand where a scheduled run was cut short is left to the
        next one, so that each session is counted once, by the run that knows how it ended.
        """
        totals: Counter[str] = Counter()
        wait_until = asyncio.get_running_loop().time() + (0.0 if run.more else SETTLES_WITHIN_S)
        for at in range(0, len(run.seen), LOG_AT_ONCE):
            found = await self._outcomes(list(run.seen[at : at + LOG_AT_ONCE]), run, wait_until)
            if run.more and (in_hand := [pk for pk, one in found.items() if one.in_hand]):
                self._carried.update(in_hand)
                self._carried_since = run.since
                found = {pk: one for pk, one in found.items() if not one.in_hand}
            totals.update(one.outcome for one in found.values())
            async with self._database.write() as tx:
                await self._claim.hold(tx)
                await store.keep_outcomes(tx, run.run_id, found)
        if self._beside.is_at("settle"):
            self._counted |= run.seen - self._carried
        async with self._database.write() as tx:
            await self._claim.hold(tx)
            # Its problem is told either way. It failed where it read nothing for it, or was to do nothing else.
            failed = "steve" in without or (without and ASKS_STEVE.isdisjoint(run.segments))
            problem = ". ".join(map(str, without.values())) or None
            await self._end(tx, run, "failed" if failed else "finished", count(totals), problem)

    async def _end(self, tx: Write, run: Run, state: RunState, counters: RunCounters, problem: str | None) -> None:
        """Write down how it ended and tell it."""
        cursor = await self._cursor(tx)
        await store.update(
            tx,
            run.run_id,
            state=state,
            segment=None,
            finished_at=self._clock(),
            cursor_after=cursor,
            counters=counters.model_dump(),
            done=run.done,
            problem=problem,
        )
        finished = SyncRunFinished(
            run_id=run.run_id,
            trigger=run.trigger,
            segments=list(run.segments),
            cursor_after=cursor,
            problem=problem,
            **counters.model_dump(exclude={"still_open"}),
        )
        await self._outbox.add(tx, finished, run.cause())

    async def _cursor(self, tx: Read) -> int:
        row = await sessions.cursor_row(tx, self._steve_id)
        return row.cursor if row is not None else 0

    async def _outcomes(self, pks: Sequence[int], run: Run, wait_until: float) -> dict[int, store.Outcome]:
        """How the sessions stand. What other parts have in hand right now is waited for a little, but not where a
        scheduled run is hurried.
        """
        while True:
            async with self._database.read() as tx:
                found = await store.outcomes(tx, self._steve_id, pks, since=run.since)
            if (self._hurry or self._enough()) and run.trigger != "operator":
                run.more = True
            in_hand = any(one.in_hand for one in found.values())
            cannot_end = self._delivery.rests is not None or self._enough()
            if not in_hand or run.more or cannot_end or asyncio.get_running_loop().time() > wait_until:
                return found
            await asyncio.sleep(0.1)

    async def _done(self, run: Run) -> None:
        """Give the claim back, and say when to look next. Where it is another replica's by now, that one says it."""
        now = self._clock()
        async with self._database.write() as tx:
            try:
                # Read now: it may have been pinned meanwhile.
                schedule = await self._claim.hold(tx)
            except ClaimLostError:
                return
            news_at = now if run.seen else schedule.news_at
            charging = await store.charging(tx, self._steve_id, since=now - RECENT)
            mode = schedule.mode
            if schedule.pinned_by is None:
                mode = cadence.next_mode(mode, schedule.mode_since, news_at=news_at, charging=charging, now=now)
            self._interval_s = 0.0 if run.more else self._intervals.of(mode)
            await store.set_schedule(
                tx,
                self._steve_id,
                next_look_at=now + timedelta(seconds=self._interval_s),
                lease_until=None,
                claimed_by=None,
                mode=mode,
                mode_since=schedule.mode_since if mode == schedule.mode else now,
                news_at=news_at,
            )

    async def close(self) -> None:
        """End what goes on beside the turns."""
        await self._beside.close()

    async def forget(self) -> int:
        """Delete runs that are past their time, and what was answered to starts of sessions long decided."""
        before = self._clock() - KEPT
        async with self._database.write() as tx:
            await starts.forget(tx, before=before)
            return await store.forget(tx, before=before)


def _progress(run: Run) -> dict[str, Any]:
    """The row's columns that change while it runs."""
    return {
        "segment": run.segment,
        "done": run.done,
        "expected": run.expected,
        "counters": count(run.totals).model_dump(),
    }
