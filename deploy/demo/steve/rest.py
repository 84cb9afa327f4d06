"""The REST side as one ASGI application: faults, then credentials, then the endpoints."""

import asyncio
import base64
import binascii
import hmac
import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deploy.demo.steve.api import error_response, refused
from deploy.demo.steve.faults import Fault, FaultName, Faults
from deploy.demo.steve.listen import DROP
from deploy.demo.steve.password_check import PasswordCheck
from deploy.demo.steve.settings import SteveSettings

API = "/steve/api/v1"
LOGIN_PAGE = "/steve/manager/signin"
CONTROL = "/_sim"
PROXY_PAGE = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
SIGN_IN_PAGE = "<html><head><title>SteVe - Sign In</title></head><body><form>Username Password</form></body></html>"
_NUMBER = re.compile(r"/\d+(?=/|$)")


def build_app(
    settings: SteveSettings,
    faults: Faults,
    password_check: PasswordCheck,
    requests: Counter[str],
    *,
    api_routes: Iterable[BaseRoute],
    control_routes: Iterable[BaseRoute],
) -> ASGIApp:
    """`/steve/api/v1` behind credentials and faults, `/_sim` without either."""
    app = Starlette(
        routes=[Mount(API, routes=list(api_routes)), Mount(CONTROL, routes=list(control_routes))],
        exception_handlers={404: refused, 405: refused, Exception: refused},
    )
    return _Gate(app, settings, faults, password_check, requests)


# What comes after the request was carried out, instead of the answer; a dropped one has none.
_INSTEAD: Final[dict[FaultName, Callable[[], Response]]] = {
    "drop_after_commit": Response,
    "garbled_after_commit": lambda: HTMLResponse(PROXY_PAGE),
    "undecodable_after_commit": lambda: Response(b"{}", headers={"Content-Encoding": "gzip"}),
    "empty_after_commit": Response,
}


class _Gate:
    def __init__(
        self,
        app: ASGIApp,
        settings: SteveSettings,
        faults: Faults,
        password_check: PasswordCheck,
        requests: Counter[str],
    ) -> None:
        self._app = app
        self._settings = settings
        self._faults = faults
        self._password_check = password_check
        self._requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(CONTROL):
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        path: str = scope["path"]
        self._requests[f"{request.method} {_NUMBER.sub('/{pk}', path.removeprefix(API))}"] += 1
        hits = self._faults.strike(path, request.method)
        if "slow" in hits:
            await asyncio.sleep((hits["slow"].value or 0) / 1000)
        if "down" in hits or "drop_before" in hits:
            await _drop(scope, receive)
            return
        answer = self._in_the_way(request, hits)
        if answer is None:
            answer = await self._refusal(request, always="wrong_credentials" in hits)
        if answer is not None:
            await answer(scope, receive, send)
            return
        instead = next((hits[name] for name in _INSTEAD if name in hits), None)
        await self._app(scope, receive, send if instead is None else _unheard)
        if instead is not None and instead.name == "drop_after_commit":
            await _drop(scope, receive)
        elif instead is not None:
            await _INSTEAD[instead.name]()(scope, receive, send)

    @staticmethod
    def _in_the_way(request: Request, hits: dict[FaultName, Fault]) -> Response | None:
        """The answer of whoever stands between the caller and SteVe."""
        if "html" in hits:
            return HTMLResponse(PROXY_PAGE, 502)
        if "5xx" in hits:
            return error_response(request, hits["5xx"].value or 500, "Something went wrong")
        if "forbidden" in hits:
            return error_response(request, 403, "Forbidden")
        if "not_json" in hits:
            return HTMLResponse(PROXY_PAGE)
        if "login_redirect" in hits:
            return RedirectResponse(LOGIN_PAGE, 302)
        return HTMLResponse(SIGN_IN_PAGE) if request.url.path == LOGIN_PAGE else None

    async def _refusal(self, request: Request, *, always: bool) -> Response | None:
        """401, 403 or a redirect for a call without the right credentials."""
        given = self._given(request)
        if given is None:
            if self._settings.missing_credentials == "redirect":
                return RedirectResponse(LOGIN_PAGE, 302)
            if self._settings.missing_credentials == "403":
                return HTMLResponse("<html><body>403 Forbidden</body></html>", 403)
            return error_response(request, 401, "Full authentication is required to access this resource")
        await self._password_check.run()
        if always or not hmac.compare_digest(given, self._wanted()):
            return error_response(request, 401, "Bad credentials")
        return None

    def _wanted(self) -> bytes:
        if self._settings.version.has_basic_auth:
            return f"{self._settings.user}:{self._settings.password}".encode()
        return self._settings.api_key.encode()

    def _given(self, request: Request) -> bytes | None:
        if not self._settings.version.has_basic_auth:
            key = request.headers.get("STEVE-API-KEY")
            return None if key is None else key.encode()
        return basic_credentials(request.headers.get("Authorization"))


def basic_credentials(header: str | None) -> bytes | None:
    """`user:password` of an Authorization header; None when it is missing, b"" when it cannot be read."""
    if header is None:
        return None
    scheme, _, value = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(value.strip(), validate=True)
    except binascii.Error:
        return b""


async def _unheard(message: Message) -> None:
    """The answer nobody gets."""


async def _drop(scope: Scope, receive: Receive) -> None:
    """Cut the connection without an answer, and wait until it is cut."""
    scope["state"][DROP]()
    while (await receive())["type"] != "http.disconnect":
        pass
