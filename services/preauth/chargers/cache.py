"""A charger may remember the Blocked of a scan, and refuse the driver who just logged in: it is asked to forget.

The answer itself expires within seconds; this is for chargers that keep it longer than they were told.
"""

import asyncio
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
# Sync answers few requests at once, and others wait for it, too.
AT_ONCE: Final = 3
# One that refuses (OCPP 1.6, 5.4: it has no cache, or cannot clear it) is not asked again for so long.
REFUSED_FOR: Final = timedelta(days=1)

_ACTOR: Final = Actor(kind="system", id="preauth")


class CacheCleaner:
    """A supervised part. What it does not get done is no loss: the driver waits a few seconds longer."""

    name = "chargers.cache"

    def __init__(self, requester: Asks, *, clock: Clock, new_id: NewId, pause_s: float = PAUSE_S) -> None:
        self._requester, self._clock, self._new_id, self._pause_s = requester, clock, new_id, pause_s
        # Each charger once, from when it was told Blocked until it is asked.
        self._waiting: set[str] = set()
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._refused: dict[str, datetime] = {}

    def blocked(self, charge_box_id: str) -> None:
        """Blocked was told there for a scan, by whatever way. Neither waits nor raises."""
        refused = self._refused.get(charge_box_id)
        if refused is not None and self._clock() - refused < REFUSED_FOR:
            return
        if charge_box_id not in self._waiting and len(self._waiting) < MOST_WAITING:
            self._waiting.add(charge_box_id)
            self._queue.put_nowait(charge_box_id)

    async def run(self, stop: asyncio.Event) -> None:
        """Ask, a few chargers at once. A stop does not wait for a charger."""
        async with asyncio.TaskGroup() as group:
            asking = [group.create_task(self._ask_on()) for _ in range(AT_ONCE)]
            await stop.wait()
            for one in asking:
                one.cancel()

    async def _ask_on(self) -> None:
        while True:
            charge_box_id = await self._queue.get()
            try:
                await asyncio.sleep(self._pause_s)
            finally:
                self._waiting.discard(charge_box_id)
            try:
                await self._clear(charge_box_id)
            except Exception:
                # The others are asked all the same: whoever asks is not started again.
                log.exception("A charger's cache was not cleared.", action="chargers.cache_failed")

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
        # Not `failed`: that is also SteVe's hiccup, and nothing was done.
        if result.outcome == "rejected":
            if len(self._refused) >= MOST_WAITING:
                self._refused.clear()
            self._refused[charge_box_id] = self._clock()
