"""Every event becomes one entry, also of a type or a version that this program does not know."""

from services.audit.record.store import append
from shared.contracts.event import Envelope, Event
from shared.database.engine import Write
from shared.runtime.clock import Clock


class Recorder:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def record(self, tx: Write, envelope: Envelope, event: Event | None, body: bytes) -> None:
        await append(tx, envelope, body, known=event is not None, at=self._clock())
