"""Refusals over HTTP: RFC 9457 problem details, a sentence for people and a code for programs."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from shared.contracts.problem import Problem
from shared.runtime.log import get_logger

log = get_logger(__name__)

MEDIA_TYPE = "application/problem+json"


class BadJson(Problem):
    code, status, title = "invalid_json", 400, "The body is not JSON"


class BadBody(Problem):
    code, status, title = "invalid_body", 400, "The body does not have the expected form"


class Unauthorized(Problem):
    code, status, title = "unauthorized", 401, "Who are you?"


class Forbidden(Problem):
    code, status, title = "forbidden", 403, "Your role does not allow this"


class TooLarge(Problem):
    code, status, title = "body_too_large", 413, "The body is too large"


class Unknown(Problem):
    """The owner did not answer: nobody knows, and it is never shown as fine."""

    code, status, title = "unknown", 504, "The service that knows did not answer"


def problem_response(problem: Problem) -> JSONResponse:
    details = problem.details().model_dump(mode="json")
    extra = details.pop("extra")
    later = {"Retry-After": str(extra["retry_after_s"])} if "retry_after_s" in extra else {}
    return JSONResponse({**extra, **details}, status_code=problem.status, media_type=MEDIA_TYPE, headers=later)


def log_refusal(problem: Problem, path: str) -> Problem:
    """Log a refusal, in one way everywhere: by its code and its path. Queries, bodies and `detail` may hold secrets."""
    level = log.warning if problem.status >= 500 else log.info
    level("A request was refused.", action="http.refused", code=problem.code, status=problem.status, path=path)
    return problem


async def on_problem(request: Request, error: Exception) -> Response:
    """Exception handler for `Problem`."""
    if not isinstance(error, Problem):
        raise TypeError(f"on_problem got {error!r}")
    return problem_response(log_refusal(error, request.url.path))


async def on_no_answer(request: Request, error: Exception) -> Response:
    """Exception handler for `NoAnswerError`."""
    unknown = Unknown(f"{error}. It may have been done; repeat it with the same key to find out.")
    return problem_response(log_refusal(unknown, request.url.path))


async def on_crash(request: Request, error: Exception) -> Response:
    """Exception handler for everything else: logged whole, told in a sentence."""
    log.error("A request crashed.", action="http.crashed", path=request.url.path, exc_info=error)
    return problem_response(Problem("The error is in the log, with the time of this request."))
