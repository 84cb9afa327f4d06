"""What stands between a patched SteVe and the hooks of all replicas: it takes turns, and does harm when told to."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httpx
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send


@dataclass(frozen=True)
class HookCall:
    """A call as SteVe made it, to be sent on as often as one likes."""

    body: bytes
    headers: dict[str, str]


Forward = Callable[[HookCall], Awaitable[Response]]
Fault = Callable[[HookCall, Forward], Awaitable[Response]]


class Front:
    """An ASGI application. `hooks` are the replicas' addresses; `fault` decides what becomes of a call."""

    def __init__(self) -> None:
        self._http = httpx.AsyncClient(trust_env=False, timeout=20)
        self.hooks: list[str] = []
        self._turn = itertools.count()
        self.fault: Fault | None = None
        self.calls: list[HookCall] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        kept = {name: value for name, value in request.headers.items() if name in {"content-type", "x-signature"}}
        call = HookCall(await request.body(), kept)
        self.calls.append(call)
        answer = await (self.fault(call, self.forward) if self.fault else self.forward(call))
        await answer(scope, receive, send)

    async def forward(self, call: HookCall) -> Response:
        """The answer of the replica whose turn it is."""
        hook = self.hooks[next(self._turn) % len(self.hooks)]
        try:
            answer = await self._http.post(hook, content=call.body, headers=call.headers)
        except httpx.HTTPError:
            return Response(status_code=502)
        return Response(answer.content, answer.status_code, media_type="application/json")

    async def close(self) -> None:
        await self._http.aclose()


def answers(status: int, body: bytes) -> Fault:
    """The hook answers this, whatever it was asked."""

    async def answer(_: HookCall, __: Forward) -> Response:
        return Response(body, status, media_type="application/json")

    return answer


def question_held(seconds: float) -> Fault:
    """The call gets stuck for longer than SteVe waits, and ends with SteVe's connection."""

    async def hold(_: HookCall, __: Forward) -> Response:
        await asyncio.sleep(seconds)
        return Response(status_code=504)

    return hold


def answer_held(seconds: float) -> Fault:
    """The hook decides and answers at once, and the answer is on its way for longer than SteVe waits."""

    async def hold(call: HookCall, forward: Forward) -> Response:
        answer = await forward(call)
        await asyncio.sleep(seconds)
        return answer

    return hold


async def wrongly_signed(call: HookCall, forward: Forward) -> Response:
    """SteVe has another key than we have."""
    signature = call.headers["x-signature"]
    return await forward(HookCall(call.body, {**call.headers, "x-signature": signature[::-1]}))


async def tampered(call: HookCall, forward: Forward) -> Response:
    """Somebody on the way puts another card in."""
    return await forward(HookCall(call.body.replace(b'"idTag":"', b'"idTag":"X'), call.headers))
