"""What thousands of tests would each pay for anew, and none of them is about."""

import gc
import ssl
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

import pytest
import structlog
from sqlalchemy.dialects.postgresql.psycopg import PGDialectAsync_psycopg
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.util import LRUCache

from shared.database import engine
from tests.authorities import create_once

# Much of these tests is waiting for processes: spread over the others, they leave the cores to them. The longest come
# first, and all some time before the end, so that none is what the others wait for.
SLOW: Final = ("e2e", "faults", "integration/deploy", "integration/local_infra")
QUICK: Final = ("integration", "browser", "contract", "unit")
SLOW_UNTIL: Final = 0.8


_compiled: Final[LRUCache[Any, Any]] = LRUCache(5_000)


def _create_engine_that_shares(*given: Any, **named: Any) -> AsyncEngine:  # noqa: ANN401 - whatever SQLAlchemy takes
    """A service makes one engine, which puts a statement into SQL once, 2 ms each; here each test makes some."""
    return create_async_engine(*given, **named, execution_options={"compiled_cache": _compiled})


def _is_alike(one: object, other: object) -> bool:
    return type(one) is type(other)


def _alike(one: object) -> int:
    return hash(type(one))


def pytest_configure() -> None:
    ssl.create_default_context = create_once
    vars(engine)["create_async_engine"] = _create_engine_that_shares
    # What was put into SQL for one engine is as good for another: they are told apart by this only.
    PGDialectAsync_psycopg.__eq__ = _is_alike  # type: ignore[method-assign]
    PGDialectAsync_psycopg.__hash__ = _alike  # type: ignore[assignment,method-assign]
    # Httpcore asks for it at each request, and searches the whole path where it is not installed.
    sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type]
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


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported and collected stays: to look for garbage in it, again and again, takes a second and a half."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    root = Path(__file__).parent
    places = {file: place_of(file.relative_to(root)) for file in dict.fromkeys(item.path for item in items)}
    order: dict[Path, float] = {}
    for slow, until in ((True, SLOW_UNTIL), (False, 1.0)):
        some = sorted((file for file, place in places.items() if place[0] is slow), key=lambda file: places[file][1])
        order |= {file: until * number / len(some) for number, file in enumerate(some)}
    items.sort(key=lambda item: order[item.path])


def place_of(file: Path) -> tuple[bool, int]:
    """Whether a file of tests is slow, and its folder's place among such."""
    for slow, folders in ((True, SLOW), (False, QUICK)):
        for number, folder in enumerate(folders):
            if file.is_relative_to(folder):
                return slow, number
    raise LookupError(f"Say in {__name__} whether {file} is slow.")
