"""What sync asks of SteVe and Lago, against their published documents, which are no part of this project."""

import json
import os
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from jsonschema import Draft202012Validator

from services.sync.lago.client import LagoClient
from services.sync.ledger.rules import usage_event
from services.sync.steve.client import SteveClient, SteveVersion
from services.sync.steve.models import TagForm
from services.sync.upstreams.breaker import Breaker
from services.sync.upstreams.errors import UpstreamError

FOLDER = Path(os.environ.get("EXPRESSYNC_CONTRACTS") or "/nowhere")
NOW = datetime(2026, 5, 1, 9, 30, 0, 123_000, tzinfo=UTC)
FORM = TagForm(id_tag="A", parent_id_tag="P", expiry_date=NOW, max_active_transaction_count=-1, note="n")
BOX = {"chargeBoxIdList": ["CP-1"]}

# Where Lago's document is silent though Lago is not (facts: Lago, fact 6).
UNDOCUMENTED = {"/organizations"}


@cache
def _load(name: str) -> dict[str, Any]:
    file = FOLDER / name
    if not file.is_file():
        pytest.skip(f"EXPRESSYNC_CONTRACTS names no folder that holds {name}; the document is not ours to keep here")
    found: dict[str, Any] = yaml.safe_load(file.read_text()) if name.endswith("yaml") else json.loads(file.read_text())
    return found


class Heard:
    """A transport that takes down what is asked and answers that it is down."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.transport = httpx.MockTransport(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return httpx.Response(503)


def check(document: dict[str, Any], request: httpx.Request, prefix: str) -> None:
    """The path and the query are documented, and the body fits its schema."""
    path = request.url.path.removeprefix(prefix)
    candidates = [
        template
        for template, operations in document["paths"].items()
        if re.fullmatch(re.sub(r"\{[^}]+\}", "[^/]+", template), path) and request.method.lower() in operations
    ]
    assert candidates, f"{request.method} {path} is not documented"
    operation = document["paths"][min(candidates, key=lambda one: one.count("{"))][request.method.lower()]
    parameters = [_resolved(document, one) for one in operation.get("parameters", [])]
    known = {one["name"] for one in parameters if one["in"] == "query"}
    assert set(request.url.params) <= known, f"{set(request.url.params) - known} are not documented for {path}"
    if request.content:
        body = _resolved(document, operation["requestBody"])["content"]["application/json"]["schema"]
        schema = {**body, "components": document["components"]}
        problems = [one.message for one in Draft202012Validator(schema).iter_errors(json.loads(request.content))]
        assert problems == []


def _resolved(document: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in part:
        found: Any = document
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        part = found
    return part


SteveCall = Callable[[SteveClient], Awaitable[object]]
LagoCall = Callable[[LagoClient], Awaitable[object]]

STEVE_CALLS: dict[str, SteveCall] = {
    "tags": lambda steve: steve.tags(),
    "find_tag": lambda steve: steve.find_tag("A", urgent=True),
    "create_tag": lambda steve: steve.create_tag(FORM),
    "replace_tag": lambda steve: steve.replace_tag(7, FORM),
    "transactions": lambda steve: steve.transactions([1, 2, 3]),
    "active_transactions": lambda steve: steve.active_transactions(),
    "highest_pk": lambda steve: steve.highest_pk(),
    "details": lambda steve: steve.details(7),
    "remote start": lambda steve: steve.operate("RemoteStartTransaction", {**BOX, "idTag": "A", "connectorId": 1}),
    "remote stop": lambda steve: steve.operate("RemoteStopTransaction", {**BOX, "transactionId": 7}),
    "clear cache": lambda steve: steve.operate("ClearCache", BOX),
    "unlock": lambda steve: steve.operate("UnlockConnector", {**BOX, "connectorId": 1}),
    "get configuration": lambda steve: steve.operate("GetConfiguration", BOX),
}
EVENT = usage_event(
    event_id="steve:main:1:1",
    subscription="sub",
    code="ev_charging_kwh",
    property_name="kwh",
    wh=-12_345,
    timestamp=NOW,
    session="main:1",
    charge_box_id="CP-1",
)
LAGO_CALLS: dict[str, LagoCall] = {
    "send": lambda lago: lago.send([EVENT, EVENT]),
    "stored_event": lambda lago: lago.stored_event("steve:main:1:1"),
    "stored_events": lambda lago: lago.stored_events("sub", "ev_charging_kwh", NOW, NOW + timedelta(days=1)),
    "subscription": lambda lago: lago.subscription("sub", status="terminated", urgent=True),
    "subscriptions": lambda lago: lago.subscriptions("cus", urgent=True),
    "customers": lambda lago: lago.customers(None, page=2, per_page=20),
    "metric": lambda lago: lago.metric("ev_charging_kwh"),
    "plan": lambda lago: lago.plan("ev"),
    "organization": lambda lago: lago.organization(),
    "current_usage": lambda lago: lago.current_usage("cus", "sub"),
    "portal_url": lambda lago: lago.portal_url("cus"),
    "webhook_public_key": lambda lago: lago.webhook_public_key(),
}


@pytest.mark.parametrize("name", STEVE_CALLS)
async def test_what_is_asked_of_steve_is_documented(name: str) -> None:
    """Each request's path, query and body are those of SteVe's own document."""
    document = _load("steve-api-docs.json")
    heard = Heard()
    steve = SteveClient(
        "http://steve",
        user="u",
        password="p",
        api_key="",
        version=SteveVersion((3, 15)),
        breaker=Breaker(lambda: 0.0),
        watch=lambda *_: None,
        transport=heard.transport,
    )
    with pytest.raises(UpstreamError):
        await STEVE_CALLS[name](steve)
    [request] = heard.requests
    assert request.headers["Authorization"].startswith("Basic ")
    check(document, request, "/steve")
    await steve.close()


@pytest.mark.parametrize("name", LAGO_CALLS)
async def test_what_is_asked_of_lago_is_documented(name: str) -> None:
    """Each request's path, query and body are those of Lago's own document, where that knows of them."""
    document = _load("lago-openapi.yaml")
    heard = Heard()
    lago = LagoClient(
        "http://lago", api_key="k", breaker=Breaker(lambda: 0.0), watch=lambda *_: None, transport=heard.transport
    )
    with pytest.raises(UpstreamError):
        await LAGO_CALLS[name](lago)
    [request] = heard.requests
    assert request.headers["Authorization"] == "Bearer k"
    if request.url.path.removeprefix("/api/v1") not in UNDOCUMENTED:
        check(document, request, "/api/v1")
    await lago.close()
