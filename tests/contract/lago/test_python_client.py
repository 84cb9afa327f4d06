"""Lago's own Python client as an oracle: it was not written by whoever wrote the simulator."""

import asyncio
import base64
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from deploy.demo.lago import SimulatedLago

from .conftest import event

with warnings.catch_warnings():
    # The client's own dependencies still use deprecated parts of pydantic and typing.
    warnings.simplefilter("ignore")
    import lago_python_client.models as client_models
    from lago_python_client.client import Client
    from lago_python_client.exceptions import LagoApiError, LagoRateLimitError

# Its fields have no defaults a type checker could see.
models: Any = client_models
T = TypeVar("T")


async def call(function: Callable[..., T], *arguments: Any, **named: Any) -> T:  # noqa: ANN401
    """The client blocks: in a thread, while the simulator answers in this one."""
    return await asyncio.to_thread(function, *arguments, **named)


@pytest.fixture
def oracle(lago: SimulatedLago) -> Any:  # noqa: ANN401
    return Client(api_key=lago.api_key, api_url=lago.url, retry_on_rate_limit=False)


async def test_it_sends_events_one_by_one_and_in_batches(oracle: Any, lago: SimulatedLago) -> None:  # noqa: ANN401
    """Its models make what the simulator takes, and take what the simulator answers."""
    created = await call(oracle.events.create, models.Event(**event("t1", timestamp="1777627800.5")))
    assert (created.transaction_id, created.timestamp) == ("t1", "2026-05-01T09:30:00.500Z")
    batch = models.BatchEvent(events=[models.Event(**event("t2")), models.Event(**event("t3"))])
    assert await call(oracle.events.batch_create, batch) is None
    assert len(lago.state.events) == 3
    found = await call(oracle.events.find, "t2")
    assert (found.external_subscription_id, found.lago_subscription_id) == ("sub_1", None)


async def test_it_reads_the_errors(oracle: Any, lago: SimulatedLago) -> None:  # noqa: ANN401
    """Status and details come through as Lago's."""
    batch = models.BatchEvent(events=[models.Event(**event("t1")), models.Event(**event("t2"))])
    await call(oracle.events.batch_create, batch)
    with pytest.raises(LagoApiError) as duplicate:
        await call(oracle.events.batch_create, batch)
    assert duplicate.value.status_code == 422
    assert duplicate.value.response["error_details"]["1"] == {"transaction_id": ["value_already_exist"]}
    with pytest.raises(LagoApiError) as missing:
        await call(oracle.subscriptions.find, "none")
    assert (missing.value.status_code, missing.value.response["code"]) == (404, "subscription_not_found")
    lago.faults.add("http_429", 7, count=1)
    with pytest.raises(LagoRateLimitError) as limited:
        await call(oracle.plans.find, "ev")
    assert (limited.value.limit, limited.value.remaining, limited.value.reset) == (50, 0, 7)


async def test_it_reads_current_usage(oracle: Any) -> None:  # noqa: ANN401
    """Units are strings, cents integers."""
    await call(oracle.events.create, models.Event(**event("t1")))
    usage = await call(oracle.customers.current_usage, "cus_1", "sub_1")
    charge = usage.charges_usage[0]
    assert (charge.units, charge.events_count, charge.amount_cents) == ("1.5", 1, 53)
    assert charge.billable_metric.code == "ev_charging_kwh"


async def test_it_reads_the_catalogue(oracle: Any, lago: SimulatedLago) -> None:  # noqa: ANN401
    """Every model it has for what the simulator holds parses the answer."""
    assert (await call(oracle.customers.find, "cus_1")).name == "Ada"
    assert (await call(oracle.subscriptions.find, "sub_1")).plan_code == "ev"
    assert (await call(oracle.billable_metrics.find, "ev_charging_kwh")).field_name == "kwh"
    plan = await call(oracle.plans.find, "ev")
    assert plan.charges.__root__[0].billable_metric_code == "ev_charging_kwh"
    for name in ("customers", "subscriptions", "billable_metrics", "plans", "invoices", "wallets"):
        listed = await call(getattr(oracle, name).find_all, {"per_page": 10})
        assert len(listed[name]) == listed["meta"]["total_count"] > 0
    invoice = lago.state.invoices[0].lago_id
    assert (await call(oracle.invoices.find, invoice)).total_amount_cents == 1250
    portal = await call(oracle.customers.portal_url, "cus_1")
    assert portal.startswith(lago.url)
    chosen = {"external_customer_id": "cus_1", "status[]": ["active", "pending"]}
    assert len((await call(oracle.subscriptions.find_all, chosen))["subscriptions"]) == 1


async def test_it_makes_what_can_be_made(oracle: Any, lago: SimulatedLago) -> None:  # noqa: ANN401
    """Customers, subscriptions, top-ups, and the end of a subscription."""
    made = await call(oracle.customers.create, models.Customer(external_id="cus_2", name="Grace"))
    assert made.external_id == "cus_2"
    wanted = models.Subscription(external_customer_id="cus_2", external_id="sub_2", plan_code="ev")
    assert (await call(oracle.subscriptions.create, wanted)).status == "active"
    ended = await call(oracle.subscriptions.destroy, "sub_2")
    assert (ended.status, ended.terminated_at is None) == ("terminated", False)
    wallet = next(iter(lago.state.wallets))
    top_up = models.WalletTransaction(wallet_id=wallet, granted_credits="2.0")
    result = await call(oracle.wallet_transactions.create, top_up)
    assert result["wallet_transactions"][0].credit_amount == "2.0"


async def test_its_public_key_verifies_a_webhook(oracle: Any, lago: SimulatedLago) -> None:  # noqa: ANN401
    """The key it fetches is the one that signs."""
    pem = await call(oracle.webhooks.public_key)
    body = b'{"webhook_type":"invoice.created"}'
    token = lago.webhooks.signer.sign(body, "jwt")
    assert jwt.decode(token, RSAKey.import_key(pem.decode()), algorithms=["RS256"]).claims["data"] == body.decode()
    assert base64.b64decode(lago.webhooks.signer.public_key()) == pem
