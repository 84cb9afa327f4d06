"""One trace from the tap to the audit entry: W3C trace context travels in outbox rows and messages."""

import os

from opentelemetry import context, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

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


def from_traceparent(traceparent: str | None) -> context.Context:
    """The context to start a span in; a missing or broken header starts a new trace."""
    return _W3C.extract({"traceparent": traceparent} if traceparent else {}, context=context.Context())
