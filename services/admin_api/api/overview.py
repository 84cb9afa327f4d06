"""How things stand, at a glance."""

import asyncio

from fastapi import APIRouter

from services.admin_api.answers import Part
from services.admin_api.api.deps import AsViewer, TheHouse
from services.admin_api.api.problems import documented
from services.admin_api.asking import Ask
from services.admin_api.house import House
from services.admin_api.upstreams import UpstreamState
from shared.contracts.identity import Frozen
from shared.contracts.requests.preauth import GetInterception, InterceptionState, SearchTaps, TapPage
from shared.contracts.requests.sync import SearchSessions, SessionPage

SHOWN = 8
COUNTED = 200


class Overview(Frozen):
    """`held` and `pending` are sessions that wait, the newest of each, at most a page."""

    upstreams: list[UpstreamState]
    taps: Part[TapPage]
    sessions: Part[SessionPage]
    held: Part[SessionPage]
    pending: Part[SessionPage]
    interception: Part[InterceptionState]


async def show_overview(house: House, ask: Ask) -> Overview:
    """Never raises for silence: a part whose owner does not answer says so."""
    taps, sessions, held, pending, interception = await asyncio.gather(
        ask.part(SearchTaps(limit=SHOWN)),
        ask.part(SearchSessions(limit=SHOWN)),
        ask.part(SearchSessions(billing="held", limit=COUNTED)),
        ask.part(SearchSessions(billing="pending", limit=COUNTED)),
        ask.part(GetInterception()),
    )
    return Overview(
        upstreams=house.upstreams.now(),
        taps=taps,
        sessions=sessions,
        held=held,
        pending=pending,
        interception=interception,
    )


router = APIRouter(prefix="/overview", tags=["overview"], responses=documented(401, 403, 503))


@router.get("")
async def get_overview(ask: AsViewer, house: TheHouse) -> Overview:
    """Upstreams, the last taps and sessions, and what waits."""
    return await show_overview(house, ask)
