"""Logs: JSON for machines, coloured lines for people, secrets in neither."""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog
from opentelemetry import trace

MASK = "•••"
_SECRET_KEY = re.compile(
    r"pass(word|wd)?$|secret|token|api_?key|authorization|signature|cookie|credential|private|(^|_)pin$|^key$",
    re.IGNORECASE,
)
# user:password@ in any address, up to the last @: one that was not escaped may be part of the password, as may anything
# but a space. Too much is masked rather than too little.
_USERINFO = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)[^\s/:]*:\S*@", re.IGNORECASE)
# What libpq and others take from an address's query, or from name=value pairs.
_IN_QUERY = re.compile(
    r"(?P<name>(?<![\w-])(?:[\w-]*(?:password|passwd|secret|token|api_?key|signature)|key)=)(?:'[^']*'[^\s&;]*|[^\s&;]+)",
    re.IGNORECASE,
)
# Bearer or basic credentials inside a sentence.
_BEARER = re.compile(r"\b(?P<kind>bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE)
# PostgreSQL tells with a violated constraint all that the row was to hold: hashes, names, notes.
_ROW = re.compile(r"(?P<said>Failing row contains) \(.*?\)(?=\.(?:\n|\\n|['\"]|$))", re.DOTALL)


def mask(value: object, key: str = "") -> object:
    """The same value without its secrets: by the name it stands under, and inside any text."""
    if key and _SECRET_KEY.search(key) and value is not None and not isinstance(value, bool):
        return MASK
    if isinstance(value, str):
        value = _IN_QUERY.sub(rf"\g<name>{MASK}", _USERINFO.sub(rf"\g<scheme>{MASK}@", value))
        return _ROW.sub(rf"\g<said> {MASK}", _BEARER.sub(rf"\g<kind> {MASK}", value))
    if isinstance(value, dict):
        return {k: mask(v, str(k)) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [mask(v) for v in value]
    return value


def _mask_secrets(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {key: mask(value, key) for key, value in event.items()}


def _trace_ids(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = format(context.trace_id, "032x")
        event["span_id"] = format(context.span_id, "016x")
    return event


def configure(service: str, *, log_format: str = "json", level: str = "info") -> None:
    """Send structlog and the standard library's logging through one pipeline to stderr.

    Each line has `service`, `level`, `timestamp` (UTC), `event` (a sentence) and, where something can be
    counted or alarmed on, a machine-readable `action`.
    """
    chain: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        _trace_ids,
    ]
    if log_format == "json":
        # The traceback becomes a string first, so that masking sees inside it too.
        tail: list[structlog.typing.Processor] = [
            structlog.processors.format_exc_info,
            _mask_secrets,
            structlog.processors.JSONRenderer(),
        ]
    else:
        tail = [
            structlog.processors.format_exc_info,
            _mask_secrets,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ]

    def name_service(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event.setdefault("service", service)
        return event

    structlog.configure(
        processors=[
            *chain,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*chain, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, name_service, *tail],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # These repeat, line by line, what our own lines already say once.
    for noisy in ("aio_pika", "aiormq", "httpx", "httpcore", "uvicorn.access", "psycopg.pool", "faststream"):
        logging.getLogger(noisy).setLevel(max(logging.ERROR, root.level))
    # It calls each refused connection an error; the part that wanted it says so, once, with what it does next.
    logging.getLogger("aiormq.connection").setLevel(logging.CRITICAL)
    # Ours say when a service starts and stops.
    logging.getLogger("uvicorn.error").setLevel(max(logging.WARNING, root.level))


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
