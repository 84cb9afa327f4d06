"""What sync asks of SteVe and Lago, against their published documents, which are no part of this project."""

import inspect
import json
import os
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
import yaml
from jsonschema import Draft202012Validator, FormatChecker

from services.preauth.chargers.rules import READINESS_KEYS
from services.sync.lago.client import LagoClient
from services.sync.ledger.rules import usage_event
from services.sync.steve.client import SteveClient, SteveVersion
from services.sync.steve.models import TagForm
from services.sync.upstreams.breaker import Breaker
from services.sync.upstreams.errors import UpstreamError
from shared.contracts.configuration import FORMS
from shared.contracts.requests.sync import ChargerOperation

FOLDER = Path(os.environ.get("EXPRESSYNC_CONTRACTS") or "/nowhere")
NOW = datetime(2026, 5, 1, 9, 30, 0, 123_000, tzinfo=UTC)
FORM = TagForm(id_tag="A", parent_id_tag="P", expiry_date=NOW, max_active_transaction_count=-1, note="n")
BOX = {"chargeBoxIdList": ["CP-1"]}

# Where Lago's document is silent though Lago is not (facts: Lago, fact 6).
UNDOCUMENTED = {"/organizations"}
# What it does not know of in a query, though Lago takes it: a path does not hold an id with a dot in it, and Lago is
# asked by this instead (facts: Lago, customers and subscriptions).
UNDOCUMENTED_QUERY = {"/customers": {"external_id"}}

FORMATS = FormatChecker(())


@FORMATS.checks("date-time")
def _is_a_moment(value: object) -> bool:
    """RFC 3339: a date, a time and an offset. What is no text has no format."""
    pattern = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"
    return not isinstance(value, str) or (re.fullmatch(pattern, value) is not None and _parses(value))


def _parses(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


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
    """The path is documented, and each value in the query, and the body, fits its schema."""
    path = request.url.path.removeprefix(prefix)
    candidates = [
        template
        for template, operations in document["paths"].items()
        if re.fullmatch(re.sub(r"\{[^}]+\}", "[^/]+", template), path) and request.method.lower() in operations
    ]
    assert candidates, f"{request.method} {path} is not documented"
    operation = document["paths"][min(candidates, key=lambda one: one.count("{"))][request.method.lower()]
    parameters = [_resolved(document, one) for one in operation.get("parameters", [])]
    known = {one["name"]: one for one in parameters if one["in"] == "query"}
    unknown = set(request.url.params) - set(known)
    assert unknown <= UNDOCUMENTED_QUERY.get(path, set()), f"{unknown} are not documented for {path}"
    missing = {name for name, one in known.items() if one.get("required")} - set(request.url.params)
    assert missing == set(), f"{path} is not answered without them"
    for name in set(request.url.params) - unknown:
        given = request.url.params.get_list(name)
        assert _problems(document, known[name]["schema"], _read(document, known[name], given)) == [], f"{name}={given}"
    if request.content:
        body = _resolved(document, operation["requestBody"])["content"]["application/json"]["schema"]
        given_body = json.loads(request.content)
        assert _problems(document, body, given_body) == []
        # A schema takes what it does not name, and the upstream then does not read it.
        fields = _resolved(document, body)["properties"]
        assert set(given_body) <= set(fields), f"{set(given_body) - set(fields)} are not documented for {path}"


def _problems(document: dict[str, Any], schema: dict[str, Any], value: object) -> list[str]:
    whole = {**schema, "components": document["components"]}
    return [one.message for one in Draft202012Validator(whole, format_checker=FORMATS).iter_errors(value)]


def _read(document: dict[str, Any], parameter: dict[str, Any], given: list[str]) -> object:
    """The texts of a query as the value that they mean; what cannot be one stays text, for the schema to refuse."""
    schema = _resolved(document, parameter["schema"])
    if schema["type"] == "array":
        # Named once for each item, or, where there are many, once with commas, which Spring reads alike.
        items = [text for one in given for text in one.split(",")]
        return [_scalar(_resolved(document, schema["items"])["type"], one) for one in items]
    # More than one value for what takes one is none of its kind.
    return _scalar(schema["type"], given[0]) if len(given) == 1 else given


def _scalar(kind: str, text: str) -> object:
    if kind == "boolean" and text in {"true", "false"}:
        return text == "true"
    return int(text) if kind == "integer" and re.fullmatch("-?[0-9]+", text) else text


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
    # As preauth asks for what stands in the way of an interception.
    "get some configuration": lambda steve: steve.operate(
        "GetConfiguration", {**BOX, "commaSeparatedCustomConfKeys": ",".join(READINESS_KEYS)}
    ),
    "reset": lambda steve: steve.operate("Reset", {**BOX, "resetType": "Soft"}),
    "change availability": lambda steve: steve.operate(
        "ChangeAvailability", {**BOX, "connectorId": 1, "availType": "Inoperative"}
    ),
    "change configuration": lambda steve: steve.operate(
        "ChangeConfiguration",
        {**BOX, "keyType": "CUSTOM", "customConfKey": "LocalPreAuthorize", "value": "false"},
    ),
    "trigger message": lambda steve: steve.operate("TriggerMessage", {**BOX, "triggerMessage": "StatusNotification"}),
    "probe": lambda steve: steve.probe(),
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
    "subscriptions that ran": lambda lago: lago.lives("sub", "cus"),
    "customers": lambda lago: lago.customers(None, page=2, per_page=20),
    "customers by a term": lambda lago: lago.customers("Ada", page=1, per_page=20),
    "customer": lambda lago: lago.customer("ada.example"),
    "metric": lambda lago: lago.metric("ev_charging_kwh"),
    "plan": lambda lago: lago.plan("ev"),
    "organization": lambda lago: lago.organization(),
    "current_usage": lambda lago: lago.current_usage("cus", "sub"),
    "portal_url": lambda lago: lago.portal_url("cus"),
    "webhook_public_key": lambda lago: lago.webhook_public_key(),
    "probe": lambda lago: lago.probe(),
}


class Called:
    """In a client's place: takes down which of its methods are called, and with what first."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, object]] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *given, **_: self.calls.append((name, given[0] if given else None))


@pytest.mark.parametrize(("client", "calls"), [(SteveClient, STEVE_CALLS), (LagoClient, LAGO_CALLS)])
def test_nothing_that_is_asked_is_left_out(client: type, calls: dict[str, Callable[[Any], object]]) -> None:
    """Each method of a client that asks something, and each operation that a charger may be asked for, has its case."""
    called = Called()
    for call in calls.values():
        call(called)
    asking = {name for name, one in vars(client).items() if inspect.iscoroutinefunction(one) and name[0] != "_"}
    assert {name for name, _ in called.calls} == asking - {"close"}
    if client is SteveClient:
        assert {first for name, first in called.calls if name == "operate"} == set(get_args(ChargerOperation))


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


@pytest.mark.parametrize(
    ("method", "url", "prefix"),
    [
        ("GET", "http://steve/steve/api/v1/transactions?type=BUSY", "/steve"),
        ("GET", "http://steve/steve/api/v1/transactions?type=ACTIVE&type=ALL", "/steve"),
        ("GET", "http://steve/steve/api/v1/transactions?transactionPk=1;2", "/steve"),
        ("GET", "http://steve/steve/api/v1/transactions/7?energyValuesOnly=yes", "/steve"),
        ("GET", "http://lago/api/v1/subscriptions?status[]=on", "/api/v1"),
        ("GET", "http://lago/api/v1/subscriptions/sub?status=on", "/api/v1"),
        ("GET", "http://lago/api/v1/events?timestamp_from=2026-05-01", "/api/v1"),
        ("GET", "http://lago/api/v1/events?timestamp_from=2026-05-01 09:30:00Z", "/api/v1"),
        ("GET", "http://lago/api/v1/events?per_page=many", "/api/v1"),
        ("GET", "http://lago/api/v1/customers/cus/current_usage", "/api/v1"),
    ],
)
def test_a_wrong_value_is_noticed(method: str, url: str, prefix: str) -> None:
    """A value that is not in the enum, not in the format, not of the type, or missing fails the check."""
    document = _load("steve-api-docs.json" if prefix == "/steve" else "lago-openapi.yaml")
    with pytest.raises(AssertionError):
        check(document, httpx.Request(method, url), prefix)


@pytest.mark.parametrize(
    "form", [{**BOX, "type": "Soft"}, {**BOX, "resetType": "Soft", "type": "Soft"}, {**BOX, "resetType": "soft"}]
)
def test_a_wrong_form_is_noticed(form: dict[str, Any]) -> None:
    """A field that is missing, or that the form does not have, or a value that the field does not take."""
    document = _load("steve-api-docs.json")
    with pytest.raises(AssertionError):
        check(document, httpx.Request("POST", "http://steve/steve/api/v1/operations/Reset", json=form), "/steve")


def test_the_forms_of_operations_are_steves() -> None:
    """The parameters that an operator may give are those of SteVe's forms."""
    assert set(FORMS) == set(get_args(ChargerOperation))
    document = _load("steve-api-docs.json")
    for name, form in FORMS.items():
        body = document["paths"][f"/api/v1/operations/{name}"]["post"]["requestBody"]
        fields = _resolved(document, _resolved(document, body)["content"]["application/json"]["schema"])["properties"]
        assert form == set(fields) - set(BOX), name


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
