"""Whether what is owed becomes usage events now: only while Lago is known to count them (docs/decisions/0031)."""

from typing import Final

from services.sync.lago.gate import Gate
from services.sync.ledger.decide import Decision, Wait
from services.sync.ledger.rules import NOT_SET_UP, Bill, Hold
from services.sync.sessions import store as sessions
from services.sync.upstreams.errors import UpstreamError
from shared.database.engine import Database
from shared.runtime.clock import Clock
from shared.runtime.log import get_logger

log = get_logger(__name__)

# Sessions that are woken at a time.
MOST: Final = 5_000


class Opening:
    """The start-up gate as those see it who make entries. An entry that is made says which metric counts it."""

    def __init__(self, gate: Gate, database: Database, clock: Clock) -> None:
        self._gate, self._database, self._clock = gate, database, clock
        self._against: Hold | Wait | None = Wait(None)
        self._some_sleep = True

    async def ask(self) -> None:
        """Have it known how the gate stands. Where it has opened, here or before this process began, what slept for
        that is settled now.
        """
        try:
            is_open = await self._gate.is_open()
        except UpstreamError:
            # Whoever delivers asks as well, and tells of it.
            is_open = False
        if not is_open:
            self._against, self._some_sleep = self._closed(), True
            return
        self._against = None
        if self._some_sleep:
            await self._wake()
            self._some_sleep = False

    def some_sleep(self) -> None:
        """Sessions were held just now because it is closed: it may have opened meanwhile."""
        self._some_sleep = True

    def let(self, decision: Decision) -> Decision:
        """The decision, unless it bills something that is not to be billed now. Of two reasons against it, a metric
        that is not set up comes first: no plan has a charge on one that is not there.
        """
        if isinstance(decision, Bill):
            return self._against or decision
        if isinstance(decision, Hold) and decision.reason == "plan_without_charge" and isinstance(self._against, Hold):
            return self._against
        return decision

    def _closed(self) -> Hold | Wait:
        """Silence is no answer: what Lago did not say yet is waited for."""
        problem = self._gate.problem
        return Hold(NOT_SET_UP, f"Lago {problem}.", recheck=True) if problem is not None else Wait(None)

    async def _wake(self) -> None:
        while True:
            async with self._database.write() as tx:
                woken = await sessions.wake(tx, self._clock(), held_for=NOT_SET_UP, limit=MOST)
            if woken:
                log.info("What waited for Lago is settled now.", action="settle.woken", sessions=woken)
            if woken < MOST:
                return
