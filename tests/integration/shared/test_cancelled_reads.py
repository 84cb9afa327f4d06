"""A caller that goes away leaves nothing behind for the next one."""

import asyncio

import pytest
import sqlalchemy as sa

from shared.database.engine import Database
from tests.infra import Infra


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
