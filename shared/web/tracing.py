"""A trace begins where a request comes in, or goes on from its caller's `traceparent`."""

from opentelemetry import trace
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.runtime.tracing import from_traceparent, span


class Traced:
    """Pure ASGI: a span around each request, in which everything it leads to finds its trace.

    The hook goes without: it answers before anything else happens, and its time is counted in milliseconds.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = from_traceparent(Headers(scope=scope).get("traceparent"))
        # Named by its method alone: addresses carry ids, and there would be as many names as cards.
        with span(
            f"HTTP {scope['method']}",
            context=context,
            kind=trace.SpanKind.SERVER,
            attributes={"url.path": scope["path"]},
        ):
            await self._app(scope, receive, send)
