"""The outbox: a fact becomes a row in the transaction that makes it true, and leaves the house from there."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec
import sqlalchemy as sa

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
        # In the order in which they are given; the order of the ids is the order in which they leave.
        self._insert = sa.text(
            f"INSERT INTO {schema}.outbox (event_id, ordering_key, routing_key, exchange, body, traceparent)"  # noqa: S608 - our own schema's name
            " SELECT id, subject, type, :exchange, convert_to(body, 'UTF8'), CAST(:traceparent AS text)"
            " FROM json_to_recordset(CAST(:given AS json)) AS one (id uuid, subject text, type text, body text)"
        )
        self._count = sa.text(
            f"INSERT INTO {schema}.subject_version AS known (subject, version)"  # noqa: S608 - our own schema's name
            " SELECT subject, version"
            " FROM json_to_recordset(CAST(:given AS json)) AS one (subject text, version bigint)"
            " ON CONFLICT (subject) DO UPDATE SET version = known.version + excluded.version"
            " RETURNING subject, version"
        )
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
        return await self.add_each(tx, [(event, cause) for event in events], exchange=exchange)

    async def add_each(self, tx: Write, events: Sequence[tuple[Event, Cause]], *, exchange: str = EVENTS) -> list[UUID]:
        """As `add_all`, for events that have causes of their own."""
        if not events:
            return []
        subjects = [event.subject() for event, _ in events]
        versions = await self._next_versions(tx, Counter(subjects))
        at, ids, rows = self._clock(), [], []
        for subject, (event, cause) in zip(subjects, events, strict=True):
            event_id = self._new_id()
            versions[subject] += 1
            body = seal(event, event_id=event_id, subject_version=versions[subject], at=at, cause=cause)
            ids.append(event_id)
            rows.append({"id": event_id, "subject": subject, "type": event.type, "body": body.decode()})
        given = {"given": _json(rows), "exchange": exchange, "traceparent": current_traceparent()}
        await tx.execute(self._insert, given)
        after_commit(tx, self.wake)
        return ids

    async def _next_versions(self, tx: Write, wanted: Mapping[str, int]) -> dict[str, int]:
        """Count each subject up by how many events it gets, in one statement; returns the versions before."""
        # In one order everywhere, so that two transactions about the same subjects wait instead of deadlocking.
        rows = [{"subject": subject, "version": wanted[subject]} for subject in sorted(wanted)]
        result = await tx.execute(self._count, {"given": _json(rows)})
        return {subject: version - wanted[subject] for subject, version in result}


def _json(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as one parameter, however many they are."""
    return msgspec.json.encode(rows).decode()
