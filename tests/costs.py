"""What thousands of tests would each pay for anew, and none of them is about."""

import functools
import ssl
from pathlib import Path
from typing import Any, Final

import certifi
import pytest
import structlog

# The longest first: what begins last is what the others wait for.
ORDER: Final = ("e2e", "faults", "integration", "browser", "contract", "unit")

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


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    root = Path(__file__).parent
    items.sort(key=lambda item: ORDER.index(item.path.relative_to(root).parts[0]))
