"""Runs: how sync looks at SteVe and bills what it finds, and how often."""

from uuid import UUID

from fastapi import APIRouter
from pydantic import Field

from services.admin_api.api.deps import AsOperator, AsViewer, Cursor, Key, Limit
from services.admin_api.api.paging import Page
from services.admin_api.api.problems import documented
from services.admin_api.asking import Ask
from shared.contracts.identity import Frozen
from shared.contracts.requests.sync_work import (
    CadenceMode,
    CadenceView,
    GetRun,
    ListRuns,
    PinCadence,
    RunDetail,
    RunState,
    RunView,
    Segment,
    StartRun,
)


class RunList(Page[RunView]):
    """`cadence`: how often SteVe is looked at; pinned, or as what happens asks for."""

    cadence: CadenceMode
    pinned: bool


class RunBody(Frozen):
    segments: list[Segment] = Field(default_factory=list, max_length=6, description="empty: all but the sweep")


class CadenceBody(Frozen):
    mode: CadenceMode | None = Field(description="null: follow what happens again")


async def list_runs(ask: Ask, *, state: RunState | None = None, limit: int = 50, cursor: str | None = None) -> RunList:
    """Newest first. :raises NoAnswerError, RemoteProblem: sync does not answer, or refuses."""
    found = await ask(ListRuns(state=state, limit=limit, cursor=cursor))
    return RunList(items=found.runs, cadence=found.cadence, pinned=found.pinned, next_cursor=found.next_cursor)


router = APIRouter(tags=["runs"], responses=documented(401, 403, 422, 503, 504))


@router.get("/runs")
async def get_runs(
    ask: AsViewer, *, state: RunState | None = None, limit: Limit = 50, cursor: Cursor = None
) -> RunList:
    """Runs, newest first; scheduled looks that found nothing are not kept."""
    return await list_runs(ask, state=state, limit=limit, cursor=cursor)


@router.post("/runs", status_code=201, responses=documented(400, 409))
async def post_run(ask: AsOperator, body: RunBody, key: Key) -> RunView:
    """Ask for a run; it begins when the one under way has ended. Follow it at `/runs/{run_id}`."""
    return await ask.change(StartRun(segments=body.segments), key)


@router.get("/runs/{run_id}", responses=documented(404))
async def get_run(
    ask: AsViewer, run_id: UUID, *, outcome: str | None = None, limit: Limit = 100, cursor: Cursor = None
) -> RunDetail:
    """One run: what it is at, its counters, and what became of each session."""
    return await ask(GetRun(run_id=run_id, outcome=outcome, limit=limit, cursor=cursor))


@router.put("/cadence", responses=documented(400))
async def put_cadence(ask: AsOperator, body: CadenceBody, key: Key) -> CadenceView:
    """Fix how often SteVe is looked at, or let it follow what happens again."""
    return await ask.change(PinCadence(mode=body.mode), key)
