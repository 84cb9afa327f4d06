"""A simulated Lago on a real port, and a client with its key."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from deploy.demo.lago import LagoSettings, SimulatedLago, run_lago

SEED: dict[str, Any] = {
    "customers": [
        {"external_id": "cus_1", "name": "Ada", "email": "ada@example.org", "currency": "EUR"},
        {"external_id": "cus_2", "name": "Grace"},
        {"external_id": "dotted.name", "name": "Dot"},
    ],
    "metrics": [
        {"code": "ev_charging_kwh", "name": "Energy", "aggregation_type": "sum_agg", "field_name": "kwh"},
        {"code": "computed", "field_name": "kwh", "expression": "event.properties.wh / 1000"},
    ],
    "plans": [
        {"code": "ev", "name": "EV", "charges": [{"metric_code": "ev_charging_kwh", "amount": "0.35"}]},
        {
            "code": "ev_now",
            "charges": [{"metric_code": "ev_charging_kwh", "amount": "0.35", "pay_in_advance": True}],
        },
    ],
    "subscriptions": [
        {"external_id": "sub_1", "external_customer_id": "cus_1", "plan_code": "ev", "name": "Ada's car"},
        {"external_id": "sub_now", "external_customer_id": "cus_1", "plan_code": "ev_now"},
        {
            "external_id": "sub_old",
            "external_customer_id": "cus_1",
            "plan_code": "ev",
            "status": "terminated",
            "started_at": "2026-01-01T00:00:00Z",
            "terminated_at": "2026-01-31T00:00:00Z",
        },
    ],
    "invoices": [{"external_customer_id": "cus_1", "number": "A-1", "total_amount_cents": 1250}],
    "wallets": [{"external_customer_id": "cus_1", "credits": "10.0"}],
}

Run = Callable[..., Awaitable[SimulatedLago]]


class Client(httpx.AsyncClient):
    """Speaks to one simulated Lago with its key."""

    def __init__(self, lago: SimulatedLago) -> None:
        super().__init__(base_url=f"{lago.url}/api/v1", headers={"Authorization": f"Bearer {lago.api_key}"}, timeout=10)

    async def send_event(self, **fields: Any) -> httpx.Response:  # noqa: ANN401
        return await self.post("/events", json={"event": event(**fields)})

    async def send_batch(self, *events: dict[str, Any]) -> httpx.Response:
        return await self.post("/events/batch", json={"events": list(events)})

    async def current_units(self, subscription: str = "sub_1", customer: str = "cus_1") -> tuple[str, int]:
        answer = await self.get(
            f"/customers/{customer}/current_usage", params={"external_subscription_id": subscription}
        )
        usage = answer.json()["customer_usage"]["charges_usage"][0]
        return usage["units"], usage["events_count"]


def event(transaction_id: str = "t1", kwh: object = "1.500", **fields: object) -> dict[str, Any]:
    return {
        "transaction_id": transaction_id,
        "external_subscription_id": "sub_1",
        "code": "ev_charging_kwh",
        "timestamp": f"{time.time():.3f}",
        "properties": {"kwh": kwh},
        **fields,
    }


async def eventually(check: Callable[[], bool]) -> None:
    """Wait up to five seconds for something to become true."""
    for _ in range(500):
        if check():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("It did not happen within five seconds.")


@pytest.fixture
async def run() -> AsyncIterator[Run]:
    """Starts simulators with the seed above and the settings given; all stop with the test."""
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> SimulatedLago:  # noqa: ANN401
            return await stack.enter_async_context(run_lago(LagoSettings(**{"seed": SEED, **settings})))

        yield start


@pytest.fixture
async def lago(run: Run) -> SimulatedLago:
    return await run()


@pytest.fixture
async def client(lago: SimulatedLago) -> AsyncIterator[Client]:
    async with Client(lago) as one:
        yield one
