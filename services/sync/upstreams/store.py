from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from services.sync.upstreams.tables import upstream
from shared.contracts.events.sync import Upstream
from shared.database.engine import Read, Write


async def all_rows(tx: Read) -> list[sa.Row[Any]]:
    return list((await tx.execute(sa.select(upstream))).all())


async def locked(tx: Write, name: Upstream) -> sa.Row[Any] | None:
    """The row, locked against other replicas until the end of the transaction."""
    statement = sa.select(upstream).where(upstream.c.upstream == name).with_for_update()
    return (await tx.execute(statement)).first()


async def put(
    tx: Write,
    name: Upstream,
    *,
    state: str,
    since: datetime,
    checked_at: datetime,
    reason: str | None,
    explanation: str | None,
) -> None:
    values = {
        "state": state,
        "since": since,
        "checked_at": checked_at,
        "reason": reason,
        "explanation": explanation,
    }
    statement = insert(upstream).values(upstream=name, **values)
    await tx.execute(statement.on_conflict_do_update(index_elements=[upstream.c.upstream], set_=values))
