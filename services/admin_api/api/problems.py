"""Every refusal of the API is a problem detail (RFC 9457), whoever raised it."""

from typing import Any, Final

import psycopg
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from psycopg_pool import PoolClosed, PoolTimeout
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from services.admin_api.access.problems import TooManyAttempts
from shared.bus.requests import NoAnswerError
from shared.contracts.identity import Frozen
from shared.contracts.problem import Problem
from shared.database.engine import is_unavailable
from shared.web.problems import MEDIA_TYPE, BadJson, log_refusal, on_crash, on_no_answer, problem_response

KEY_HEADER: Final = "Idempotency-Key"


class NoSuchPath(Problem):
    code, status, title = "no_such_path", 404, "There is nothing at this address"


class WrongMethod(Problem):
    code, status, title = "wrong_method", 405, "This address does not take that method"


class NotAccepted(Problem):
    """What Starlette and FastAPI refuse by themselves, beyond 404 and 405."""

    code, status, title = "bad_request", 400, "The request could not be read"

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class InvalidRequest(Problem):
    code, status, title = "invalid_request", 422, "The request does not have the expected form"


class KeyMissing(Problem):
    code, status, title = "idempotency_key_missing", 400, "A change needs an idempotency key"

    def __init__(self) -> None:
        super().__init__(
            f"Send the header `{KEY_HEADER}` with a fresh value, such as a UUID; repeat the request with the same "
            "value when no answer came."
        )


class Unavailable(Problem):
    code, status, title = "unavailable", 503, "ExpresSync cannot work right now"

    def __init__(self) -> None:
        super().__init__("The database of the console does not answer. Nothing was changed; try again in a moment.")


class ProblemBody(Frozen):
    """RFC 9457, with a `code` for programs: the tail of `type`."""

    type: str
    title: str
    status: int
    detail: str
    code: str


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's description of the refusals that every operation may answer with."""
    words = {
        400: "No idempotency key, or not JSON",
        401: "Not signed in",
        403: "The role is too low, or the form is not ours",
        404: "Not there",
        409: "It stands differently",
        422: "Not of the expected form, or refused by its owner",
        429: "Too many attempts",
        503: "The database does not answer",
        504: "The owner did not answer: unknown",
    }
    schema = {"$ref": "#/components/schemas/ProblemBody"}
    return {status: {"description": words[status], "content": {MEDIA_TYPE: {"schema": schema}}} for status in statuses}


def as_problem(error: Exception) -> Problem | None:
    """The refusal that an exception of a library stands for; None for a fault of ours."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPException):
        return _of_http(error)
    if isinstance(error, RequestValidationError):
        return _of_validation(error)
    return Unavailable() if is_unavailable(error) else None


def _of_http(error: HTTPException) -> Problem:
    if error.status_code == 404:
        return NoSuchPath("No resource has this address; `/api/openapi.json` lists them all.")
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        return WrongMethod(f"Use {allowed} here.", allow=allowed)
    return NotAccepted(error.status_code, str(error.detail))


def _of_validation(error: RequestValidationError) -> Problem:
    errors = error.errors()
    first = errors[0]
    if first["type"] == "json_invalid":
        return BadJson(f"The body is not JSON: {first.get('ctx', {}).get('error', 'it ends too early')}.")
    if any(each["type"] == "missing" and str(each["loc"][-1]).lower() == KEY_HEADER.lower() for each in errors):
        return KeyMissing()
    # The values stay out: they may be passwords.
    faults = [
        {"where": ".".join(str(part) for part in each["loc"]), "what": each["msg"].removeprefix("Value error, ")}
        for each in errors
    ]
    return InvalidRequest(f"{faults[0]['where']}: {faults[0]['what']}.", errors=faults)


async def on_refusal(request: Request, error: Exception) -> Response:
    """Exception handler for everything that is a refusal."""
    problem = as_problem(error)
    if problem is None:
        return await on_crash(request, error)
    response = problem_response(log_refusal(problem, request.url.path))
    if isinstance(problem, TooManyAttempts):
        response.headers["Retry-After"] = str(problem.retry_after_s)
    if problem.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if isinstance(problem, WrongMethod):
        response.headers["Allow"] = str(problem.extra["allow"])
    return response


def install(app: FastAPI) -> None:
    refusals = (Problem, HTTPException, RequestValidationError, DBAPIError, psycopg.OperationalError, PoolTimeout)
    for refusal in (*refusals, PoolClosed):
        app.add_exception_handler(refusal, on_refusal)
    app.add_exception_handler(NoAnswerError, on_no_answer)
    app.add_exception_handler(Exception, on_crash)
