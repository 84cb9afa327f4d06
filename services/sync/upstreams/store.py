from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from services.sync.upstreams.tables import upstream
from shared.contracts.events.sync import Upstream
from shared.database.engine import Read, Write

# A replica that told of a loss does so again every few seconds for as long as that lasts.
TOLD_LATELY: Final = timedelta(seconds=20)


async def all_rows(tx: Read) -> list[sa.Row[Any]]:
    return list((await tx.execute(sa.select(upstream))).all())


async def locked(tx: Write, name: Upstream, by: UUID) -> sa.Row[Any] | None:
    """The row, locked against other replicas until the end of the transaction; `anothers`: it was told lately by
    another one than `by`.
    """
    # By the database's time: the replicas' own may differ (docs/decisions/0020).
    lately = upstream.c.told_at > sa.func.clock_timestamp() - TOLD_LATELY
    anothers = sa.func.coalesce(sa.and_(upstream.c.told_by != by, lately), sa.false()).label("anothers")
    statement = sa.select(upstream, anothers).where(upstream.c.upstream == name).with_for_update()
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
    by: UUID,
) -> None:
    values: dict[str, Any] = {
        "state": state,
        "since": since,
        "checked_at": checked_at,
        "reason": reason,
        "explanation": explanation,
        "told_by": by,
        "told_at": sa.func.clock_timestamp(),
    }
    statement = insert(upstream).values(upstream=name, **values)
    await tx.execute(statement.on_conflict_do_update(index_elements=[upstream.c.upstream], set_=values))
