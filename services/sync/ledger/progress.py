"""Billing running sessions as they go: by the meter values that SteVe has, settled at the end like any other."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from services.sync.ledger.settle import Settler
from services.sync.sessions import store as sessions
from services.sync.sessions.identity import AnotherSteveError, Identity, compare
from services.sync.steve.client import SteveClient
from services.sync.steve.models import MeterValue
from shared.database.engine import Database
from shared.runtime.clock import Clock
from shared.runtime.log import get_logger

log = get_logger(__name__)

# Sessions looked at in one turn: each is a request to SteVe.
MOST: Final = 200


@dataclass(frozen=True, slots=True)
class Steps:
    """Bill again after so long, or after so much; 0 switches either off."""

    every: timedelta
    wh: int

    @property
    def wanted(self) -> bool:
        return bool(self.every) or self.wh > 0

    def reached(self, *, since: datetime, read_at: datetime, wh: int) -> bool:
        """Whether a reading at `read_at`, `wh` beyond the last one billed at `since`, is to be billed."""
        by_time = bool(self.every) and read_at - since >= self.every
        return wh > 0 and (by_time or 0 < self.wh <= wh)


def last_reading(values: list[MeterValue]) -> tuple[datetime, int] | None:
    """The newest reading of the energy register, in Wh. At the outlet, where a station measures at the inlet too."""
    registers = [
        (one.value_timestamp, wh)
        for one in values
        if one.location in (None, "", "Outlet") and (wh := one.register_wh()) is not None
    ]
    return max(registers, default=None)


class Progress:
    def __init__(
        self,
        steve: SteveClient,
        identity: Identity,
        database: Database,
        settler: Settler,
        *,
        steve_id: str,
        steps: Steps,
        clock: Clock,
    ) -> None:
        self._steve, self._identity, self._database, self._settler = steve, identity, database, settler
        self._steve_id, self._steps, self._clock = steve_id, steps, clock
        self._looked_at = 0

    async def bill_running(self) -> int:
        """Look at running sessions, at the next ones each time where there are many; returns how many entries were
        made.

        :raises UpstreamError: SteVe does not answer, or is another one; what was found before is kept.
        """
        if not self._steps.wanted:
            return 0
        async with self._database.read() as tx:
            running = await sessions.running(tx, self._steve_id, after=self._looked_at, limit=MOST)
        billed = 0
        for row in running:
            self._looked_at = row.transaction_pk
            details = await self._steve.details(row.transaction_pk)
            if details is None or row.start_wh is None:
                continue
            try:
                compare(self._steve_id, row, details.transaction)
            except AnotherSteveError as error:
                raise self._identity.refused(error) from error
            reading = last_reading(details.values)
            if reading is None:
                continue
            read_at, wh = reading
            from_wh = row.billed_wh if row.billed_wh is not None else row.start_wh
            if self._steps.reached(since=row.last_read_at or row.started_at, read_at=read_at, wh=wh - from_wh):
                billed += await self._settler.bill_reading(self._steve_id, row.transaction_pk, wh, read_at)
        if len(running) < MOST:
            self._looked_at = 0
        return billed
