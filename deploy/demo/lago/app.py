"""The routes of one simulated Lago, put together."""

from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from deploy.demo.lago import answers, lifecycle
from deploy.demo.lago.api_events import EventsApi
from deploy.demo.lago.api_read import ReadApi
from deploy.demo.lago.api_sim import SimApi
from deploy.demo.lago.api_write import WriteApi
from deploy.demo.lago.faults import FaultControl
from deploy.demo.lago.gate import CONTROL, Gate, Requests
from deploy.demo.lago.state import LagoState
from deploy.demo.lago.webhooks import Webhooks


def build(
    *,
    state: LagoState,
    faults: FaultControl,
    requests: Requests,
    webhooks: Webhooks,
    url: Callable[[], str],
    cut: Callable[[Scope], None],
) -> ASGIApp:
    """Lago's API under `/api/v1`, the simulator's controls under `/_sim`."""
    routes = [
        *EventsApi(state).routes(),
        *ReadApi(state, url, webhooks.signer.public_key).routes(),
        *WriteApi(state).routes(),
    ]
    app = Starlette(
        routes=[
            Mount("/api/v1", routes=routes),
            Mount(CONTROL, routes=SimApi(state, faults, requests, webhooks).routes()),
            Route("/login", _login),
        ],
        exception_handlers={404: _no_route, 405: _no_route},
    )
    return Gate(_CaughtUp(app, state), state.settings, faults, requests, cut)


class _CaughtUp:
    """Lets the clock do its work before each request: periods close, subscriptions start and end."""

    def __init__(self, app: ASGIApp, state: LagoState) -> None:
        self._app = app
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            lifecycle.catch_up(self._state)
        await self._app(scope, receive, send)


async def _login(request: Request) -> Response:
    del request
    return answers.html(answers.HTML_LOGIN, 200)


async def _no_route(request: Request, error: Exception) -> Response:
    del request, error
    return answers.no_route()
