"""One upstream's HTTP: every call ends in a value of the expected form or in an `UpstreamError`."""

import json
import math
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import httpx
from aiolimiter import AsyncLimiter
from pydantic import TypeAdapter, ValidationError

from services.sync.upstreams.breaker import Breaker
from services.sync.upstreams.errors import (
    MisconfiguredError,
    NotAskedError,
    RefusedError,
    UnavailableError,
    UpstreamError,
)
from shared.contracts.events.sync import Upstream

T = TypeVar("T")
Query = Mapping[str, str | int | Sequence[str]]
Watch = Callable[[Upstream, UpstreamError | None], None]

# Where a rate limit does not say how long, and the most that is believed.
DEFAULT_RESET_S: Final = 1.0
LONGEST_RESET_S: Final = 300.0
_ANYTHING: Final[TypeAdapter[Any]] = TypeAdapter(Any)
# Where HTTP is not kept to, h11 quotes the bytes: of a header of ours, with its key, or of one with a session's cookie.
_QUOTED: Final = re.compile(r":?\s*(?:bytearray\()?b['\"]")


def _any_answer(_path: str, _body: Mapping[str, Any]) -> bool:
    return True


class Caller:
    """`watch` hears of each outcome: None when the upstream answered as it should, if only to refuse.

    `is_its_own` tells from a path and the body of its 404 whether the upstream says so of what it has, and not
    whoever stands in its place.
    """

    def __init__(
        self,
        upstream: Upstream,
        client: httpx.AsyncClient,
        breaker: Breaker,
        watch: Watch,
        budget: AsyncLimiter | None = None,
        *,
        is_its_own: Callable[[str, Mapping[str, Any]], bool] = _any_answer,
    ) -> None:
        self._upstream, self._client, self._breaker, self._watch = upstream, client, breaker, watch
        self._budget, self._is_its_own = budget, is_its_own
        self.requests = 0

    async def close(self) -> None:
        await self._client.aclose()

    @property
    def is_failing(self) -> bool:
        return self._breaker.is_failing

    @property
    def is_left_alone(self) -> bool:
        """Whether a call that is not urgent would not be made now."""
        return self._breaker.is_open

    async def call(
        self,
        method: str,
        path: str,
        form: TypeAdapter[T],
        *,
        query: Query | None = None,
        body: bytes | None = None,
        urgent: bool = False,
        timeout_s: float | None = None,
        quoting: bool = True,
    ) -> T:
        """Ask, and read the answer as `form`.

        :param urgent: a person waits: ask even while the circuit is open.
        :param quoting: False: what is sent holds a secret, so an error says nothing in the upstream's own words.
        :raises RefusedError: a 4xx about this request.
        :raises MisconfiguredError: 401, 403, a redirect, a 404 that is not its own, or something that is not JSON of
            the right form, or cannot be decoded.
        :raises UnavailableError: no answer, 5xx or 429. A write may have been carried out.
        :raises NotAskedError: the circuit is open; nothing was sent.
        """

        async def ask() -> T:
            return self._read(await self._send(method, path, query, body, timeout_s), form, quoting=quoting)

        return await self._guarded(ask, urgent=urgent)

    async def first_bytes(self, path: str, count: int, *, timeout_s: float) -> bytes:
        """The first bytes of a long JSON answer, of which the rest is not read. Errors as in `call`."""

        async def ask() -> bytes:
            self.requests += 1
            try:
                async with self._client.stream("GET", path, timeout=timeout_s) as answer:
                    if answer.status_code != 200 or not _is_json(answer):
                        await answer.aread()
                        self._read(answer, _ANYTHING)
                    async for chunk in answer.aiter_bytes(count):
                        return chunk
                    return b""
            except httpx.RequestError as error:
                raise self._unanswered(error) from error

        return await self._guarded(ask, urgent=False)

    async def _guarded(self, ask: Callable[[], Awaitable[T]], *, urgent: bool) -> T:
        wait_s = 0.0 if urgent else self._breaker.wait_s()
        if wait_s > 0:
            raise NotAskedError(self._upstream, wait_s)
        if self._budget is not None and not urgent:
            await self._budget.acquire()
        try:
            value = await ask()
        except RefusedError:
            self._succeeded()
            raise
        except UpstreamError as error:
            if error.reason == "rate_limited":
                self._breaker.pause(error.retry_after_s or DEFAULT_RESET_S)
            else:
                self._breaker.failed(error.retry_after_s)
            self._watch(self._upstream, error)
            raise
        self._succeeded()
        return value

    def _succeeded(self) -> None:
        self._breaker.succeeded()
        self._watch(self._upstream, None)

    async def _send(
        self, method: str, path: str, query: Query | None, body: bytes | None, timeout_s: float | None
    ) -> httpx.Response:
        self.requests += 1
        try:
            return await self._client.request(
                method,
                path,
                params=dict(query) if query else None,
                content=body,
                headers={"Content-Type": "application/json"} if body is not None else None,
                timeout=timeout_s if timeout_s is not None else httpx.USE_CLIENT_DEFAULT,
            )
        except httpx.RequestError as error:
            raise self._unanswered(error) from error

    def _unanswered(self, error: httpx.RequestError) -> UpstreamError:
        if isinstance(error, httpx.DecodingError):
            # An answer came: what was asked for may be done.
            what = f"answered in an encoding that it names and does not keep to ({error}); is a proxy in between?"
            return MisconfiguredError(self._upstream, "not_json", what)
        if isinstance(error, httpx.TimeoutException):
            connected = not isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout)
            what = "did not answer in time" if connected else "did not accept a connection in time"
            return UnavailableError(self._upstream, "timed_out", what, sent=connected)
        # httpx's own words name the host at most.
        what = f"cannot be reached ({type(error).__name__}: {_QUOTED.split(str(error), maxsplit=1)[0]})"
        return UnavailableError(self._upstream, "unreachable", what, sent=not isinstance(error, httpx.ConnectError))

    def _read(self, answer: httpx.Response, form: TypeAdapter[T], *, quoting: bool = True) -> T:
        status = answer.status_code
        words = _words(answer) if quoting else ""
        if status == 429:
            reset = _reset_s(answer.headers.get("X-RateLimit-Reset") or answer.headers.get("Retry-After"))
            what = f"has a rate limit, which is used up for {reset:g} s"
            raise UnavailableError(self._upstream, "rate_limited", what, retry_after_s=reset)
        if status >= 500:
            raise UnavailableError(self._upstream, "server_error", f"answered {status}{words}")
        if 300 <= status < 400:
            where = _place(answer.headers.get("Location", "nowhere"))
            what = f"redirects to {where} instead of answering; the address or the credentials are wrong"
            raise MisconfiguredError(self._upstream, "redirected", what)
        if status == 401:
            raise MisconfiguredError(self._upstream, "unauthorized", "does not accept our credentials (401)")
        if status == 403:
            what = f"forbids this call (403{words}); our credentials lack a permission, or a proxy refuses us"
            raise MisconfiguredError(self._upstream, "forbidden", what)
        if not _is_json(answer):
            if status == 200 and not answer.content:
                return self._validate(form, b"null")
            what = f"answered {status} with {answer.headers.get('Content-Type', 'no type')} instead of JSON"
            raise MisconfiguredError(self._upstream, "not_json", f"{what}; is this its API's address?")
        if status >= 400:
            body = _object(answer)
            if status == 404 and not self._is_its_own(answer.request.url.path, body):
                what = f"answered 404{words}, as whoever has no such address; is this its API's address?"
                raise MisconfiguredError(self._upstream, "no_such_route", what)
            raise RefusedError(self._upstream, status, body, quoting=quoting)
        return self._validate(form, answer.content)

    def _validate(self, form: TypeAdapter[T], content: bytes) -> T:
        try:
            return form.validate_json(content)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the answer"
            what = f"answered JSON of an unexpected form ({where}: {first['msg']})"
            # Without its cause, which would repeat what came: a portal's address signs whoever has it in.
            raise MisconfiguredError(self._upstream, "unexpected_form", what) from None


def _place(location: str) -> str:
    """Where a redirect leads, without what a login may have put behind it: it goes into events and logs."""
    parts = urlsplit(location)
    host = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.netloc else ""
    return host + parts.path.partition(";")[0]


def _is_json(answer: httpx.Response) -> bool:
    return "json" in answer.headers.get("Content-Type", "").lower()


def _object(answer: httpx.Response) -> dict[str, Any]:
    try:
        body = json.loads(answer.content)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _words(answer: httpx.Response) -> str:
    """What a JSON error says, or that it is not JSON."""
    if not answer.content:
        return " without a word"
    if not _is_json(answer):
        return ", not in JSON"
    body = _object(answer)
    words = body.get("message") or body.get("code") or body.get("error")
    return f": {words}" if words else ""


def _reset_s(header: str | None) -> float:
    """Seconds from now, as Lago counts X-RateLimit-Reset (facts: Events)."""
    try:
        seconds = float(header) if header else DEFAULT_RESET_S
    except ValueError:
        return DEFAULT_RESET_S
    return min(max(seconds, 0.0), LONGEST_RESET_S) if math.isfinite(seconds) else DEFAULT_RESET_S
