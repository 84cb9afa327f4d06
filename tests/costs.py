"""What thousands of tests would each pay for anew, and none of them is about."""

import functools
import ssl
from typing import Any

import certifi
import structlog

_create = ssl.create_default_context


@functools.cache
def _public_authorities() -> ssl.SSLContext:
    return _create(cafile=certifi.where())


def _create_once(*given: Any, **named: Any) -> ssl.SSLContext:  # noqa: ANN401 - whatever ssl takes
    """Httpx reads all public certificate authorities for each client, 40 ms each time, also for plain HTTP."""
    return _public_authorities() if not given and named == {"cafile": certifi.where()} else _create(*given, **named)


def pytest_configure() -> None:
    ssl.create_default_context = _create_once
    # As structlog does by itself, but for tracebacks: to colour one takes 100 ms, in which a service's loop stands.
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.StackInfoRenderer(),
            structlog.dev.set_exc_info,
            structlog.processors.TimeStamper(fmt="%H:%M:%S.%f", utc=True),
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        ]
    )
