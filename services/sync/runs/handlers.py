"""Answers to what others ask about runs."""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from services.sync.runs import cadence, store
from services.sync.runs.cadence import Intervals
from services.sync.runs.runner import USUAL
from shared.contracts.cursor import not_ours, read_number
from shared.contracts.identity import Cause
from shared.contracts.problem import NotFound
from shared.contracts.requests.sync_work import (
    CadenceView,
    GetRun,
    ListRuns,
    PinCadence,
    RunDetail,
    RunPage,
    RunView,
    Segment,
    StartRun,
)
from shared.database.engine import Database, Write, after_commit
from shared.runtime.clock import Clock, NewId


class RunUnknown(NotFound):
    code, title = "run_unknown", "There is no such run"

    def __init__(self, run_id: UUID) -> None:
        super().__init__(f"No run {run_id} is known; runs are kept for 90 days.")


class Runs:
    """`look` has the next turn taken now."""

    def __init__(
        self,
        database: Database,
        *,
        steve_id: str,
        intervals: Intervals,
        clock: Clock,
        new_id: NewId,
        look: Callable[[], None],
    ) -> None:
        self._database, self._steve_id, self._intervals = database, steve_id, intervals
        self._clock, self._new_id, self._look = clock, new_id, look

    async def start_run(self, tx: Write, request: StartRun, cause: Cause) -> RunView:
        run_id, now = self._new_id(), self._clock()
        segments: list[Segment] = request.segments or ["cards", *USUAL]
        await store.ensure_schedule(tx, self._steve_id, now)
        await store.add(
            tx,
            run_id=run_id,
            steve_id=self._steve_id,
            trigger="operator",
            requested_by=cause.actor.id,
            state="waiting",
            segments=segments,
            requested_at=now,
        )
        after_commit(tx, self._look)
        return store.view(await store.get(tx, run_id))

    async def list_runs(self, request: ListRuns, _: Cause) -> RunPage:
        before = _cursor(request.cursor) if request.cursor else None
        async with self._database.read() as tx:
            found = await store.search(tx, request, before=before)
            row = await store.schedule_row(tx, self._steve_id)
        last = found[-1] if len(found) == request.limit else None
        return RunPage(
            runs=found,
            cadence=row.mode if row is not None else "active",
            pinned=row is not None and row.pinned_by is not None,
            next_cursor=f"{last.requested_at.isoformat()}/{last.run_id}" if last is not None else None,
        )

    async def get_run(self, request: GetRun, _: Cause) -> RunDetail:
        """:raises RunUnknown:"""
        after = read_number(request.cursor) if request.cursor is not None else None
        async with self._database.read() as tx:
            row = await store.get(tx, request.run_id)
            if row is None:
                raise RunUnknown(request.run_id)
            sessions = await store.sessions(tx, row.steve_id, request, after=after)
        more = len(sessions) == request.limit
        following = sessions[-1].session.rpartition(":")[2] if more else None
        return RunDetail(run=store.view(row), sessions=sessions, next_cursor=following)

    async def pin_cadence(self, tx: Write, request: PinCadence, cause: Cause) -> CadenceView:
        now = self._clock()
        await store.ensure_schedule(tx, self._steve_id, now)
        values = {"pinned_by": cause.actor.id if request.mode is not None else None, "next_look_at": now}
        if request.mode is not None:
            values |= {"mode": request.mode, "mode_since": now}
        await store.set_schedule(tx, self._steve_id, **values)
        after_commit(tx, self._look)
        row = await store.schedule_row(tx, self._steve_id)
        return CadenceView(
            mode=row.mode,
            since=row.mode_since,
            pinned=row.pinned_by is not None,
            pinned_by=row.pinned_by,
            seconds=self._intervals.of(row.mode),
            why=f"Pinned by {row.pinned_by}." if row.pinned_by else cadence.why(row.mode, row.news_at),
        )


def _cursor(text: str) -> tuple[datetime, UUID]:
    """:raises Invalid: on a cursor that did not come from a page before."""
    moment, _, run_id = text.partition("/")
    try:
        return datetime.fromisoformat(moment), UUID(run_id)
    except ValueError as error:
        raise not_ours(text) from error
