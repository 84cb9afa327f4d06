"""The console's pages. Each has a twin under /api/v1, made by the same code."""

from typing import Final

import psycopg
from psycopg_pool import PoolClosed, PoolTimeout
from sqlalchemy.exc import DBAPIError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from services.admin_api import house as houses
from services.admin_api.access.caller import Caller
from services.admin_api.api.problems import NoSuchPath, as_problem
from services.admin_api.console import paths
from services.admin_api.console.drawing.frame import bare_frame, frame_for
from services.admin_api.console.render import Pages
from services.admin_api.console.routes import audit, cards, edits, links, overview, sign_in
from services.admin_api.console.view.problem import Problem as ProblemPage
from services.admin_api.console.view.state import Action
from services.admin_api.console.visit import html
from services.admin_api.house import House
from shared.bus.requests import NoAnswerError
from shared.contracts.problem import Problem
from shared.database.engine import is_unavailable
from shared.runtime.log import get_logger
from shared.web.problems import Unknown, log_refusal

log = get_logger(__name__)

_REFUSALS: Final = (
    Problem, NoAnswerError, HTTPException, DBAPIError, psycopg.OperationalError, PoolTimeout, PoolClosed,
)  # fmt: skip


def create_console(house: House) -> Starlette:
    pages = Pages()
    app = Starlette(
        routes=[
            pages.assets.route(),
            *sign_in.routes,
            *overview.routes,
            *links.routes,
            *edits.routes,
            *cards.routes,
            *audit.routes,
        ],
        exception_handlers={**dict.fromkeys(_REFUSALS, _on_refusal), Exception: _on_refusal},
    )
    app.router.redirect_slashes = False
    app.state.house, app.state.pages = house, pages
    return app


async def _on_refusal(request: Request, error: Exception) -> Response:
    """Every refusal is a page that says what is wrong and where to go on."""
    if isinstance(error, HTTPException) and error.status_code == 404:
        problem: Problem | None = NoSuchPath(
            "Nothing is at this address. It may have been mistyped, or be an old link."
        )
    elif isinstance(error, NoAnswerError):
        problem = Unknown(f"{error.owner} did not answer: {error.why}. Reload in a moment.")
    else:
        problem = as_problem(error)
    if problem is None:
        log.error("A page crashed.", action="http.crashed", path=request.url.path, exc_info=error)
        problem = Problem("The error is in the service's log, with the time of this request. Nothing else is affected.")
    else:
        log_refusal(problem, request.url.path)
    page = ProblemPage(
        problem.status, problem.title, problem.detail, actions=(Action("Go to the overview", paths.OVERVIEW),)
    )
    house = houses.of(request)
    caller = await _caller(house, request)
    frame = frame_for(house, caller, request) if caller else bare_frame(house)
    return html(request, "problem/show.html", frame, page, status=problem.status)


async def _caller(house: House, request: Request) -> Caller | None:
    """Who is signed in, as far as that can be told now."""
    token = house.cookies.read_session(request)
    try:
        return await house.authenticate.by_cookie(token) if token else None
    except Exception as error:
        if not is_unavailable(error):
            raise
        return None
