"""How SteVe, Lago and the broker stand."""

from fastapi import APIRouter

from services.admin_api.api.deps import AsViewer, TheHouse
from services.admin_api.api.paging import Page
from services.admin_api.api.problems import documented
from services.admin_api.upstreams import UpstreamState

router = APIRouter(prefix="/upstreams", tags=["upstreams"], responses=documented(401, 403, 503))


@router.get("")
async def get_upstreams(_: AsViewer, house: TheHouse) -> Page[UpstreamState]:
    """As last heard, a few seconds ago at most; older than that is unknown."""
    return Page(items=house.upstreams.now())
