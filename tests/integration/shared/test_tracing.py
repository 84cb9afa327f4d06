"""One trace from an HTTP request through a question and an outbox to whoever handles the event."""

import asyncio
from collections.abc import Iterator

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from shared.contracts.event import Envelope
from shared.contracts.events.sync import CardDiscovered
from shared.contracts.identity import Cause
from shared.database.engine import Write
from shared.runtime import tracing
from shared.runtime.service import Service
from shared.runtime.supervisor import Every
from shared.web.tracing import Traced
from tests.databases import TestDatabase
from tests.integration.shared.conftest import CAUSE, Toy, Write1, card, running
from tests.waiting import until

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"


def current() -> str:
    return format(trace.get_current_span().get_span_context().trace_id, "032x")


@pytest.fixture(scope="module", autouse=True)
def spans() -> Iterator[None]:
    """Real spans, as in a service."""
    if not hasattr(trace.get_tracer_provider(), "add_span_processor"):
        tracing.configure("test")
    return iter([None])


class Seen:
    """In which trace each step was."""

    def __init__(self) -> None:
        self.command = self.handled = ""

    def wire(self, service: Service) -> None:
        async def write(tx: Write, _: Write1, cause: Cause) -> Toy:
            self.command = current()
            await service.outbox.add(tx, card(), cause)
            return Toy(text="done")

        service.dispatcher.command(Write1, write)

    async def handle(self, _: Write, __: CardDiscovered, ___: Envelope) -> None:
        self.handled = current()


@pytest.mark.parametrize("given", [TRACEPARENT, None, "nonsense"])
async def test_an_http_request_and_all_that_follows_are_one_trace(
    database: TestDatabase, broker: str, given: str | None
) -> None:
    """The caller's trace goes on, or a new one begins: through the request, the outbox row and the message."""
    seen, first = Seen(), ""
    async with running(database.admin_url, broker, handler=seen.handle, wire=seen.wire) as toy:

        async def ask(_: HttpRequest) -> Response:
            nonlocal first
            first = current()
            await toy.service.requester.ask(Write1(text="x"), actor=CAUSE.actor, key="k")
            return Response()

        app = Traced(Starlette(routes=[Route("/", ask)]))
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            await client.get("/", headers={"traceparent": given} if given else {})

        async def handled() -> str:
            return seen.handled

        await until(handled)
    assert int(first, 16) != 0
    assert (seen.command, seen.handled) == (first, first)
    assert (first == TRACE) == (given == TRACEPARENT)


async def test_each_turn_of_a_job_is_a_trace_of_its_own() -> None:
    """What a periodic job does can be followed, and two turns can be told apart."""
    turns: list[str] = []
    stop = asyncio.Event()

    async def job() -> None:
        turns.append(current())
        if len(turns) == 2:
            stop.set()

    await Every("a-job", 0.01, job).run(stop)
    assert len(set(turns)) == 2
    assert int(turns[0], 16) != 0


async def test_a_crash_leaves_with_its_trace_and_without_its_secrets() -> None:
    """Whoever collects traces learns what failed; passwords in an error's words stay here, as they do in logs."""

    async def crash(_: HttpRequest) -> Response:
        raise ConnectionError("no answer from amqp://user:s3cret@host/")

    kept = InMemorySpanExporter()
    provider = trace.get_tracer_provider()
    assert isinstance(provider, TracerProvider)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    transport = httpx.ASGITransport(Traced(Starlette(routes=[Route("/", crash)])), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.get("/")).status_code == 500
    [failed] = kept.get_finished_spans()
    assert failed.status.description is not None
    assert failed.status.description.startswith("ConnectionError: no answer from amqp://")
    assert "s3cret" not in failed.to_json()
