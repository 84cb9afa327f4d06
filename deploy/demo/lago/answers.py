"""Lago's answers: JSON bodies, pages, and the errors with the exact bodies a client has to recognise."""

from collections.abc import Callable, Sequence
from math import ceil
from typing import Any, Final, TypeVar

import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

DEFAULT_PER_PAGE: Final = 100
_T = TypeVar("_T")

HTML_500: Final = (
    "<!DOCTYPE html>\n<html>\n<head><title>We're sorry, but something went wrong (500)</title></head>\n"
    "<body><h1>We're sorry, but something went wrong.</h1></body>\n</html>\n"
)
HTML_502: Final = (
    "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n"
    "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)
HTML_LOGIN: Final = (
    "<!DOCTYPE html>\n<html>\n<head><title>Sign in</title></head>\n"
    '<body><form method="post"><input name="email"></form></body>\n</html>\n'
)


def json(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(body), status, headers, media_type="application/json; charset=utf-8")


def html(body: str, status: int, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, media_type="text/html; charset=utf-8")


def bad_request(message: str) -> Response:
    return json({"status": 400, "error": f"BadRequest: {message}"}, 400)


def unauthorized() -> Response:
    return json({"status": 401, "error": "Unauthorized"}, 401)


def forbidden(code: str) -> Response:
    return json({"status": 403, "error": "Forbidden", "code": code}, 403)


def not_found(resource: str) -> Response:
    return json({"status": 404, "error": "Not Found", "code": f"{resource}_not_found"}, 404)


def no_route() -> Response:
    return json({"status": 404, "error": "Not Found"}, 404)


def not_allowed(code: str) -> Response:
    return json({"status": 405, "error": "Method Not Allowed", "code": code}, 405)


def invalid(details: dict[str, Any]) -> Response:
    return json(
        {"status": 422, "error": "Unprocessable Entity", "code": "validation_errors", "error_details": details}, 422
    )


async def read_envelope(request: Request, name: str) -> object | None:
    """What stands under a body's only key; None when it is missing, blank, no JSON, or not sent as JSON."""
    if not request.headers.get("content-type", "").startswith("application/json"):
        return None
    try:
        body = msgspec.json.decode(await request.body())
    except msgspec.DecodeError:
        return None
    return body.get(name) if isinstance(body, dict) else None


def missing(name: str) -> Response:
    return bad_request(f"param is missing or the value is empty or invalid: {name}")


def page(name: str, found: Sequence[_T], query: QueryParams, view: Callable[[_T], dict[str, Any]]) -> Response:
    """One page of a list and its `meta`; pages count from 1, a page too far is empty."""
    number, size = _positive(query.get("page"), 1), _positive(query.get("per_page"), DEFAULT_PER_PAGE)
    pages = ceil(len(found) / size)
    items = [view(item) for item in found[(number - 1) * size : number * size]]
    meta = {
        "current_page": number,
        "next_page": number + 1 if number < pages else None,
        "prev_page": number - 1 if 1 < number <= pages else None,
        "total_pages": pages,
        "total_count": len(found),
    }
    return json({name: items, "meta": meta})


def _positive(text: str | None, default: int) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() and int(text) > 0 else default
