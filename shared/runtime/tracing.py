"""One trace from what came in to the audit entry: W3C trace context travels in requests, outbox rows and messages.

A span begins with each HTTP request (`shared.web.tracing`), turn of a periodic job, request and message.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry import context, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.runtime.log import mask

_W3C = TraceContextTextMapPropagator()


def configure(service: str) -> None:
    """Create real spans. They leave the process only where OTEL_EXPORTER_OTLP_ENDPOINT is set."""
    provider = TracerProvider(resource=Resource.create({"service.name": f"expressync-{service}"}))
    if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        # Loaded only when asked for: it is the heaviest import of all.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def tracer() -> trace.Tracer:
    return trace.get_tracer("expressync")


def current_traceparent() -> str | None:
    """The header that continues the current trace elsewhere (W3C Trace Context), or None outside a span."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier)
    return carrier.get("traceparent")


def from_traceparent(traceparent: object) -> context.Context:
    """The context to start a span in; a missing or broken header starts a new trace, also one that is no text."""
    carrier = {"traceparent": traceparent} if isinstance(traceparent, str) else {}
    return _W3C.extract(carrier, context=context.Context())


@contextmanager
def continued(traceparent: object) -> Iterator[None]:
    """Spans that start inside go on with the sender's trace; a missing or broken header starts a new one."""
    token = context.attach(from_traceparent(traceparent))
    try:
        yield
    finally:
        context.detach(token)


@contextmanager
def span(name: str, **given: Any) -> Iterator[None]:  # noqa: ANN401 - what start_as_current_span takes
    """A span that ends as failed with what is raised inside, which leaves the process here without its secrets."""
    current = tracer().start_as_current_span(name, record_exception=False, set_status_on_exception=False, **given)
    with current as begun:
        try:
            yield
        except Exception as error:
            begun.set_status(trace.StatusCode.ERROR, str(mask(f"{type(error).__name__}: {error}")))
            raise


@contextmanager
def turn(name: str) -> Iterator[None]:
    """One turn of a periodic job: a trace of its own."""
    with span(f"job {name}", context=context.Context()):
        yield
