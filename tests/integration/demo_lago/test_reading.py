from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from deploy.demo.lago import SimulatedLago

from .conftest import SEED, Client, Run, event


async def test_a_wrong_key_is_unauthorized(client: Client) -> None:
    """Whatever is asked: 401 with Lago's body."""
    for header in ("Bearer wrong", "", "lago-simulator-key"):
        answer = await client.get("/events", headers={"Authorization": header})
        assert (answer.status_code, answer.json()) == (401, {"status": 401, "error": "Unauthorized"})


async def test_an_active_subscription_proves_the_link(client: Client, lago: SimulatedLago) -> None:
    """Active by default, other states on request, nothing once it has ended."""
    found = (await client.get("/subscriptions/sub_1")).json()["subscription"]
    assert (found["external_customer_id"], found["status"], found["plan_code"]) == ("cus_1", "active", "ev")
    missing = await client.get("/subscriptions/sub_old")
    assert (missing.status_code, missing.json()["code"]) == (404, "subscription_not_found")
    old = (await client.get("/subscriptions/sub_old", params={"status": "terminated"})).json()["subscription"]
    assert old["terminated_at"] == "2026-01-31T00:00:00Z"
    ended = await client.delete("/subscriptions/sub_1")
    assert ended.json()["subscription"]["status"] == "terminated"
    assert (await client.get("/subscriptions/sub_1")).status_code == 404
    assert lago.requests.by_status[404] == 2


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ({"external_customer_id": "cus_1"}, {"sub_1", "sub_now"}),
        ({"external_customer_id": "cus_1", "status[]": ["active"]}, {"sub_1", "sub_now"}),
        ({"external_customer_id": "cus_1", "status[]": ["terminated"]}, {"sub_old"}),
        ({"external_customer_id": "cus_1", "status[]": ["active", "terminated"]}, {"sub_1", "sub_now", "sub_old"}),
        ({"external_customer_id": "cus_1", "status[]": ["active", "aktiv"]}, {"sub_1", "sub_now", "sub_old"}),
        ({"external_customer_id": "cus_1", "plan_code": "ev_now"}, {"sub_now"}),
        ({"external_customer_id": "cus_2"}, set()),
        ({"external_customer_id": "nobody", "status[]": ["active"]}, set()),
    ],
)
async def test_subscriptions_are_listed_by_customer_and_state(
    client: Client, query: dict[str, Any], ids: set[str]
) -> None:
    """One invalid state switches the filter off; an unknown customer has an empty list."""
    answer = await client.get("/subscriptions", params=query)
    assert answer.status_code == 200
    assert {one["external_id"] for one in answer.json()["subscriptions"]} == ids


async def test_a_dot_breaks_a_customers_path(client: Client) -> None:
    """What follows the dot is taken for a format; the list finds the customer."""
    broken = await client.get("/customers/dotted.name")
    assert (broken.status_code, broken.json()["code"]) == (404, "customer_not_found")
    assert (await client.get("/customers/dotted.name/portal_url")).status_code == 404
    assert (await client.get("/customers/cus_1.json")).json()["customer"]["external_id"] == "cus_1"
    routeless = await client.get("/customers/cus_1.a.b")
    assert (routeless.status_code, "code" in routeless.json()) == (404, False)
    listed = (await client.get("/customers", params={"external_id": "dotted.name"})).json()
    assert [one["external_id"] for one in listed["customers"]] == ["dotted.name"]


async def test_current_usage_has_what_counted(client: Client) -> None:
    """Exact units and cents of the events that count, no others."""
    await client.send_batch(event("a", "12.345"), event("b", "0.100"), event("c", "-2.445"), event("d", "x"))
    usage = (await client.get("/customers/cus_1/current_usage", params={"external_subscription_id": "sub_1"})).json()[
        "customer_usage"
    ]
    charge = usage["charges_usage"][0]
    assert (charge["units"], charge["events_count"], charge["amount_cents"]) == ("10.0", 3, 350)
    assert charge["billable_metric"]["code"] == "ev_charging_kwh"
    assert usage["total_amount_cents"] == 350


async def test_a_correction_clamps_at_zero_and_refunds_nothing_paid_in_advance(client: Client) -> None:
    """In arrears a negative net is nothing owed; paid in advance stays paid."""
    for subscription in ("sub_1", "sub_now"):
        await client.send_batch(
            event("a", "5", external_subscription_id=subscription),
            event("b", "-8", external_subscription_id=subscription),
        )
    assert await client.current_units("sub_1") == ("0.0", 2)
    assert await client.current_units("sub_now") == ("5.0", 2)


async def test_a_recurring_sum_is_carried_over(run: Run) -> None:
    """What was used in a period that is over is billed again in this one; without `recurring` it is not."""
    now = datetime.now(UTC)
    began = {"started_at": (now - timedelta(days=80)).isoformat(), "billing_time": "anniversary"}
    subscription = {"external_id": "sub_1", "external_customer_id": "cus_1", "plan_code": "ev", **began}
    metrics = [{**SEED["metrics"][0], "recurring": True}, SEED["metrics"][1]]
    today = [now - timedelta(days=70)]
    seed = {**SEED, "metrics": metrics, "subscriptions": [subscription]}
    lago = await run(seed=seed, clock=lambda: today[0])
    async with Client(lago) as client:
        await client.send_batch(event("a", "5", timestamp=f"{today[0].timestamp():.3f}"))
        today[0] = now
        await client.send_batch(event("b", "3", timestamp=f"{now.timestamp():.3f}"))
        metric = (await client.get("/billable_metrics/ev_charging_kwh")).json()["billable_metric"]
        assert metric["recurring"] is True
        assert await client.current_units("sub_1") == ("8.0", 2)
        lago.state.metrics["ev_charging_kwh"].recurring = False
        lago.state.catalog_version += 1
        assert await client.current_units("sub_1") == ("3.0", 1)


@pytest.mark.parametrize(
    ("customer", "subscription", "status", "code"),
    [
        ("nobody", "sub_1", 404, "customer_not_found"),
        ("cus_1", "nothing", 405, "no_active_subscription"),
        ("cus_1", "sub_old", 405, "no_active_subscription"),
        ("cus_2", "sub_1", 405, "no_active_subscription"),
    ],
)
async def test_current_usage_needs_the_customers_active_subscription(
    client: Client, customer: str, subscription: str, status: int, code: str
) -> None:
    """404 for the customer, 405 for the subscription."""
    answer = await client.get(f"/customers/{customer}/current_usage", params={"external_subscription_id": subscription})
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_the_gate_at_start_up_can_be_checked(client: Client) -> None:
    """The metric sums the property that is sent, and the plan has a charge on it."""
    metric = (await client.get("/billable_metrics/ev_charging_kwh")).json()["billable_metric"]
    assert (metric["aggregation_type"], metric["field_name"]) == ("sum_agg", "kwh")
    plan = (await client.get("/plans/ev")).json()["plan"]
    assert [one["billable_metric_code"] for one in plan["charges"]] == ["ev_charging_kwh"]
    assert plan["charges"][0]["properties"] == {"amount": "0.35"}
    for path, code in (("/billable_metrics/no", "billable_metric_not_found"), ("/plans/no", "plan_not_found")):
        missing = await client.get(path)
        assert (missing.status_code, missing.json()["code"]) == (404, code)


async def test_invoices_wallets_and_the_portal(client: Client) -> None:
    """What a driver may look at."""
    invoices = (await client.get("/invoices", params={"external_customer_id": "cus_1"})).json()["invoices"]
    assert [(one["number"], one["total_amount_cents"]) for one in invoices] == [("A-1", 1250)]
    assert (await client.get("/invoices", params={"external_customer_id": "cus_2"})).json()["invoices"] == []
    wallets = (await client.get("/wallets", params={"external_customer_id": "cus_1"})).json()["wallets"]
    assert [(one["credits_balance"], one["balance_cents"]) for one in wallets] == [("10.0", 1000)]
    portal = (await client.get("/customers/cus_1/portal_url")).json()["customer"]["portal_url"]
    assert portal.startswith("http://127.0.0.1:")


async def test_each_top_up_is_another_one(client: Client, lago: SimulatedLago) -> None:
    """The same request twice gives twice the credits."""
    wallet = next(iter(lago.state.wallets))
    body = {"wallet_transaction": {"wallet_id": wallet, "granted_credits": "2.5", "paid_credits": "1"}}
    for _ in range(2):
        answer = await client.post("/wallet_transactions", json=body)
        assert [one["transaction_status"] for one in answer.json()["wallet_transactions"]] == ["purchased", "granted"]
    assert (await client.get(f"/wallets/{wallet}")).json()["wallet"]["credits_balance"] == "15.0"
    listed = (await client.get(f"/wallets/{wallet}/wallet_transactions")).json()
    assert listed["meta"]["total_count"] == 4
    refused = await client.post("/wallet_transactions", json={"wallet_transaction": {"wallet_id": "no"}})
    assert refused.status_code == 422


async def test_customers_and_subscriptions_can_be_made(client: Client, lago: SimulatedLago) -> None:
    """POST on a known external id changes the customer; a subscription counts from its start."""
    for name in ("Linus", "Linus T."):
        answer = await client.post("/customers", json={"customer": {"external_id": "cus_3", "name": name}})
        assert answer.json()["customer"]["name"] == name
    assert len(lago.state.customers) == 4
    body = {"external_customer_id": "cus_3", "plan_code": "ev", "external_id": "sub_3"}
    made = await client.post("/subscriptions", json={"subscription": body})
    assert made.json()["subscription"]["status"] == "active"
    await client.send_event(external_subscription_id="sub_3")
    assert await client.current_units("sub_3", "cus_3") == ("1.5", 1)
    for change, status in (
        ({"external_customer_id": "no"}, 404),
        ({"plan_code": "no", "external_id": "x"}, 404),
        ({"external_id": ""}, 422),
        ({}, 422),
    ):
        answer = await client.post("/subscriptions", json={"subscription": {**body, **change}})
        assert answer.status_code == status


async def test_what_has_no_route_is_not_found(client: Client) -> None:
    """404 in JSON, for a wrong path and for a wrong method."""
    for answer in (await client.get("/nothing"), await client.delete("/events")):
        assert (answer.status_code, answer.json()) == (404, {"status": 404, "error": "Not Found"})
