"""What the bus's tables may forget, and when."""

from datetime import timedelta
from typing import Final

import sqlalchemy as sa

from shared.database.engine import Database
from shared.runtime.log import get_logger

log = get_logger(__name__)

# A parked message that is replayed later than this could be handled a second time.
INBOX_KEPT: Final = timedelta(days=90)
RESULTS_KEPT: Final = timedelta(days=7)
_BATCH: Final = 5_000


async def forget(database: Database, metadata: sa.MetaData) -> int:
    """Delete inbox rows and request results that are past their time, a batch at a time; returns how many."""
    forgotten = 0
    for table, column, kept in (
        (metadata.tables[f"{metadata.schema}.inbox"], "received_at", INBOX_KEPT),
        (metadata.tables[f"{metadata.schema}.request_result"], "executed_at", RESULTS_KEPT),
    ):
        keys = list(table.primary_key.columns)
        old = (
            sa.select(*keys)
            .where(table.c[column] < sa.func.now() - kept)
            .limit(_BATCH)
            .with_for_update(skip_locked=True)
        )
        while True:
            async with database.write() as tx:
                result = await tx.execute(sa.delete(table).where(sa.tuple_(*keys).in_(old)))
            forgotten += result.rowcount
            if result.rowcount < _BATCH:
                break
    if forgotten:
        log.info("Old inbox rows and request results were deleted.", action="bus.forgot", count=forgotten)
    return forgotten
