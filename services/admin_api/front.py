"""The first thing a request meets and the last a response passes: bounded bodies, strict headers, two applications.

Pure ASGI: nothing here holds a response back.
"""

import asyncio
from collections.abc import Mapping
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.contracts.problem import Problem
from shared.web.problems import TooLarge, log_refusal, problem_response

BODY_LIMIT: Final = 64 * 1024
BODY_TIMEOUT_S: Final = 15.0
API: Final = "/api"

HEADERS: Final[Mapping[str, str]] = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "X-Frame-Options": "DENY",
    # A page sets its own; whatever else we answer may load and run nothing.
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    # Answers concern one operator and this moment.
    "Cache-Control": "no-store",
}
"""Defaults: what an application sets itself stands."""
HTTPS_ONLY: Final = "max-age=31536000; includeSubDomains"


class TooSlow(Problem):
    code, status, title = "body_too_slow", 408, "The body did not arrive in time"


class Front:
    """`/api` is the JSON API's, the rest the console's."""

    def __init__(self, api: ASGIApp, console: ASGIApp, *, secure: bool, body_limit: int = BODY_LIMIT) -> None:
        self._api, self._console = api, console
        self._headers = {**HEADERS, **({"Strict-Transport-Security": HTTPS_ONLY} if secure else {})}
        self._limit = body_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        send = self._with_headers(send)
        try:
            receive = await self._whole_body(scope, receive)
        except Problem as problem:
            await problem_response(log_refusal(problem, scope["path"]))(scope, receive, send)
            return
        is_api = scope["path"] == API or scope["path"].startswith(f"{API}/")
        await (self._api if is_api else self._console)(scope, receive, send)

    def _with_headers(self, send: Send) -> Send:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        return send_with_headers

    async def _whole_body(self, scope: Scope, receive: Receive) -> Receive:
        """Read the body before anybody works on it, at most so much and for so long.

        :raises TooLarge: by its declared length, or as soon as that much has come in. :raises TooSlow: in time.
        """
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._limit:
            raise TooLarge(f"The body has {int(declared)} bytes; {self._limit} are allowed.")
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        break
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
                    if len(body) > self._limit:
                        raise TooLarge(f"The body has more than the {self._limit} bytes that are allowed.")
        except TimeoutError:
            raise TooSlow(f"The body did not arrive within {BODY_TIMEOUT_S:g} s; send it again.") from None
        return _replay(bytes(body), receive)


def _replay(body: bytes, receive: Receive) -> Receive:
    told = False

    async def receive_again() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again
