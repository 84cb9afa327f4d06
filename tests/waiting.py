"""Waiting for something to become true, with a deadline instead of a sleep."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def until(probe: Callable[[], Awaitable[T]], *, within_s: float = 20.0, every_s: float = 0.1) -> T:
    """The first truthy answer of `probe`; fails with the last one after `within_s` seconds."""
    deadline = time.monotonic() + within_s
    while True:
        answer = await probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s:g} s; the last answer was {answer!r}")
        await asyncio.sleep(every_s)
