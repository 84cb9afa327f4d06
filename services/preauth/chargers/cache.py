"""A charger may remember the Blocked of a scan, and refuse the driver who just logged in: it is asked to forget.

The answer itself expires within seconds; this is for chargers that keep it longer than they were told.
"""

import asyncio
from collections import OrderedDict
from datetime import datetime, timedelta
from typing import Final

from services.preauth.chargers.jobs import Asks
from shared.bus.requests import NoAnswerError
from shared.contracts.identity import Actor
from shared.contracts.problem import RemoteProblem
from shared.contracts.requests.sync import OperateCharger
from shared.runtime.clock import Clock, NewId
from shared.runtime.log import get_logger

log = get_logger(__name__)

# The charger still handles the answer to the card when it is told.
PAUSE_S: Final = 2.0
ANSWER_WITHIN_S: Final = 35.0
MOST_WAITING: Final = 1_000
# One that cannot clear its cache (it has none, or does not know how) is not asked again for so long.
REFUSED_FOR: Final = timedelta(days=1)

_ACTOR: Final = Actor(kind="system", id="preauth")


class CacheCleaner:
    """A supervised part. What it does not get done is no loss: the driver waits a few seconds longer."""

    name = "chargers.cache"

    def __init__(self, requester: Asks, *, clock: Clock, new_id: NewId, pause_s: float = PAUSE_S) -> None:
        self._requester, self._clock, self._new_id, self._pause_s = requester, clock, new_id, pause_s
        self._waiting: OrderedDict[str, None] = OrderedDict()
        self._refused: dict[str, datetime] = {}
        self._wake = asyncio.Event()

    def blocked(self, charge_box_id: str) -> None:
        """Blocked was told there for a scan, by whatever way. Neither waits nor raises."""
        refused = self._refused.get(charge_box_id)
        if refused is not None and self._clock() - refused < REFUSED_FOR:
            return
        if len(self._waiting) < MOST_WAITING:
            self._waiting[charge_box_id] = None
            self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Ask, one charger after the other. A stop does not wait for a charger."""
        stopping = asyncio.ensure_future(stop.wait())
        try:
            while not stop.is_set():
                working = asyncio.ensure_future(self._clear_next())
                await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not working.done():
                    working.cancel()
                await asyncio.gather(working, return_exceptions=True)
        finally:
            stopping.cancel()

    async def _clear_next(self) -> None:
        await self._wake.wait()
        await asyncio.sleep(self._pause_s)
        charge_box_id, _ = self._waiting.popitem(last=False)
        if not self._waiting:
            self._wake.clear()
        await self._clear(charge_box_id)

    async def _clear(self, charge_box_id: str) -> None:
        correlation_id = self._new_id()
        try:
            result = await self._requester.ask(
                OperateCharger(charge_box_id=charge_box_id, operation="ClearCache"),
                actor=_ACTOR,
                correlation_id=correlation_id,
                deadline_s=ANSWER_WITHIN_S,
                key=f"clear-cache:{correlation_id}",
            )
        except (NoAnswerError, RemoteProblem) as error:
            log.info("A charger's cache was not cleared.", action="chargers.cache_kept", error=str(error))
            return
        if result.outcome in ("rejected", "failed"):
            if len(self._refused) >= MOST_WAITING:
                self._refused.clear()
            self._refused[charge_box_id] = self._clock()
