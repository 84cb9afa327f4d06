"""A simulated Lago with a bit of everything in it, for those who compare it with what is published."""

import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from deploy.demo.lago import LagoSettings, SimulatedLago, run_lago

SEED: dict[str, Any] = {
    "customers": [{"external_id": "cus_1", "name": "Ada", "email": "ada@example.org", "currency": "EUR"}],
    "metrics": [{"code": "ev_charging_kwh", "name": "Energy", "field_name": "kwh"}],
    "plans": [
        {"code": "ev", "name": "EV", "charges": [{"metric_code": "ev_charging_kwh", "amount": "0.35"}]},
        {"code": "ev_plus", "charges": [{"metric_code": "ev_charging_kwh", "amount": "0.30"}]},
    ],
    "subscriptions": [{"external_id": "sub_1", "external_customer_id": "cus_1", "plan_code": "ev"}],
    "invoices": [{"external_customer_id": "cus_1", "total_amount_cents": 1250}],
    "wallets": [{"external_customer_id": "cus_1", "credits": "10.0"}],
}


def event(transaction_id: str, **fields: object) -> dict[str, Any]:
    return {
        "transaction_id": transaction_id,
        "external_subscription_id": "sub_1",
        "code": "ev_charging_kwh",
        "timestamp": f"{time.time():.3f}",
        "properties": {"kwh": "1.500"},
        **fields,
    }


@pytest.fixture
async def lago() -> AsyncIterator[SimulatedLago]:
    async with run_lago(LagoSettings(seed=SEED)) as one:
        yield one


@pytest.fixture
async def client(lago: SimulatedLago) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        base_url=f"{lago.url}/api/v1", headers={"Authorization": f"Bearer {lago.api_key}"}
    ) as one:
        yield one
