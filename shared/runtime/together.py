"""Several things at once, that end together."""

import asyncio
from collections.abc import Awaitable, Iterable
from typing import TypeVar

T = TypeVar("T")


async def together(work: Iterable[Awaitable[T]]) -> list[T]:
    """Do all of these at once, and wait for each, also where another one has failed: once this is over, none of them
    goes on behind the caller's back. Then the first failure is raised, or what came of them is returned, in order.
    """
    done = await asyncio.gather(*work, return_exceptions=True)
    results = []
    for one in done:
        if isinstance(one, BaseException):
            raise one
        results.append(one)
    return results
