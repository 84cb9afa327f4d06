"""Transaction messages are sent in their order, and wait while there is no connection (OCPP 1.6, 3.7)."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ocpp.v16 import call

from deploy.demo.chargers.session import Session, wire_time
from deploy.demo.chargers.wire import NoAnswerError


@dataclass(frozen=True)
class QueuedStart:
    session: Session
    reservation_id: int | None = None


@dataclass(frozen=True)
class QueuedMeterValues:
    session: Session
    at: datetime
    meter_wh: int


@dataclass(frozen=True)
class QueuedStop:
    session: Session
    at: datetime
    meter_wh: int
    reason: str
    id_tag: str | None


Queued = QueuedStart | QueuedMeterValues | QueuedStop
Ask = Callable[[object], Awaitable[Any]]
Learn = Callable[[str, dict[str, Any]], str]


class UploadQueue:
    def __init__(self) -> None:
        self._waiting: deque[Queued] = deque()
        self._one_at_a_time = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, message: Queued) -> None:
        self._waiting.append(message)

    async def drain(self, ask: Ask, learn: Learn) -> None:
        """Send all, oldest first. What got no answer stays in front: the same message is sent again later."""
        async with self._one_at_a_time:
            while self._waiting:
                try:
                    await self._send(self._waiting[0], ask, learn)
                except NoAnswerError:
                    return
                self._waiting.popleft()

    async def _send(self, message: Queued, ask: Ask, learn: Learn) -> None:
        session = message.session
        match message:
            case QueuedStart():
                answer = await ask(
                    call.StartTransaction(
                        connector_id=session.connector_id,
                        id_tag=session.id_tag,
                        meter_start=session.meter_start_wh,
                        timestamp=wire_time(session.started_at),
                        reservation_id=message.reservation_id,
                    )
                )
                session.transaction_id = int(answer.transaction_id)
                session.told = learn(session.id_tag, answer.id_tag_info)
            case QueuedMeterValues():
                await ask(
                    call.MeterValues(
                        connector_id=session.connector_id,
                        transaction_id=session.transaction_id,
                        meter_value=[_sample(message.at, message.meter_wh)],
                    )
                )
            case QueuedStop():
                await ask(
                    call.StopTransaction(
                        transaction_id=session.transaction_id or 0,
                        meter_stop=message.meter_wh,
                        timestamp=wire_time(message.at),
                        reason=message.reason,
                        id_tag=message.id_tag,
                    )
                )


def _sample(at: datetime, meter_wh: int) -> dict[str, Any]:
    value = {
        "value": str(meter_wh),
        "context": "Sample.Periodic",
        "measurand": "Energy.Active.Import.Register",
        "unit": "Wh",
    }
    return {"timestamp": wire_time(at), "sampled_value": [value]}
