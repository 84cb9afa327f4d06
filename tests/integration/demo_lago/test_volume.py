import time

from deploy.demo.lago import SimulatedLago

from .conftest import Client, event

BATCHES = 200
SIZE = 100
LEAST_PER_SECOND = 1000  # events; a machine of its own does ten times as many


async def test_batches_are_stored_fast_and_usage_stays_exact(client: Client, lago: SimulatedLago) -> None:
    """20,000 events in one subscription: thousands a second, and no rounding error in the sum."""
    started = time.monotonic()
    for batch in range(BATCHES):
        events = [event(f"{batch}-{number}", "0.001") for number in range(SIZE)]
        assert (await client.send_batch(*events)).status_code == 200
    elapsed = time.monotonic() - started
    assert BATCHES * SIZE / elapsed > LEAST_PER_SECOND
    assert await client.current_units() == ("20.0", BATCHES * SIZE)
    listed = await client.get("/events", params={"external_subscription_id": "sub_1", "page": "100"})
    assert listed.json()["meta"]["total_count"] == len(lago.state.events) == BATCHES * SIZE
