"""How things stand, at a glance."""

from starlette.responses import Response
from starlette.routing import Route

from services.admin_api.api.overview import show_overview
from services.admin_api.console import paths
from services.admin_api.console.drawing.overview import overview
from services.admin_api.console.visit import Visit, signed_in


async def show(visit: Visit) -> Response:
    found = await show_overview(visit.house, visit.ask)
    return visit.html("overview/show.html", overview(found), visit.frame.at("overview", twin="/api/v1/overview"))


routes = [Route(paths.OVERVIEW, signed_in(show), methods=["GET"])]
