"""Who would only wait for another in the database waits here, and holds no connection meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from weakref import WeakValueDictionary


class NoTurn(Exception):  # noqa: N818 - nothing went wrong
    """Too many came before."""


class Turns:
    """One at a time for each name, in this process, first come first served. What nobody waits for takes no room."""

    def __init__(self, *, wait_s: float) -> None:
        self._wait_s = wait_s
        self._by_name: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def of(self, *names: str) -> AsyncIterator[None]:
        """Wait for a turn of each, one after the other. All name them in the same order, the most contended last.

        :raises NoTurn: when they do not come within `wait_s`.
        """
        async with AsyncExitStack() as held:
            try:
                async with asyncio.timeout(self._wait_s):
                    for name in names:
                        await held.enter_async_context(self._by_name.setdefault(name, asyncio.Lock()))
            except TimeoutError:
                raise NoTurn from None
            yield
