"""The simulator's answers against Lago's published OpenAPI document, where that document is right.

The document is no part of this project: `EXPRESSYNC_CONTRACTS` names the folder it lies in.
"""

import os
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from jsonschema import Draft202012Validator, FormatChecker

from deploy.demo.lago import SimulatedLago
from deploy.demo.lago.api_events import EventsApi
from deploy.demo.lago.api_read import ReadApi
from deploy.demo.lago.api_write import WriteApi

from .conftest import event

FOLDER = os.environ.get("EXPRESSYNC_CONTRACTS")
DOCUMENT = Path(FOLDER or ".") / "lago-openapi.yaml"

pytestmark = pytest.mark.skipif(
    FOLDER is None or not DOCUMENT.exists(),
    reason="EXPRESSYNC_CONTRACTS names no folder with lago-openapi.yaml (the document is not ours to keep here)",
)

# What the simulator answers though the document does not know it, and the fact that says so.
UNDOCUMENTED_PATHS = {
    ("/organizations", "get"): "fact 6: GET /organizations tells the events store",
}
UNDOCUMENTED_STATUSES = {
    ("/customers/{external_customer_id}/current_usage", "get", 405): "Reading back: 405 no_active_subscription",
    ("/subscriptions", "get", 429): "Events: 429 with X-RateLimit-* headers, on every path of the cloud",
    ("/events/batch", "post", 500): "fact 8: large properties answer 500",
}


@cache
def document() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(DOCUMENT.read_text())
    mend(content["components"])
    return content


def mend(part: object) -> None:
    """Two contradictions inside the document, resolved the same way everywhere.

    Many types are `[string, "null"]` beside an enum that forgets null: the type holds. Some schemas require
    a property they do not have (`balance` of a wallet): it is not required.
    """
    if isinstance(part, dict):
        if isinstance(part.get("required"), list) and isinstance(part.get("properties"), dict):
            part["required"] = [name for name in part["required"] if name in part["properties"]]
        if isinstance(part.get("enum"), list) and "null" in part.get("type", ()) and None not in part["enum"]:
            part["enum"] = [*part["enum"], None]
        for value in part.values():
            mend(value)
    elif isinstance(part, list):
        for value in part:
            mend(value)


def resolve(part: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in part:
        found: Any = document()
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        part = found
    return part


def check(path: str, method: str, answer: httpx.Response) -> None:
    """The answer has a documented status, and its body the documented shape."""
    responses = document()["paths"][path][method]["responses"]
    assert str(answer.status_code) in responses, f"{method} {path} is not documented to answer {answer.status_code}"
    schema = resolve(responses[str(answer.status_code)])["content"]["application/json"]["schema"]
    validate(schema, answer.json())


def validate(schema: dict[str, Any], body: object) -> None:
    whole = {**schema, "components": document()["components"]}
    validator = Draft202012Validator(whole, format_checker=FormatChecker())
    problems = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(body)]
    assert problems == []


Reading = tuple[str, str, int]

READINGS: list[Reading] = [
    ("/events", "/events", 200),
    ("/events", "/events?external_subscription_id=sub_1&per_page=1&page=2", 200),
    ("/events", "/events?timestamp_from=never", 422),
    ("/events/{transaction_id}", "/events/t1", 200),
    ("/events/{transaction_id}", "/events/none", 404),
    ("/customers", "/customers", 200),
    ("/customers/{external_customer_id}", "/customers/cus_1", 200),
    ("/customers/{external_customer_id}", "/customers/none", 404),
    (
        "/customers/{external_customer_id}/current_usage",
        "/customers/cus_1/current_usage?external_subscription_id=sub_1",
        200,
    ),
    ("/customers/{external_customer_id}/current_usage", "/customers/none/current_usage", 404),
    ("/customers/{external_customer_id}/portal_url", "/customers/cus_1/portal_url", 200),
    ("/customers/{external_customer_id}/portal_url", "/customers/none/portal_url", 404),
    ("/customers/{external_customer_id}/subscriptions", "/customers/cus_1/subscriptions", 200),
    ("/customers/{external_customer_id}/invoices", "/customers/cus_1/invoices", 200),
    ("/customers/{external_customer_id}/wallets", "/customers/cus_1/wallets", 200),
    ("/subscriptions", "/subscriptions?external_customer_id=cus_1&status[]=nonsense", 200),
    ("/subscriptions/{external_id}", "/subscriptions/sub_1", 200),
    ("/subscriptions/{external_id}", "/subscriptions/sub_1?status=terminated", 200),
    ("/subscriptions/{external_id}", "/subscriptions/none", 404),
    ("/billable_metrics", "/billable_metrics", 200),
    ("/billable_metrics/{code}", "/billable_metrics/ev_charging_kwh", 200),
    ("/billable_metrics/{code}", "/billable_metrics/none", 404),
    ("/plans", "/plans", 200),
    ("/plans/{code}", "/plans/ev", 200),
    ("/plans/{code}", "/plans/none", 404),
    ("/invoices", "/invoices?external_customer_id=cus_1", 200),
    ("/invoices/{lago_id}", "/invoices/none", 404),
    ("/wallets", "/wallets?external_customer_id=cus_1", 200),
    ("/wallets/{lago_id}", "/wallets/none", 404),
    ("/webhooks/json_public_key", "/webhooks/json_public_key", 200),
]


@pytest.mark.parametrize(("path", "url", "status"), READINGS, ids=[f"{url} {status}" for _, url, status in READINGS])
async def test_what_is_read_has_the_documented_shape(
    client: httpx.AsyncClient, lago: SimulatedLago, *, path: str, url: str, status: int
) -> None:
    """Status and body are what the document promises, after some usage and a change of plan."""
    await client.post("/events/batch", json={"events": [event("t1"), event("t2"), event("t3", code="unknown")]})
    await client.post(f"{lago.url}/_sim/upgrade", json={"external_id": "sub_1", "plan_code": "ev_plus"})
    answer = await client.get(url)
    assert answer.status_code == status
    check(path, "get", answer)


@pytest.mark.parametrize("path", ["/events", "/plans", "/subscriptions/{external_id}", "/webhooks/json_public_key"])
async def test_without_a_key_the_answer_is_documented(client: httpx.AsyncClient, path: str) -> None:
    """401 looks the same everywhere."""
    answer = await client.get(path.replace("{external_id}", "sub_1"), headers={"Authorization": "Bearer no"})
    check(path, "get", answer)


async def test_what_is_written_is_answered_as_documented(client: httpx.AsyncClient, lago: SimulatedLago) -> None:
    """Success and refusal of each change."""
    sent = event("t1")
    validate({"$ref": "#/components/schemas/EventInput"}, {"event": sent})
    check("/events", "post", await client.post("/events", json={"event": sent}))
    check("/events", "post", await client.post("/events", json={"event": sent}))
    check("/events", "post", await client.post("/events", json={}))
    batch = {"events": [event("t2"), event("t3")]}
    validate({"$ref": "#/components/schemas/EventBatchInput"}, batch)
    check("/events/batch", "post", await client.post("/events/batch", json=batch))
    check("/events/batch", "post", await client.post("/events/batch", json=batch))
    customer = {"customer": {"external_id": "cus_2", "name": "Grace"}}
    check("/customers", "post", await client.post("/customers", json=customer))
    check("/customers", "post", await client.post("/customers", json={"customer": {"name": "x"}}))
    subscription = {"subscription": {"external_customer_id": "cus_2", "plan_code": "ev", "external_id": "sub_2"}}
    check("/subscriptions", "post", await client.post("/subscriptions", json=subscription))
    check("/subscriptions/{external_id}", "delete", await client.delete("/subscriptions/sub_2"))
    check("/subscriptions/{external_id}", "delete", await client.delete("/subscriptions/sub_2"))
    wallet = {"wallet": {"external_customer_id": "cus_2", "rate_amount": "1", "currency": "EUR"}}
    made = await client.post("/wallets", json=wallet)
    check("/wallets", "post", made)
    top_up = {"wallet_transaction": {"wallet_id": made.json()["wallet"]["lago_id"], "granted_credits": "3"}}
    check("/wallet_transactions", "post", await client.post("/wallet_transactions", json=top_up))
    top_up["wallet_transaction"]["wallet_id"] = "none"
    check("/wallet_transactions", "post", await client.post("/wallet_transactions", json=top_up))
    lago.state.event_writes_allowed = False
    check("/events", "post", await client.post("/events", json={"event": event("t9")}))


async def test_every_route_is_documented_or_stands_in_the_facts(lago: SimulatedLago) -> None:
    """The simulator offers nothing that Lago is not known to have."""
    known = {(nameless(path), method) for path, operations in document()["paths"].items() for method in operations}
    reading = ReadApi(lago.state, lambda: lago.url, lambda: "")
    routes = [*EventsApi(lago.state).routes(), *reading.routes(), *WriteApi(lago.state).routes()]
    offered = {
        (nameless(route.path), method.lower())
        for route in routes
        for method in (route.methods or ())
        if method != "HEAD"
    }
    assert offered - known == set(UNDOCUMENTED_PATHS)


def nameless(path: str) -> str:
    return re.sub(r"\{[^}]+\}", "{}", path)


async def test_the_organisation_has_the_shape_it_has_when_it_is_changed(client: httpx.AsyncClient) -> None:
    """The document knows only its PUT, which answers with the same object."""
    answer = await client.get("/organizations")
    validate({"$ref": "#/components/schemas/Organization"}, answer.json())


@pytest.mark.parametrize(("path", "method", "status"), UNDOCUMENTED_STATUSES)
async def test_statuses_the_document_does_not_know(
    client: httpx.AsyncClient, lago: SimulatedLago, *, path: str, method: str, status: int
) -> None:
    """The facts name them; should the document learn them, this test says so."""
    assert str(status) not in document()["paths"][path][method]["responses"]
    ask: dict[int, Callable[[], Any]] = {
        405: lambda: client.get("/customers/cus_1/current_usage"),
        429: lambda: client.get("/subscriptions"),
        500: lambda: client.post("/events/batch", json={"events": [event("t", properties={"x": "y" * 3000})]}),
    }
    if status == 429:
        lago.faults.add("http_429", 1)
    answer = await ask[status]()
    assert answer.status_code == status
    if status == 405:
        validate({"$ref": "#/components/schemas/ApiErrorNotAllowed"}, answer.json())


async def test_the_document_requires_a_subscription_that_lago_does_not(client: httpx.AsyncClient) -> None:
    """Fact 3: an event without `external_subscription_id` is accepted, and shown without."""
    schemas = document()["components"]["schemas"]
    assert "external_subscription_id" in schemas["EventInputObject"]["required"]
    assert schemas["EventObject"]["properties"]["external_subscription_id"]["type"] == "string"
    answer = await client.post("/events", json={"event": event("t", external_subscription_id=None)})
    assert answer.status_code == 200
    assert answer.json()["event"]["external_subscription_id"] is None


async def test_the_document_forgets_a_state_in_the_filter(client: httpx.AsyncClient) -> None:
    """Facts, Customers and subscriptions: `incomplete` is a state, so it does not switch the filter off."""
    parameters = document()["paths"]["/subscriptions"]["get"]["parameters"]
    states = next(one for one in parameters if one.get("name") == "status[]")
    assert "incomplete" not in states["schema"]["items"]["enum"]
    answer = await client.get("/subscriptions", params={"status[]": "incomplete"})
    assert answer.json()["subscriptions"] == []
