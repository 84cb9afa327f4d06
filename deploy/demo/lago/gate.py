"""What stands before Lago's routes: faults, the key, rate limits, a few worker threads, and counters."""

import asyncio
import math
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deploy.demo.lago import answers
from deploy.demo.lago.faults import Fault, FaultControl
from deploy.demo.lago.settings import LagoSettings, RateLimits

CONTROL: Final = "/_sim"
_BEFORE: Final = ("down", "drop_before")


class Requests:
    """What was asked so far, `/_sim` left out."""

    def __init__(self) -> None:
        self.total = 0
        self.by_route: Counter[str] = Counter()  # "POST /api/v1/events/batch"; ids in paths as sent
        self.by_status: Counter[int] = Counter()  # 0: the connection was cut
        self.in_flight = 0
        self.most_in_flight = 0

    def count(self, method: str, path: str) -> int:
        """Requests with this method whose path starts so."""
        start = f"{method} {path}"
        return sum(number for route, number in self.by_route.items() if route.startswith(start))


class RateLimiter:
    """So many requests in any second, counted apart for ingestion, current usage and the rest."""

    def __init__(self, limits: RateLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._windows: dict[str, tuple[int, int]] = {}  # kind: the second, requests in it

    def take(self, method: str, path: str) -> tuple[bool, dict[str, str]]:
        """Whether the request may pass, and the `X-RateLimit-*` headers (none without a limit)."""
        kind, limit = self._limit(method, path)
        if limit is None:
            return True, {}
        now = self._clock()
        second, used = self._windows.get(kind, (-1, 0))
        if second != int(now):
            second, used = int(now), 0
        passes = used < limit
        used += passes
        self._windows[kind] = (second, used)
        reset = max(1, math.ceil(second + 1 - now))
        return passes, limit_headers(limit, limit - used, reset)

    def _limit(self, method: str, path: str) -> tuple[str, int | None]:
        if method == "POST" and path.startswith("/api/v1/events"):
            return "ingestion", self._limits.ingestion
        if path.endswith("/current_usage"):
            return "current_usage", self._limits.current_usage
        return "other", self._limits.other


def limit_headers(limit: int, remaining: int, reset: int) -> dict[str, str]:
    """`reset` is the number of seconds until the limit is fresh, no instant. There is no `Retry-After`."""
    return {
        "X-RateLimit-Limit": str(limit),
        "X-RateLimit-Remaining": str(remaining),
        "X-RateLimit-Reset": str(reset),
    }


class Gate:
    """Wraps the routes. `cut` drops a client's connection without a byte of an answer."""

    def __init__(
        self,
        app: ASGIApp,
        settings: LagoSettings,
        faults: FaultControl,
        requests: Requests,
        cut: Callable[[Scope], None],
    ) -> None:
        self._app = app
        self._key = f"Bearer {settings.api_key}".encode()
        self._faults = faults
        self._requests = requests
        self._cut = cut
        self._limiter = RateLimiter(settings.limits)
        self._threads = asyncio.Semaphore(settings.threads)
        self.recent: deque[str] = deque(maxlen=200)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(CONTROL):
            await self._app(scope, receive, send)
            return
        requests = self._requests
        route = f"{scope['method']} {scope['path']}"
        requests.total += 1
        requests.by_route[route] += 1
        requests.in_flight += 1
        requests.most_in_flight = max(requests.most_in_flight, requests.in_flight)
        status = 0
        try:
            status = await self._serve(scope, receive, send)
        finally:
            requests.in_flight -= 1
            requests.by_status[status] += 1
            self.recent.append(f"{route} {status}")

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> int:
        """Returns the status that was sent, 0 for a connection that was cut."""
        faults = {fault.name: fault for fault in self._faults.take(scope["method"], scope["path"])}
        if any(name in faults for name in _BEFORE):
            return await self._drop(scope, receive)
        body = await _read(receive)
        if body is None:
            return 0
        async with self._threads:
            if "slow" in faults:
                await asyncio.sleep(faults["slow"].value / 1000)
            answer, headers = self._refuse(scope, faults)
            if answer is not None:
                await answer(scope, receive, send)
                return answer.status_code
            recorder = _Recorder(send, headers, silent="drop_after_commit" in faults)
            await self._app(scope, _Replay(body, receive), recorder)
        if "drop_after_commit" in faults:
            return await self._drop(scope, receive)
        return recorder.status

    async def _drop(self, scope: Scope, receive: Receive) -> int:
        self._cut(scope)
        # Until the server has noticed, it would answer 500 for an application that returns without a word.
        while (await receive())["type"] != "http.disconnect":
            pass
        return 0

    def _refuse(self, scope: Scope, faults: dict[str, Fault]) -> tuple[Response | None, dict[str, str]]:
        """The answer of whoever stands in the way, and the headers for an answer of the routes."""
        for name, make in _FAULTY.items():
            if name in faults:
                return make(faults[name]), {}
        if Request(scope).headers.get("authorization", "").encode() != self._key:
            return answers.unauthorized(), {}
        passes, headers = self._limiter.take(scope["method"], scope["path"])
        return (None if passes else too_many(headers)), headers


class _Recorder:
    """Passes an answer on with more headers, or swallows it; remembers its status."""

    def __init__(self, send: Send, headers: dict[str, str], *, silent: bool) -> None:
        self._send = send
        self._headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        self._silent = silent
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message["headers"], *self._headers]}
        if not self._silent:
            await self._send(message)


def too_many(headers: dict[str, str]) -> Response:
    return answers.json({"status": 429, "error": "Too Many Requests"}, 429, headers)


def _http_500(fault: Fault) -> Response:
    del fault
    return answers.json({"status": 500, "error": "Internal Server Error"}, 500)


def _http_503(fault: Fault) -> Response:
    del fault
    return PlainTextResponse("Service Unavailable", 503)


def _html_502(fault: Fault) -> Response:
    del fault
    return answers.html(answers.HTML_502, 502)


def _empty_5xx(fault: Fault) -> Response:
    return Response(status_code=fault.value)


def _login_redirect(fault: Fault) -> Response:
    del fault
    return answers.html(answers.HTML_LOGIN, 302, {"Location": "/login"})


def _http_429(fault: Fault) -> Response:
    return too_many(limit_headers(50, 0, fault.value))


_FAULTY: Final[dict[str, Callable[[Fault], Response]]] = {
    "http_500": _http_500,
    "http_503": _http_503,
    "html_502": _html_502,
    "empty_5xx": _empty_5xx,
    "login_redirect": _login_redirect,
    "http_401": lambda _: answers.unauthorized(),
    "no_route": lambda _: answers.no_route(),
    "http_403": lambda _: answers.forbidden("feature_unavailable"),
    "not_json": lambda _: answers.html(answers.HTML_LOGIN, 200),
    "http_429": _http_429,
}


async def _read(receive: Receive) -> bytes | None:
    """The whole body, None when the client went away before its end.

    Read before anything else, as Lago's server and the proxies before it do: a request that has arrived is
    served even if its client gives up, and one that is refused leaves the connection usable.
    """
    parts: list[bytes] = []
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


class _Replay:
    """Gives a body that was read already to the routes."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}
