from typing import Any
from uuid import UUID

import sqlalchemy as sa

from services.audit.tables import entry
from shared.contracts.event import open_envelope
from shared.contracts.requests.audit import EntryView, SearchEntries
from shared.database.engine import Read


def _view(row: sa.Row[Any]) -> EntryView:
    columns = row._asdict()
    return EntryView.model_validate({**columns, "data": open_envelope(bytes(columns["body"])).data})


async def search(tx: Read, request: SearchEntries, *, before: int | None) -> list[EntryView]:
    """Entries that match, newest first, at most `request.limit`; `before` is a position to go on from."""
    statement = sa.select(entry).order_by(entry.c.position.desc()).limit(request.limit)
    exact = {
        entry.c.subject: request.subject,
        entry.c.type: request.type,
        entry.c.actor_kind: request.actor_kind,
        entry.c.actor_id: request.actor_id,
        entry.c.correlation_id: request.correlation_id,
    }
    for column, wanted in exact.items():
        if wanted is not None:
            statement = statement.where(column == wanted)
    if request.since is not None:
        statement = statement.where(entry.c.time >= request.since)
    if request.until is not None:
        statement = statement.where(entry.c.time < request.until)
    if before is not None:
        statement = statement.where(entry.c.position < before)
    return [_view(row) for row in await tx.execute(statement)]


async def get(tx: Read, event_id: UUID) -> EntryView | None:
    row = (await tx.execute(sa.select(entry).where(entry.c.event_id == event_id))).first()
    return _view(row) if row is not None else None
