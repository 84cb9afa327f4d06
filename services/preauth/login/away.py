"""What a page or a program is told while the database is away: nothing was decided, so it may ask again."""

from starlette.requests import Request
from starlette.responses import Response

from shared.contracts.problem import Problem
from shared.database.engine import is_busy, is_unavailable
from shared.runtime.log import get_logger
from shared.web.problems import on_crash, on_problem

log = get_logger(__name__)


class Away(Problem):
    """Pages know its code, and go on asking."""

    code, status, title = "unavailable", 503, "ExpresSync cannot work right now"


def is_away(error: Exception) -> bool:
    return is_unavailable(error) or is_busy(error)


async def on_failure(request: Request, error: Exception) -> Response:
    """Exception handler for everything that is no refusal of ours."""
    if is_away(error):
        # A statement that is always too slow looks the same; its kind tells. What it says may hold a secret.
        log.warning(
            "The database did not answer a page.", action="page.away", path=request.url.path, error=type(error).__name__
        )
        return await on_problem(request, Away("The database does not answer. Try again in a moment."))
    return await on_crash(request, error)
