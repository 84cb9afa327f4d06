import asyncio

import pytest
from prometheus_client import CollectorRegistry

from shared.bus import relay as relaying
from shared.bus.outbox import Outbox
from shared.bus.relay import BATCH, CONCURRENT_BATCHES, Relay
from shared.database.engine import Database
from shared.runtime.clock import utc_now, uuid7
from tests.databases import TestDatabase
from tests.integration.shared.conftest import CAUSE, NAME, TOPOLOGY, card, toy_metadata
from tests.waiting import until

A_PASS = BATCH * (1 + CONCURRENT_BATCHES)


async def test_a_relay_that_rests_leaves_the_machine_alone_after_a_pass_and_still_stops_at_once(
    database: TestDatabase, broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a backlog one pass goes, then nothing for as long as it rests; told to stop, it brings the rest out."""
    monkeypatch.setattr(relaying, "LONGEST_REST_S", 600.0)
    metadata, _ = toy_metadata()
    toy = Database(database.admin_url, application="test", schema="toy")
    await toy.open()
    relay = Relay(toy, broker, service=NAME, topology=TOPOLOGY, registry=CollectorRegistry(), rest=1e6)
    outbox = Outbox(metadata, clock=utc_now, new_id=uuid7, wake=relay.wake)
    async with toy.write() as tx:
        await outbox.add_all(tx, [card(number) for number in range(A_PASS + 10)], CAUSE)
    stop = asyncio.Event()
    task = asyncio.create_task(relay.run(stop))

    async def one_pass() -> bool:
        return (await relay.measure())[0] <= 10

    try:
        await until(one_pass)
        relay.wake()
        await asyncio.sleep(1.0)
        assert (await relay.measure())[0] == 10
    finally:
        stop.set()
        async with asyncio.timeout(20):
            await task
    assert (await relay.measure())[0] == 0
    await toy.close()
