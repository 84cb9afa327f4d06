"""One replica at a time: the claim is renewed beside the work, and checked in the transaction of every write."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from services.sync.runs import store
from shared.database.engine import Database, Write
from shared.runtime.clock import Clock
from shared.runtime.log import get_logger

log = get_logger(__name__)

BEAT_S: Final = 1.0
# Ten beats. A loop, or a database, that stands still for some seconds keeps its claim; and what begins while a process
# dies in a turn is still seen within 30 s: these, the start of the next process and the time of a look.
LEASE: Final = timedelta(seconds=10)


class ClaimLostError(Exception):
    """Another replica took the run over; this one stops."""


class Claim:
    """The right to look at `steve_id` and to write about its runs. Whoever has it owns every run that is under way."""

    def __init__(self, database: Database, *, steve_id: str, by: UUID, clock: Clock) -> None:
        self._database, self._steve_id, self._by, self._clock = database, steve_id, by, clock

    async def take(self, tx: Write, *, hurry: bool) -> Any:  # noqa: ANN401 - the schedule's row, or None
        """The schedule, where a look is due and nobody has it."""
        return await store.claim(tx, self._steve_id, self._by, self._clock(), lease=LEASE, hurry=hurry)

    async def hold(self, tx: Write) -> Any:  # noqa: ANN401 - the schedule's row
        """Renew it. Nobody can take it before this transaction ends, so what else it writes was this replica's right.

        :raises ClaimLostError:
        """
        row = await store.renew(tx, self._steve_id, self._by, lease=LEASE)
        if row is None:
            raise ClaimLostError
        return row

    async def while_held(self, work: Coroutine[Any, Any, None], beat: Callable[[Write], Awaitable[None]]) -> None:
        """Do the work, however long it takes, and call `beat` every BEAT_S with the claim renewed.

        :raises ClaimLostError: another replica has it; the work was broken off.
        """
        working, beating = asyncio.ensure_future(work), asyncio.ensure_future(self._beat(beat))
        try:
            await asyncio.wait((working, beating), return_when=asyncio.FIRST_COMPLETED)
            await (working if working.done() else beating)
        finally:
            working.cancel()
            beating.cancel()
            await asyncio.gather(working, beating, return_exceptions=True)

    async def _beat(self, beat: Callable[[Write], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            try:
                async with self._database.write() as tx:
                    await self.hold(tx)
                    await beat(tx)
            except ClaimLostError:
                raise
            except Exception as error:
                # The lease lasts for many beats, and no write goes by it alone.
                log.warning("A claim could not be renewed.", action="run.beat_failed", error=repr(error), exc_info=True)
