from datetime import UTC, datetime, timedelta

from deploy.demo.lago import SimulatedLago

from .conftest import Client, event


async def test_the_state_tells_what_counts(client: Client, lago: SimulatedLago) -> None:
    """Counted usage by subscription, and each event's fate."""
    await client.send_batch(event("a", "2"), event("b", "bad"), event("c", "-0.5"))
    state = (await client.get(f"{lago.url}/_sim/state")).json()
    assert state["events"] == 3
    assert state["counted"]["sub_1"]["ev_charging_kwh"] == {"units": "1.5", "events_count": 2}
    assert state["requests"]["by_route"] == {"POST /api/v1/events/batch": 1}
    events = (await client.get(f"{lago.url}/_sim/events")).json()["events"]
    assert [one["counted"] for one in events] == [True, False, True]


async def test_a_terminated_subscription_counts_no_longer(client: Client, lago: SimulatedLago) -> None:
    """Its events are accepted as before, and current usage has nothing to show."""
    await client.post(f"{lago.url}/_sim/terminate", json={"external_id": "sub_1"})
    assert (await client.send_event()).status_code == 200
    usage = await client.get("/customers/cus_1/current_usage", params={"external_subscription_id": "sub_1"})
    assert usage.status_code == 405
    assert lago.state.counted("sub_1", "ev_charging_kwh")[1] == 0
    unknown = await client.post(f"{lago.url}/_sim/terminate", json={"external_id": "sub_1"})
    assert unknown.status_code == 422


async def test_an_upgrade_keeps_the_external_id(client: Client, lago: SimulatedLago) -> None:
    """The subscription is found under the same id with another plan."""
    await client.post(f"{lago.url}/_sim/upgrade", json={"external_id": "sub_1", "plan_code": "ev_now"})
    found = (await client.get("/subscriptions/sub_1")).json()["subscription"]
    assert (found["plan_code"], found["previous_plan_code"]) == ("ev_now", "ev")
    await client.post(f"{lago.url}/_sim/downgrade", json={"external_id": "sub_1", "plan_code": "ev"})
    found = (await client.get("/subscriptions/sub_1")).json()["subscription"]
    assert (found["plan_code"], found["next_plan_code"]) == ("ev_now", "ev")
    await client.post(f"{lago.url}/_sim/apply_downgrade", json={"external_id": "sub_1"})
    assert (await client.get("/subscriptions/sub_1")).json()["subscription"]["plan_code"] == "ev"


async def test_a_late_event_vanishes(client: Client, lago: SimulatedLago) -> None:
    """After the period's invoice an event inside it is stored, shown, and never billed."""
    await client.send_event(transaction_id="in time", kwh="4")
    late = f"{datetime.now(UTC).timestamp():.3f}"
    final = await client.post(f"{lago.url}/_sim/finalize_period", json={"external_id": "sub_1"})
    assert final.json()["invoice"] is not None
    assert (await client.send_event(transaction_id="late", kwh="3", timestamp=late)).status_code == 200
    assert (await client.get("/events/late")).status_code == 200
    units, count = lago.state.counted("sub_1", "ev_charging_kwh")
    assert (str(units), count) == ("4", 1)
    invoices = (await client.get("/invoices", params={"external_customer_id": "cus_1"})).json()["invoices"]
    assert invoices[0]["total_amount_cents"] == 140


async def test_the_clock_closes_periods(client: Client, lago: SimulatedLago) -> None:
    """A month later the old period is final, the new one empty."""
    await client.send_event(kwh="4")
    moved = await client.post(f"{lago.url}/_sim/clock", json={"advance_s": 32 * 86_400})
    now = datetime.fromisoformat(moved.json()["now"])
    assert now - datetime.now(UTC) > timedelta(days=31)
    assert await client.current_units() == ("0.0", 0)
    await client.send_event(transaction_id="late", kwh="3")
    assert lago.state.counted("sub_1", "ev_charging_kwh")[1] == 1


async def test_permissions_and_seed_can_change_while_it_runs(client: Client, lago: SimulatedLago) -> None:
    """A demo grows, a key loses its rights."""
    more = {"customers": [{"external_id": "cus_9", "name": "New"}]}
    assert (await client.post(f"{lago.url}/_sim/seed", json=more)).json()["customers"] == 4
    assert (await client.post(f"{lago.url}/_sim/seed", json={"typo": []})).status_code == 422
    await client.post(f"{lago.url}/_sim/permissions", json={"event_writes_allowed": False})
    assert (await client.send_event()).status_code == 403
