"""The gateway's side of the decision: its taps, decided by the same decider as the hook's."""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from datetime import datetime
from typing import Final
from uuid import UUID

from services.preauth.decision import store
from services.preauth.decision.tap import Decider, Decision, SteveAnswered, Tap
from services.preauth.gateway.ports import Presented
from shared.contracts.events.preauth import Told
from shared.contracts.identity import id_tag_key
from shared.database.engine import Database
from shared.runtime.log import get_logger

log = get_logger(__name__)

# Taps that wait for SteVe's answer, and answers that wait to be written: many times what can be under way at once.
MOST_WAITING: Final = 10_000
AT_ONCE: Final = 500


class GatewayDesk:
    """A `TapDesk`. `write_answers`, called now and then and at the end, puts what SteVe answered beside the taps.

    `spooled`: whether taps of this process still wait to come into the journal. Their answers wait in memory until they
    did: a process that is killed before that loses them, and its taps stay without.
    """

    def __init__(self, decider: Decider, database: Database, spooled: Callable[[], bool]) -> None:
        self._decider, self._database, self._spooled = decider, database, spooled
        self._deciding: dict[UUID, asyncio.Task[Decision]] = {}
        self._passed: OrderedDict[UUID, datetime] = OrderedDict()
        self._answers: deque[SteveAnswered] = deque(maxlen=MOST_WAITING)

    async def decide(self, tap: Presented) -> bool:
        return self._decider.may_block(await asyncio.shield(self._begin(tap)))

    def _begin(self, tap: Presented) -> asyncio.Task[Decision]:
        """In a task of its own: the gateway may stop waiting, and the tap must be recorded all the same."""
        asked = Tap(
            id_tag_as_sent=tap.id_tag,
            charge_box_id=tap.charge_box_id,
            kind=tap.kind,
            via="gateway",
            arrived=time.monotonic(),
            connector_id=tap.connector_id,
            tap_id=tap.tap_id,
            remote_start=tap.remote_start,
        )
        task = self._deciding[tap.tap_id] = asyncio.create_task(self._decider.decide(asked))
        return task

    def told(self, tap: Presented, told: Told, *, in_time: bool) -> None:
        """Record what the charger was told, now or as soon as the decision is there."""
        task = self._deciding.get(tap.tap_id)
        if task is None:
            if told == "unknown":
                return  # The line was cut before anybody was asked.
            # The gateway stops and did not ask, or gave up before it could: it passed, and belongs into the journal.
            task = self._begin(tap)
        if told == "blocked" and not in_time:
            told = "unknown"

        def record(done: asyncio.Task[Decision]) -> None:
            self._deciding.pop(tap.tap_id, None)
            self._record(done, told)

        if task.done():
            record(task)
        else:
            task.add_done_callback(record)

    def answered(self, tap: Presented, verdict: str) -> None:
        received_at = self._passed.pop(tap.tap_id, None)
        if received_at is not None:
            card = id_tag_key(tap.id_tag)
            self._answers.append(SteveAnswered(tap.tap_id, received_at, tap.charge_box_id, card, tap.kind, verdict))

    async def write_answers(self) -> None:
        if self._deciding:
            # At a stop, tunnels leave before their taps are decided. What writes the journal stops after this, and
            # would not be told any more what became of them.
            await asyncio.wait(self._deciding.values())
        # Asked first: what has no row after this, although nothing waited, will have none.
        spooled, early = self._spooled(), []
        try:
            while self._answers:
                early += await self._write(spooled=spooled)
        finally:
            self._answers.extend(early)

    async def _write(self, *, spooled: bool) -> list[SteveAnswered]:
        """Write some; returns those that are to be written later, because their taps are not there yet."""
        some = [self._answers.popleft() for _ in range(min(len(self._answers), AT_ONCE))]
        try:
            async with self._database.write() as tx:
                found = await store.add_steve_answers(tx, some)
        except BaseException:
            self._answers.extendleft(reversed(some))
            raise
        return [one for one in some if spooled and one.tap_id not in found]

    def _record(self, task: asyncio.Task[Decision], told: Told) -> None:
        if task.cancelled() or task.exception() is not None:
            return
        decision = task.result()
        self._decider.told(decision, told)
        if told == "passed":
            self._passed[decision.tap.tap_id or decision.tap_id] = decision.received_at
            if len(self._passed) > MOST_WAITING:
                self._passed.popitem(last=False)
