"""The clocks of several processes: each says how far its own is behind the database's, for those who close taps.

Taps carry the time of the process that received them. By another one's clock, a tap of a moment ago may seem old.
"""

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


class Clocks:
    """`tell` is called every few seconds wherever taps are decided."""

    def __init__(self, database: Database, *, instance: UUID, clock: Clock) -> None:
        self._database, self._instance, self._clock = database, instance, clock

    async def tell(self) -> None:
        async with self._database.write() as tx:
            now, behind = await self._compare(tx)
            statement = pg.insert(replica_clock).values(instance=self._instance, behind=behind, seen_at=now)
            await tx.execute(
                statement.on_conflict_do_update(
                    index_elements=[replica_clock.c.instance], set_={"behind": behind, "seen_at": now}
                )
            )
            await tx.execute(replica_clock.delete().where(replica_clock.c.seen_at < now - FORGOTTEN_AFTER))

    async def past(self, tx: Read) -> datetime:
        """What it is by the clock that is furthest behind: nobody gives a tap an earlier time from now on."""
        now, behind = await self._compare(tx)
        others = sa.select(sa.func.max(replica_clock.c.behind)).where(
            replica_clock.c.instance != self._instance, replica_clock.c.seen_at >= now - FORGOTTEN_AFTER
        )
        furthest: timedelta | None = (await tx.execute(others)).scalar_one()
        return now - max(behind, behind if furthest is None else furthest)

    async def _compare(self, tx: Read) -> tuple[datetime, timedelta]:
        """The database's time, and how far ours is behind it."""
        before = self._clock()
        now: datetime = (await tx.execute(sa.select(sa.func.clock_timestamp()))).scalar_one()
        return now, now - (before + (self._clock() - before) / 2)
