"""Many rows in one statement, and what the server does for each of them by itself."""

from datetime import UTC, datetime
from uuid import uuid4

import psycopg
import sqlalchemy as sa

from services.sync import bulk
from services.sync.runs.tables import run, run_session
from shared.database.engine import Database, Read
from tests.databases import fresh_database
from tests.infra import Infra

AT = datetime(2026, 5, 1, tzinfo=UTC)


async def rows_read(tx: Read) -> int:
    """How many rows of the referenced table this transaction has read by going through it."""
    statement = sa.text("SELECT seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 'run'")
    return int((await tx.execute(statement)).scalar_one())


async def test_a_foreign_key_is_looked_up_by_its_index_however_the_table_grew(infra: Infra) -> None:
    """The plan is kept, because it is needed for each row; it was made while one row was all there was."""
    with fresh_database(infra.postgres.url, ("sync",)) as fresh:
        database = Database(fresh.url("sync"), application="test", schema="sync", pool_size=1)
        await database.open()
        ids = [uuid4() for _ in range(2_000)]
        runs = [
            {
                "run_id": one,
                "steve_id": "main",
                "trigger": "schedule",
                "requested_by": "sync",
                "state": "finished",
                "segments": [],
                "requested_at": AT,
            }
            for one in ids
        ]
        seen = [{"run_id": one, "transaction_pk": 1, "outcome": "billed", "detail": None} for one in ids]
        try:
            async with database.write() as tx:
                await tx.execute(sa.insert(run), runs[:1])
            with psycopg.connect(fresh.admin_url, autocommit=True) as admin:
                admin.execute("VACUUM ANALYZE sync.run")
            async with database.write() as tx:
                await bulk.insert(tx, run_session, seen[:1])
                await tx.execute(sa.insert(run), runs[1:])
                before = await rows_read(tx)
                await bulk.insert(tx, run_session, seen[1:])
                assert await rows_read(tx) == before
                modes = sa.text("SELECT current_setting('plan_cache_mode'), current_setting('enable_seqscan')")
                assert (await tx.execute(modes)).one() == ("force_custom_plan", "on")
        finally:
            await database.close()
