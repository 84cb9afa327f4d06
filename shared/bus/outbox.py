"""The outbox: a fact becomes a row in the transaction that makes it true, and leaves the house from there."""

from collections.abc import Callable, Iterable
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from shared.bus.topology import EVENTS
from shared.contracts.event import Event, seal
from shared.contracts.identity import Cause
from shared.database.engine import Write, after_commit
from shared.runtime.clock import Clock, NewId
from shared.runtime.tracing import current_traceparent

_NO_ONE: Final[Callable[[], None]] = lambda: None  # noqa: E731 - a default that does nothing


class Outbox:
    """Writes events into a service's outbox. `wake` is called after the commit, so that the relay need not poll."""

    def __init__(
        self, metadata: sa.MetaData, *, clock: Clock, new_id: NewId, wake: Callable[[], None] = _NO_ONE
    ) -> None:
        schema = metadata.schema
        self._outbox = metadata.tables[f"{schema}.outbox"]
        self._versions = metadata.tables[f"{schema}.subject_version"]
        self._clock, self._new_id = clock, new_id
        self.wake = wake

    async def add(self, tx: Write, event: Event, cause: Cause) -> UUID:
        """Write one event; returns its id, which is final."""
        return (await self.add_all(tx, [event], cause))[0]

    async def add_all(self, tx: Write, events: Iterable[Event], cause: Cause, *, exchange: str = EVENTS) -> list[UUID]:
        """Write events, in order; returns their ids.

        The subject's version is counted up here, which also lines up transactions that speak about the same
        subject: a higher version was committed later.
        """
        rows = []
        for event in events:
            subject, event_id = event.subject(), self._new_id()
            body = seal(
                event,
                event_id=event_id,
                subject_version=await self._next_version(tx, subject),
                at=self._clock(),
                cause=cause,
            )
            rows.append(
                {
                    "event_id": event_id,
                    "ordering_key": subject,
                    "routing_key": event.type,
                    "exchange": exchange,
                    "body": body,
                    "traceparent": current_traceparent(),
                }
            )
        if rows:
            await tx.execute(self._outbox.insert(), rows)
            after_commit(tx, self.wake)
        return [row["event_id"] for row in rows]  # type: ignore[misc]

    async def _next_version(self, tx: Write, subject: str) -> int:
        statement = insert(self._versions).values(subject=subject, version=1)
        result = await tx.execute(
            statement.on_conflict_do_update(
                index_elements=[self._versions.c.subject], set_={"version": self._versions.c.version + 1}
            ).returning(self._versions.c.version)
        )
        return int(result.scalar_one())
