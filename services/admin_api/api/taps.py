"""The tap journal: what was presented, decided and told."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import AwareDatetime

from services.admin_api.api.deps import AsViewer, Cursor, Limit
from services.admin_api.api.paging import Page
from services.admin_api.api.problems import documented
from services.admin_api.asking import Ask
from shared.contracts.requests.preauth import SearchTaps, TapView


async def list_taps(
    ask: Ask,
    *,
    card: str | None = None,
    charger: str | None = None,
    pairing: UUID | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[TapView]:
    """Taps, newest first. :raises NoAnswerError, RemoteProblem: preauth does not answer, or refuses."""
    found = await ask(
        SearchTaps(
            id_tag=card,
            charge_box_id=charger,
            pairing_id=pairing,
            since=since,
            until=until,
            limit=limit,
            cursor=cursor,
        )
    )
    return Page(items=found.taps, next_cursor=found.next_cursor)


router = APIRouter(prefix="/taps", tags=["taps"], responses=documented(401, 403, 422, 503, 504))


@router.get("")
async def get_taps(
    ask: AsViewer,
    *,
    card: Annotated[str | None, Query(max_length=64, description="idTag")] = None,
    charger: Annotated[str | None, Query(max_length=255, description="chargeBoxId")] = None,
    pairing: Annotated[UUID | None, Query(description="taps that matched this pairing")] = None,
    since: AwareDatetime | None = None,
    until: AwareDatetime | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[TapView]:
    """Taps, newest first."""
    return await list_taps(
        ask, card=card, charger=charger, pairing=pairing, since=since, until=until, limit=limit, cursor=cursor
    )
