"""The tap journal: what was presented, decided and told."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, Field

from services.admin_api.api.deps import AsViewer, Cursor, Limit
from services.admin_api.api.paging import Page
from services.admin_api.api.problems import documented
from services.admin_api.asking import Ask
from shared.contracts.events.preauth import Told
from shared.contracts.requests.preauth import GapView, SearchTaps, TapView


class TapsPage(Page[TapView]):
    gaps: list[GapView] = Field(default_factory=list, description="taps that are missing between these, of any card")


async def list_taps(
    ask: Ask,
    *,
    card: str | None = None,
    charger: str | None = None,
    pairing: UUID | None = None,
    reason: str | None = None,
    told: Told | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> TapsPage:
    """Taps, newest first. :raises NoAnswerError, RemoteProblem: preauth does not answer, or refuses."""
    found = await ask(
        SearchTaps(
            id_tag=card,
            charge_box_id=charger,
            pairing_id=pairing,
            reason=reason,
            told=told,
            since=since,
            until=until,
            limit=limit,
            cursor=cursor,
        )
    )
    return TapsPage(items=found.taps, gaps=found.gaps, next_cursor=found.next_cursor)


router = APIRouter(prefix="/taps", tags=["taps"], responses=documented(401, 403, 422, 503, 504))


@router.get("")
async def get_taps(
    ask: AsViewer,
    *,
    card: Annotated[str | None, Query(max_length=64, description="idTag")] = None,
    charger: Annotated[str | None, Query(max_length=255, description="chargeBoxId")] = None,
    pairing: Annotated[UUID | None, Query(description="taps that matched this pairing")] = None,
    reason: Annotated[str | None, Query(max_length=50, description="why it was decided so, e.g. nothing_armed")] = None,
    told: Annotated[Told | None, Query(description="what the charger was told")] = None,
    since: AwareDatetime | None = None,
    until: AwareDatetime | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> TapsPage:
    """Taps, newest first."""
    return await list_taps(
        ask,
        card=card,
        charger=charger,
        pairing=pairing,
        reason=reason,
        told=told,
        since=since,
        until=until,
        limit=limit,
        cursor=cursor,
    )
