"""Charging sessions and how far each is billed."""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from services.admin_api.api.deps import AsViewer, Cursor, Limit
from services.admin_api.api.paging import Page
from services.admin_api.api.problems import documented
from services.admin_api.asking import Ask
from shared.contracts.requests.sync import BillingState, GetSession, SearchSessions, SessionView


async def list_sessions(
    ask: Ask,
    *,
    card: str | None = None,
    charger: str | None = None,
    billing: BillingState | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[SessionView]:
    """Sessions, newest first. :raises NoAnswerError, RemoteProblem: sync does not answer, or refuses."""
    found = await ask(
        SearchSessions(id_tag=card, charge_box_id=charger, billing=billing, limit=limit, cursor=cursor),
    )
    return Page(items=found.sessions, next_cursor=found.next_cursor)


router = APIRouter(prefix="/sessions", tags=["sessions"], responses=documented(401, 403, 422, 503, 504))


@router.get("")
async def get_sessions(
    ask: AsViewer,
    *,
    card: Annotated[str | None, Query(max_length=64, description="idTag")] = None,
    charger: Annotated[str | None, Query(max_length=255, description="chargeBoxId")] = None,
    billing: BillingState | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[SessionView]:
    """Charging sessions, newest first. Energies in Wh."""
    return await list_sessions(ask, card=card, charger=charger, billing=billing, limit=limit, cursor=cursor)


@router.get("/{session}", responses=documented(404))
async def get_session(
    ask: AsViewer, session: Annotated[str, Path(max_length=120, description="<steve_id>:<transaction pk>")]
) -> SessionView:
    """One session, as SteVe recorded it, and how far it is billed."""
    return await ask(GetSession(session=session))
