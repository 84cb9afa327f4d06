"""A caller that goes away leaves nothing behind for the next one."""

import asyncio
import random
from contextlib import suppress

import pytest
import sqlalchemy as sa
from psycopg_pool import PoolTimeout

from shared.database.engine import Database
from tests.infra import Infra
from tests.waiting import until


async def test_a_cancelled_read_does_not_make_the_next_write_read_only(infra: Infra) -> None:
    """A read that is cancelled in the middle gives its connection back fit for writing."""
    database = Database(infra.postgres.url, application="test", schema="public", pool_size=1)
    await database.open()

    async def endless() -> None:
        async with database.read() as tx:
            await tx.execute(sa.text("SELECT pg_sleep(60)"))

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await endless()
    async with database.write() as tx:
        await tx.execute(sa.text("CREATE TEMPORARY TABLE fit_for_writing (id int)"))
    await database.close()


async def test_callers_that_go_away_take_no_connection_with_them(own_infra: Infra) -> None:
    """However many callers give up, also while the database restarts, the pool has its connections for the next one."""
    server = own_infra.postgres
    database = Database(server.url, application="test", schema="public", pool_size=3)
    await database.open()
    chance = random.Random(1)

    async def impatient() -> None:
        with suppress(TimeoutError, sa.exc.DBAPIError, PoolTimeout):
            async with asyncio.timeout(chance.uniform(0, 0.06)), database.read() as tx:
                await tx.execute(sa.text("SELECT pg_sleep(0.02)"))

    async def many(rounds: int) -> None:
        for _ in range(rounds):
            await asyncio.gather(*(impatient() for _ in range(6)))

    crowd = asyncio.create_task(many(60))
    await asyncio.to_thread(server.restart)
    await crowd

    async def ready() -> bool:
        try:
            await database.ready()
        except (sa.exc.DBAPIError, PoolTimeout):
            return False
        return True

    await until(ready, within_s=30)
    await asyncio.gather(*(database.ready() for _ in range(9)))
    await database.close()
