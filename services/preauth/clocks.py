"""One time for all processes: the database's, which each follows by its own clock.

Rows carry times of the process that wrote them, and another one judges by them what is over: a scan, a session, a tap
that nobody answered. So each looks every few seconds how far its clock is from the database's, and goes by that from
then on. Nobody waits for the look.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.preauth.tables import replica_clock
from shared.database.engine import Database, Read
from shared.runtime.clock import Clock

# A process that has not said so for this long decides nothing any more.
FORGOTTEN_AFTER: Final = timedelta(seconds=60)

Reads = Callable[[Read], Awaitable[datetime]]


async def database_time(tx: Read) -> datetime:
    now: datetime = (await tx.execute(sa.select(sa.func.clock_timestamp()))).scalar_one()
    return now


class Clocks:
    """`now` is this process's clock, set by the database's. `look` is called every few seconds, and first at the start.

    Before its first look a process goes by its own clock; so it says how far behind it was found, for those who close
    taps.
    """

    def __init__(
        self, database: Database, *, instance: UUID, clock: Clock, database_time: Reads = database_time
    ) -> None:
        self._database, self._instance, self._clock = database, instance, clock
        self._database_time = database_time
        self._set_by = timedelta()

    def now(self) -> datetime:
        return self._clock() + self._set_by

    async def look(self) -> None:
        async with self._database.write() as tx:
            now, behind, unsure = await self._compare(tx)
            statement = pg.insert(replica_clock).values(instance=self._instance, behind=behind, seen_at=now)
            await tx.execute(
                statement.on_conflict_do_update(
                    index_elements=[replica_clock.c.instance], set_={"behind": behind, "seen_at": now}
                )
            )
            await tx.execute(replica_clock.delete().where(replica_clock.c.seen_at < now - FORGOTTEN_AFTER))
        if abs(behind) > unsure:
            # Where it may as well be right it stays, so that it does not tremble, nor believe an answer that was slow.
            self._set_by += behind

    async def past(self, tx: Read) -> datetime:
        """What it is by the clock that is furthest behind: nobody gives a tap an earlier time from now on."""
        now, behind, _ = await self._compare(tx)
        others = sa.select(sa.func.max(replica_clock.c.behind)).where(
            replica_clock.c.instance != self._instance, replica_clock.c.seen_at >= now - FORGOTTEN_AFTER
        )
        furthest: timedelta | None = (await tx.execute(others)).scalar_one()
        return now - max(behind, behind if furthest is None else furthest)

    async def _compare(self, tx: Read) -> tuple[datetime, timedelta, timedelta]:
        """The database's time, how far ours is behind it, and by how much that may be wrong."""
        before = self.now()
        now = await self._database_time(tx)
        unsure = (self.now() - before) / 2
        return now, now - (before + unsure), unsure
