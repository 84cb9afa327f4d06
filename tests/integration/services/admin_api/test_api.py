"""What holds for every resource: problems, roles, keys, bounds, headers, tokens."""

import asyncio
import json
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from services.admin_api.main import openapi_document
from shared.contracts.requests.audit import EntryPage, GetEntry, SearchEntries
from shared.contracts.requests.preauth import (
    ArmPairing,
    CancelPairing,
    ListPairings,
    PairingList,
    SearchTaps,
    TapPage,
)
from shared.contracts.requests.sync import (
    CustomerPage,
    GetUpstreams,
    SearchCustomers,
    SearchSessions,
    SessionPage,
    UpstreamList,
)
from tests.integration.services.admin_api.scene import all_is_well
from tests.integration.services.admin_api.stubs import nothing
from tests.integration.services.admin_api.support import EventLog, House, change, key, problem
from tests.unit.services.admin_api.diagnosis import cases
from tests.waiting import until


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/api/v1/nothing", 404, "no_such_path"),
        ("GET", "/api/nothing", 404, "no_such_path"),
        ("GET", "/api", 404, "no_such_path"),
        ("DELETE", "/api/v1/cards", 405, "wrong_method"),
        ("GET", "/api/v1/cards?limit=0", 422, "invalid_request"),
        ("GET", "/api/v1/cards?limit=201", 422, "invalid_request"),
        ("GET", "/api/v1/taps?since=yesterday", 422, "invalid_request"),
        ("GET", "/api/v1/taps?since=2026-05-01T09:30:00", 422, "invalid_request"),
        ("GET", "/api/v1/audit/entries/no-uuid", 422, "invalid_request"),
    ],
)
async def test_every_refusal_is_a_problem_detail(admin: House, method: str, path: str, status: int, code: str) -> None:
    """RFC 9457, also for what the framework refuses by itself."""
    client = await admin.as_admin()
    problem(await client.request(method, path), status, code)


async def test_what_is_no_json_or_not_of_the_form_is_refused_without_repeating_it(admin: House) -> None:
    """A body may hold a password: the refusal names the field and not its value."""
    client = admin.client()
    answer = await client.post("/api/v1/session", content="{", headers={"Content-Type": "application/json"})
    problem(answer, 400, "invalid_json")
    answer = await client.post("/api/v1/session", json={"name": "admin", "password": ["very secret"]})
    body = problem(answer, 422, "invalid_request")
    assert body["errors"][0]["where"] == "body.password"
    assert "very secret" not in answer.text


async def test_a_body_beyond_the_bound_is_refused_before_it_is_read(admin: House) -> None:
    """By its declared length, and as soon as too much has come in."""
    client = await admin.as_admin()
    problem(await client.post("/api/v1/diagnoses", content=b"x" * 70_000), 413, "body_too_large")

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 1024

    answer = await client.post("/api/v1/diagnoses", content=endless(), headers={"Content-Type": "application/json"})
    problem(answer, 413, "body_too_large")


async def test_without_a_token_there_is_nothing_to_see(admin: House) -> None:
    """401 with what to do; the scheme is named for clients."""
    answer = await admin.client().get("/api/v1/cards")
    problem(answer, 401, "not_signed_in")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    for token in ("nonsense", "expressync_abcdefgh_x", "expsession_x"):
        problem(await admin.client(token).get("/api/v1/cards"), 401, "bad_token")


async def test_every_refusal_is_described_as_a_problem_detail() -> None:
    """OpenAPI 3.1; whatever an operation refuses with has the one form."""
    document = openapi_document()
    assert document["openapi"].startswith("3.1")
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    assert list(answer["content"]) == ["application/problem+json"], (path, status)


async def test_the_description_is_served_to_everybody(admin: House) -> None:
    """At /api/openapi.json, without a token; it is what the code says."""
    assert (await admin.client().get("/api/openapi.json")).json() == json.loads(json.dumps(openapi_document()))


@pytest.mark.parametrize("path", ["/api/v1/me", "/api/nothing", "/api/openapi.json"])
async def test_every_answer_carries_the_strict_headers(admin: House, path: str) -> None:
    """Nothing is sniffed, framed, cached or leaked in a referrer."""
    headers = (await admin.client().get(path)).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["X-Frame-Options"] == "DENY"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "server" not in headers
    assert "Strict-Transport-Security" not in headers


async def test_a_token_is_shown_once_works_and_is_revoked(admin: House, told: EventLog) -> None:
    """The same key gives the token without its secret; revoking ends it at once; both are told."""
    client = await admin.as_admin()
    headers = key()
    body = {"name": "billing export", "role": "viewer", "days": 30}
    made = (await client.post("/api/v1/tokens", json=body, headers=headers)).json()
    again = (await client.post("/api/v1/tokens", json=body, headers=headers)).json()
    assert again == {**made, "token": None}
    assert made["token"].startswith(made["prefix"])
    assert made["token"] not in str(await admin.sql("SELECT * FROM api_token"))
    assert made["token"] not in str(await admin.sql("SELECT * FROM request_result"))

    program = admin.client(made["token"])
    assert (await program.get("/api/v1/me")).json()["name"] == "billing export"
    listed = (await client.get("/api/v1/tokens")).json()["items"]
    assert [(t["name"], t["last_used_at"] is not None, "token" in t) for t in listed] == [
        ("billing export", True, False)
    ]
    problem(await client.post("/api/v1/tokens", json=body, headers=key()), 409, "token_name_taken")

    await change(client, f"/tokens/{made['token_id']}/revoke", status=200)
    problem(await program.get("/api/v1/me"), 401, "bad_token")
    await change(client, "/tokens", body)

    async def all_told() -> bool:
        return bool(told.of("api_token.revoked")) and len(told.of("api_token.created")) >= 2

    await until(all_told)
    assert told.of("api_token.created")[0].subject == f"api_token/{made['token_id']}"
    assert not any(made["token"].encode() in sent for sent in told.bodies)


async def test_a_token_expires(admin: House) -> None:
    """After its days it is worth nothing."""
    client = await admin.as_admin()
    made = await change(client, "/tokens", {"name": "short", "days": 1})
    admin.clock.pass_by(hours=25)
    problem(await admin.client(made["token"]).get("/api/v1/me"), 401, "bad_token")


async def test_a_key_stands_for_one_request_of_one_caller(admin: House) -> None:
    """Another request under it is refused; another caller's same key is another key; a refusal leaves it unused."""
    client = await admin.as_admin()
    headers = key()
    assert (await client.post("/api/v1/tokens", json={"name": "one"}, headers=headers)).status_code == 201
    answer = await client.post("/api/v1/tokens", json={"name": "two"}, headers=headers)
    problem(answer, 409, "idempotency_key_reused")
    made = await change(client, "/tokens", {"name": "other admin", "role": "admin"})
    other = admin.client(made["token"])
    assert (await other.post("/api/v1/tokens", json={"name": "three"}, headers=headers)).status_code == 201
    refused = key()
    problem(await client.post("/api/v1/tokens", json={"name": "one"}, headers=refused), 409, "token_name_taken")
    assert (await client.post("/api/v1/tokens", json={"name": "four"}, headers=refused)).status_code == 201


async def test_the_same_key_at_the_same_time_makes_one(admin: House) -> None:
    """Ten at once: one token, one secret, nine answers without it."""
    client = await admin.as_admin()
    headers = key()
    answers = await asyncio.gather(
        *(client.post("/api/v1/tokens", json={"name": "race"}, headers=headers) for _ in range(10))
    )
    assert {answer.status_code for answer in answers} == {201}
    assert len([answer for answer in answers if answer.json()["token"]]) == 1
    assert len({answer.json()["token_id"] for answer in answers}) == 1


async def test_pairings_are_armed_listed_and_cancelled_through_their_owner(admin: House) -> None:
    """Preauth gets what was asked, with the key."""
    pairing = cases.pairing()
    admin.owners.answer(ArmPairing, pairing)
    admin.owners.answer(CancelPairing, pairing.model_copy(update={"state": "cancelled"}))
    admin.owners.answer(ListPairings, PairingList(pairings=[pairing]))
    operator = await admin.as_role("operator")
    body = {"charge_box_id": "CP/7 ü", "purpose": "link_card", "window_s": 30}
    assert (await change(operator, "/pairings", body))["code"] == "7431"
    cancelled = await change(operator, f"/pairings/{pairing.pairing_id}/cancel", status=200)
    assert cancelled["state"] == "cancelled"
    params = {"charger": "CP/7 ü", "armed": "true", "cursor": "a page's end"}
    listed = (await operator.get("/api/v1/pairings", params=params)).json()
    assert len(listed["items"]) == 1
    assert admin.owners.requests(ArmPairing)[0].data == {**body, "connector_id": None}
    asked = admin.owners.requests(ListPairings)[0].data
    assert (asked["charge_box_id"], asked["cursor"]) == ("CP/7 ü", "a page's end")
    # A login is for the driver at the charger, and bound to that browser: no operator arms one.
    refused = await operator.post("/api/v1/pairings", json={**body, "purpose": "login"}, headers=key())
    assert refused.status_code == 422
    assert len(admin.owners.requests(ArmPairing)) == 1


async def test_sessions_taps_and_entries_are_asked_with_their_filters(admin: House) -> None:
    """Each list reaches its owner with exactly the filters of the address."""
    admin.owners.answer(SearchSessions, SessionPage(sessions=[cases.session()]))
    admin.owners.answer(SearchTaps, TapPage(taps=[cases.tap()]))
    admin.owners.answer(SearchEntries, EntryPage(entries=[]))
    admin.owners.answer(GetEntry, nothing)
    viewer = await admin.as_role("viewer")
    await viewer.get("/api/v1/sessions", params={"card": "04a1 ", "charger": "CP-7", "billing": "held"})
    await viewer.get("/api/v1/taps", params={"charger": "CP-7", "since": "2026-05-01T09:30:00+02:00"})
    await viewer.get(
        "/api/v1/audit/entries", params={"subject": "card/X", "type": "card.linked", "actor_kind": "driver"}
    )
    problem(await viewer.get(f"/api/v1/audit/entries/{uuid4()}"), 404, "not_found")
    sessions, taps = admin.owners.requests(SearchSessions)[0].data, admin.owners.requests(SearchTaps)[0].data
    assert (sessions["id_tag"], sessions["charge_box_id"], sessions["billing"]) == ("04A1", "CP-7", "held")
    assert taps["since"].startswith("2026-05-01T09:30:00+02:00") or taps["since"].startswith("2026-05-01T07:30:00")
    assert admin.owners.requests(SearchEntries)[0].data["actor_kind"] == "driver"


async def test_a_customer_is_asked_for_by_its_own_id(admin: House) -> None:
    """Apart from what is searched for, which is a part of a name or an id."""
    admin.owners.answer(SearchCustomers, CustomerPage(answered=True, customers=[]))
    await (await admin.as_admin()).get("/api/v1/customers", params={"external_customer_id": "12"})
    (asked,) = admin.owners.requests(SearchCustomers)
    assert (asked.data["external_customer_id"], asked.data["text"]) == ("12", None)


async def test_lago_silent_is_not_no_customers(admin: House) -> None:
    """Sync answered that Lago did not: 504, with the reason."""
    admin.owners.answer(SearchCustomers, CustomerPage(answered=False, customers=[], problem="Lago timed out"))
    body = problem(await (await admin.as_admin()).get("/api/v1/customers", params={"q": "ada"}), 504, "unknown")
    assert "Lago timed out" in body["detail"]


async def test_the_upstreams_are_unknown_until_sync_says_how_they_stand(admin: House) -> None:
    """Nobody has said: unknown. As sync says. Not heard for a while: unknown again, never the last good news."""
    admin.owners.answer(
        GetUpstreams,
        UpstreamList.model_validate(
            {
                "upstreams": [
                    {"upstream": "steve", "state": "ok", "since": cases.NOW, "checked_at": cases.NOW},
                    {
                        "upstream": "lago",
                        "state": "lost",
                        "since": cases.NOW,
                        "checked_at": cases.NOW,
                        "reason": "timeout",
                        "explanation": "Lago has not answered for 40 s; nothing is lost, 12 sessions wait.",
                    },
                ]
            }
        ),
    )
    client = await admin.as_admin()

    async def states() -> dict[str, str]:
        items = (await client.get("/api/v1/upstreams")).json()["items"]
        return {item["name"]: item["state"] for item in items}

    async def heard() -> bool:
        return await states() == {"steve": "ok", "lago": "lost", "broker": "ok"}

    await until(heard)
    admin.owners.silence(GetUpstreams)
    admin.clock.pass_by(seconds=25)
    assert await states() == {"steve": "unknown", "lago": "unknown", "broker": "ok"}


async def test_the_overview_has_a_part_for_each_owner(admin: House) -> None:
    """Taps from preauth, sessions from sync; who is silent is silent in their part only."""
    all_is_well(admin.owners)
    admin.owners.silence(SearchTaps)
    found = (await (await admin.as_admin()).get("/api/v1/overview")).json()
    assert found["taps"]["answered"] is False
    assert found["sessions"]["value"]["sessions"][0]["session"] == "main:42"
    assert [each["name"] for each in found["upstreams"]] == ["steve", "lago", "broker"]


async def test_the_owner_is_asked_within_the_callers_trace(admin: House) -> None:
    """A request's `traceparent` reaches whoever is asked because of it, so that one trace shows both."""
    trace = "0af7651916cd43dd8448eb211c80319c"
    client = await admin.as_admin()
    await client.get("/api/v1/cards", headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})
    assert admin.owners.traceparents
    assert all(trace in (sent or "") for sent in admin.owners.traceparents)
