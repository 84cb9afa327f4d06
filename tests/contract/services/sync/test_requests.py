"""What sync asks of SteVe and Lago, against their published documents.

The documents are no part of this project: `EXPRESSYNC_CONTRACTS` names the folder they lie in.
"""

import json
import os
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import yaml
from jsonschema import Draft202012Validator, FormatChecker

from services.sync.lago.client import LagoClient
from services.sync.lago.models import UsageEvent
from services.sync.steve.client import SteveClient, SteveVersion
from services.sync.steve.models import TagForm
from services.sync.upstreams.breaker import Breaker
from services.sync.upstreams.errors import UpstreamError

FOLDER: Final = os.environ.get("EXPRESSYNC_CONTRACTS")
AT: Final = datetime(2026, 5, 1, 9, 30, tzinfo=UTC)
FORM: Final = TagForm(id_tag="04A1B2C3", parent_id_tag="META", expiry_date=AT, max_active_transaction_count=0, note="x")
EVENT: Final = UsageEvent(
    transaction_id="steve:home:7:1",
    external_subscription_id="sub_1",
    code="ev_charging_kwh",
    timestamp="1777627800.000",
    properties={"kwh": "12.400"},
)

# Asked although the document does not know it, and the fact that says so.
UNDOCUMENTED: Final = {
    ("lago", "get", "/organizations"): "lago.md 6: GET /organizations tells the events store",
}


class Recorder(httpx.AsyncBaseTransport):
    """Keeps each request and answers that something is wrong: only what was asked matters here."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self.requests.append(request)
        return httpx.Response(422, json={"status": 422, "error": "x", "code": "x"}, request=request)


@cache
def document(name: str) -> dict[str, Any]:
    file = {"steve": "steve-api-docs.json", "lago": "lago-openapi.yaml"}[name]
    path = Path(FOLDER or "") / file
    if not FOLDER or not path.is_file():
        pytest.skip(f"EXPRESSYNC_CONTRACTS names no folder with {file} (the document is not ours to keep here)")
    text = path.read_text()
    loaded: dict[str, Any] = json.loads(text) if path.suffix == ".json" else yaml.load(text, yaml.CSafeLoader)
    return loaded


def resolve(name: str, part: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in part:
        found: Any = document(name)
        for step in part["$ref"].removeprefix("#/").split("/"):
            found = found[step.replace("~1", "/").replace("~0", "~")]
        part = found
    return part


def documented(name: str, request: httpx.Request, prefix: str) -> tuple[str, dict[str, Any], dict[str, Any]] | None:
    """The path's template, the path item and the operation that describe a request; None where there is none."""
    path = request.url.path.removeprefix(prefix)
    paths = document(name)["paths"]
    for template in sorted(paths, key=lambda one: one.count("{")):
        pattern = re.sub(r"\{[^}]+\}", "[^/]+", template)
        if re.fullmatch(pattern, path) and request.method.lower() in paths[template]:
            return template, paths[template], paths[template][request.method.lower()]
    return None


def check(name: str, request: httpx.Request, prefix: str) -> None:
    """The path, each query parameter and the body are as the document says."""
    found = documented(name, request, prefix)
    if found is None:
        key = (name, request.method.lower(), request.url.path.removeprefix(prefix))
        assert key in UNDOCUMENTED, f"{key} is not documented"
        return
    template, item, operation = found
    parameters = [resolve(name, one) for one in [*item.get("parameters", []), *operation.get("parameters", [])]]
    known = {one["name"]: one for one in parameters if one["in"] == "query"}
    for parameter, value in request.url.params.multi_items():
        assert parameter in known, f"{template} knows no parameter {parameter}"
        validate(name, known[parameter]["schema"], value)
    missing = {n for n, one in known.items() if one.get("required")} - set(request.url.params)
    assert not missing, f"{template} requires {missing}"
    if request.content:
        body = resolve(name, operation["requestBody"])["content"]["application/json"]["schema"]
        assert request.headers["content-type"] == "application/json"
        validate(name, body, json.loads(request.content))


def validate(name: str, schema: dict[str, Any], value: object) -> None:
    whole = {**schema, "components": document(name)["components"]}
    kinds = resolve(name, schema).get("type")
    if isinstance(value, str) and kinds == "array":
        value = value.split(",")
        items = resolve(name, resolve(name, schema)["items"]).get("type")
        value = [int(one) for one in value] if items == "integer" else value
    elif isinstance(value, str) and kinds == "integer":
        value = int(value)
    elif isinstance(value, str) and kinds == "boolean":
        value = json.loads(value)
    errors = Draft202012Validator(whole, format_checker=FormatChecker()).iter_errors(value)
    assert [f"{error.json_path}: {error.message}" for error in errors] == []


def steve(transport: Recorder, version: str = "3.15") -> SteveClient:
    return SteveClient(
        "http://steve.test",
        user="u",
        password="p",
        api_key="",
        version=SteveVersion.parse(version),
        breaker=Breaker(lambda: 0.0),
        watch=lambda *_: None,
        transport=transport,
    )


def lago(transport: Recorder) -> LagoClient:
    return LagoClient("http://lago.test", api_key="k", breaker=Breaker(lambda: 0.0), watch=lambda *_: None, transport=transport)


STEVE: dict[str, Callable[[SteveClient], Awaitable[object]]] = {
    "tags": lambda c: c.tags(),
    "find_tag": lambda c: c.find_tag("04A1B2C3"),
    "create_tag": lambda c: c.create_tag(FORM),
    "replace_tag": lambda c: c.replace_tag(7, FORM),
    "transactions": lambda c: c.transactions([7, 8, 9]),
    "active_transactions": lambda c: c.active_transactions(),
    "highest_pk": lambda c: c.highest_pk(),
    "details": lambda c: c.details(7),
    "probe": lambda c: c.probe(),
    "GetConfiguration": lambda c: c.operate("GetConfiguration", {"chargeBoxIdList": ["CP-1"]}),
    "ClearCache": lambda c: c.operate("ClearCache", {"chargeBoxIdList": ["CP-1"]}),
    "RemoteStopTransaction": lambda c: c.operate(
        "RemoteStopTransaction", {"chargeBoxIdList": ["CP-1"], "transactionId": 7}
    ),
}

LAGO: dict[str, Callable[[LagoClient], Awaitable[object]]] = {
    "send": lambda c: c.send([EVENT]),
    "stored_event": lambda c: c.stored_event("steve:home:7:1"),
    "stored_events": lambda c: c.stored_events("sub_1", "ev_charging_kwh", AT, AT),
    "subscription": lambda c: c.subscription("sub_1"),
    "subscriptions": lambda c: c.subscriptions("cus_1", statuses=("active", "terminated")),
    "customers": lambda c: c.customers("ada", page=1, per_page=20),
    "metric": lambda c: c.metric("ev_charging_kwh"),
    "plan": lambda c: c.plan("ev"),
    "organization": lambda c: c.organization(),
    "current_usage": lambda c: c.current_usage("cus_1", "sub_1"),
    "portal_url": lambda c: c.portal_url("cus_1"),
    "webhook_public_key": lambda c: c.webhook_public_key(),
    "probe": lambda c: c.probe(),
}


@pytest.mark.parametrize("call", STEVE)
async def test_what_is_asked_of_steve_is_documented(call: str) -> None:
    """Each request sync makes to SteVe has a documented path, parameters and body."""
    document("steve")
    recorder = Recorder()
    client = steve(recorder)
    with suppress(UpstreamError):
        await STEVE[call](client)
    await client.close()
    assert recorder.requests
    for request in recorder.requests:
        check("steve", request, "/steve")


@pytest.mark.parametrize("call", LAGO)
async def test_what_is_asked_of_lago_is_documented(call: str) -> None:
    """Each request sync makes to Lago has a documented path, parameters and body, or a fact that stands in for it."""
    document("lago")
    recorder = Recorder()
    client = lago(recorder)
    with suppress(UpstreamError):
        await LAGO[call](client)
    await client.close()
    assert recorder.requests
    for request in recorder.requests:
        check("lago", request, "/api/v1")


def test_every_call_of_the_clients_is_checked() -> None:
    """A call that somebody adds to a client is added here too."""

    def calls(cls: type) -> set[str]:
        return {name for name in vars(cls) if not name.startswith("_") and callable(getattr(cls, name))}

    assert calls(SteveClient) - {"close", "operate"} <= set(STEVE)
    assert calls(LagoClient) - {"close"} <= set(LAGO)
