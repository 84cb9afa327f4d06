"""The outbox: a fact becomes a row in the transaction that makes it true, and leaves the house from there."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

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
        return await self.add_each(tx, [(event, cause) for event in events], exchange=exchange)

    async def add_each(self, tx: Write, events: Sequence[tuple[Event, Cause]], *, exchange: str = EVENTS) -> list[UUID]:
        """As `add_all`, for events that have causes of their own."""
        versions = await self._next_versions(tx, Counter(event.subject() for event, _ in events))
        rows = []
        for event, cause in events:
            subject, event_id = event.subject(), self._new_id()
            versions[subject] += 1
            body = seal(event, event_id=event_id, subject_version=versions[subject], at=self._clock(), cause=cause)
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
            # An array a column: one statement for thousands of events, in this order.
            given = sa.select(
                *(
                    sa.func.unnest(sa.cast([row[name] for row in rows], pg.ARRAY(self._outbox.c[name].type))).label(
                        name
                    )
                    for name in rows[0]
                )
            )
            await tx.execute(sa.insert(self._outbox).from_select(list(rows[0]), given))
            after_commit(tx, self.wake)
        return [row["event_id"] for row in rows]  # type: ignore[misc]

    async def _next_versions(self, tx: Write, wanted: Mapping[str, int]) -> dict[str, int]:
        """Count each subject up by how many events it gets, in one statement; returns the versions before."""
        if not wanted:
            return {}
        # In one order everywhere, so that two transactions about the same subjects wait instead of deadlocking.
        given = sa.select(
            sa.func.unnest(sa.cast(sorted(wanted), pg.ARRAY(sa.Text))).label("subject"),
            sa.func.unnest(sa.cast([wanted[subject] for subject in sorted(wanted)], pg.ARRAY(sa.BigInteger))).label(
                "version"
            ),
        )
        statement = pg.insert(self._versions).from_select(["subject", "version"], given)
        result = await tx.execute(
            statement.on_conflict_do_update(
                index_elements=[self._versions.c.subject],
                set_={"version": self._versions.c.version + statement.excluded.version},
            ).returning(self._versions.c.subject, self._versions.c.version)
        )
        return {row.subject: int(row.version) - wanted[row.subject] for row in result}
