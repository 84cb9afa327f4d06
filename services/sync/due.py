"""Work that a clock which was ahead put off to a time that only it would have reached: it is due now."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import sqlalchemy as sa

from services.sync.clocks import AHEAD
from shared.database.engine import Database
from shared.runtime.clock import Clock
from shared.runtime.log import get_logger

log = get_logger(__name__)

MOST: Final = 20_000


@dataclass(frozen=True, slots=True)
class Kind:
    """Rows that are due at `at`, none of which is ever put off for longer than `longest`."""

    at: sa.Column[Any]
    which: sa.ColumnElement[bool]
    longest: timedelta


class Due:
    def __init__(self, database: Database, kinds: Sequence[Kind], *, clock: Clock) -> None:
        self._database, self._kinds, self._clock = database, kinds, clock

    async def bring_forward(self) -> None:
        """Have done now what is put off for longer than it ever is.

        Whoever claims what is due asks for one end of an index, each second. To ask for both there would read it whole.
        """
        for kind in self._kinds:
            moved = await self._bring_forward(kind)
            if moved:
                table = kind.at.table.name
                log.warning("Put off by a clock that was ahead.", action="due.brought_forward", table=table, rows=moved)

    async def _bring_forward(self, kind: Kind) -> int:
        now, table = self._clock(), kind.at.table
        taken = (
            sa.select(*table.primary_key)
            .where(kind.which, kind.at > now + kind.longest + AHEAD)
            .limit(MOST)
            .with_for_update(skip_locked=True)
            .cte("taken")
        )
        mine = (column == taken.c[column.name] for column in table.primary_key)
        async with self._database.write() as tx:
            result = await tx.execute(sa.update(table).where(*mine).values({kind.at: now}))
        return result.rowcount
