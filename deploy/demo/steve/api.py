"""What the REST endpoints share: answers, errors, and reading parameters as Spring does."""

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from deploy.demo.steve.settings import utc_now
from deploy.demo.steve.views import ApiError, iso

NOT_UNDERSTOOD = "Error understanding the request"


class ApiRefusalError(Exception):
    """An answer other than success; becomes SteVe's error body."""

    def __init__(self, status: int, message: str | None) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message


def bad_request(message: str = NOT_UNDERSTOOD) -> ApiRefusalError:
    return ApiRefusalError(400, message)


def not_found(message: str) -> ApiRefusalError:
    return ApiRefusalError(404, message)


def json_response(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def error_response(request: Request, status: int, message: str | None) -> Response:
    url = request.url.replace(query="")
    error = ApiError(
        timestamp=iso(utc_now()),
        status=status,
        error=HTTPStatus(status).phrase,
        message=message,
        path=str(url),
    )
    return json_response(error, status)


async def refused(request: Request, error: Exception) -> Response:
    if isinstance(error, ApiRefusalError):
        return error_response(request, error.status, error.message)
    if isinstance(error, HTTPException):
        return error_response(request, error.status_code, error.detail)
    return error_response(request, 500, str(error))


async def read_json(request: Request) -> dict[str, Any]:
    """The body as an object. Malformed JSON is SteVe's 500, not a 400."""
    try:
        return msgspec.json.decode(await request.body(), type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ApiRefusalError(500, f"JSON parse error: {error}") from error


def parse_moment(text: str) -> datetime:
    """ISO 8601; a missing offset is UTC. ValueError when it is no date."""
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def path_int(request: Request, name: str) -> int:
    return _int(request.path_params[name])


def text_param(request: Request, name: str) -> str | None:
    """A query parameter, trimmed; empty is the same as absent (Spring's StringTrimmerEditor)."""
    value = request.query_params.get(name, "").strip()
    return value or None


def int_param(request: Request, name: str) -> int | None:
    value = text_param(request, name)
    return None if value is None else _int(value)


def list_param(request: Request, name: str, *, has_lists: bool) -> list[str]:
    """A repeated or comma-separated parameter. Before 3.11 there are no lists: the first value counts, unsplit."""
    given = request.query_params.getlist(name)
    if not has_lists:
        return [value.strip() for value in given[:1] if value.strip()]
    return [part.strip() for value in given for part in value.split(",") if part.strip()]


def int_list_param(request: Request, name: str, *, has_lists: bool) -> list[int]:
    return [_int(value) for value in list_param(request, name, has_lists=has_lists)]


def choice_param(request: Request, name: str, choices: tuple[str, ...], default: str) -> str:
    value = text_param(request, name) or default
    if value not in choices:
        raise bad_request()
    return value


def moment_param(request: Request, name: str) -> datetime | None:
    value = text_param(request, name)
    if value is None:
        return None
    try:
        return parse_moment(value)
    except ValueError as error:
        raise bad_request() from error


def _int(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise bad_request(f"For input string: {text!r}") from error
