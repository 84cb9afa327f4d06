import json
import time
from typing import Any

import pytest

from deploy.demo.lago import SimulatedLago

from .conftest import Client, Run, event


def validation(details: dict[str, Any]) -> dict[str, Any]:
    return {
        "status": 422,
        "error": "Unprocessable Entity",
        "code": "validation_errors",
        "error_details": details,
    }


DUPLICATE = {"transaction_id": ["value_already_exist"]}


async def test_an_event_is_stored_once(client: Client, lago: SimulatedLago) -> None:
    """A second one with the same subscription and id is refused with Lago's body, and changes nothing."""
    first = await client.send_event(transaction_id="t1", timestamp="1777627800.123")
    second = await client.send_event(transaction_id="t1", timestamp="1777627801", kwh="9")
    created = first.json()["event"]
    assert first.status_code == 200
    assert created["timestamp"] == "2026-05-01T09:30:00.123Z"
    assert created["lago_customer_id"] is None
    assert (second.status_code, second.json()) == (422, validation(DUPLICATE))
    assert len(lago.state.events) == 1


async def test_another_subscription_may_use_the_id_again(client: Client, lago: SimulatedLago) -> None:
    """So an event that is retried under another subscription is billed twice."""
    assert (await client.send_event(transaction_id="t1")).status_code == 200
    again = await client.send_event(transaction_id="t1", external_subscription_id="sub_now")
    assert again.status_code == 200
    assert len(lago.state.events) == 2
    found = (await client.get("/events/t1")).json()["event"]
    assert found["external_subscription_id"] == "sub_1"


async def test_a_batch_is_all_or_nothing(client: Client, lago: SimulatedLago) -> None:
    """Field errors come first and alone; duplicates in the second round; indexes are strings."""
    assert (await client.send_batch(event("old"))).status_code == 200
    batch = [event("a"), event("old"), event("b", code=""), event("c", timestamp="2026-05-01T00:00:00Z")]
    first = await client.send_batch(*batch)
    assert first.status_code == 422
    assert first.json() == validation({"2": {"code": ["value_is_mandatory"]}, "3": {"timestamp": ["invalid_format"]}})
    second = await client.send_batch(event("a"), event("old"), event("b"), event("b"))
    assert (second.status_code, second.json()) == (422, validation({"1": DUPLICATE, "3": DUPLICATE}))
    assert len(lago.state.events) == 1
    third = await client.send_batch(event("a"), event("b"))
    assert [one["transaction_id"] for one in third.json()["events"]] == ["a", "b"]
    assert len(lago.state.events) == 3


async def test_an_expression_that_fails_is_told_as_a_string(client: Client, lago: SimulatedLago) -> None:
    """The value under an index may be text instead of an object."""
    answer = await client.send_batch(event("a"), event("b", code="computed"))
    details = answer.json()["error_details"]
    assert details == {"1": "expression_evaluation_failed: Variable: wh not found"}
    assert len(lago.state.events) == 0


@pytest.mark.parametrize(
    ("path", "body", "status", "answer"),
    [
        ("/events", {}, 400, None),
        ("/events", {"events": []}, 400, None),
        ("/events", {"event": {}}, 400, None),
        ("/events", [1], 400, None),
        ("/events/batch", {"event": {}}, 400, None),
        ("/events/batch", {"events": []}, 422, validation({"events": ["no_events"]})),
        ("/events/batch", {"events": "many"}, 422, validation({"events": ["no_events"]})),
        ("/events/batch", {"events": [1, 2]}, 422, validation({"events": ["no_events"]})),
        (
            "/events/batch",
            {"events": [event(f"t{number}") for number in range(101)]},
            422,
            validation({"events": ["too_many_events"]}),
        ),
        (
            "/events",
            {"event": {"code": "x"}},
            422,
            validation({"transaction_id": ["value_is_mandatory"]}),
        ),
    ],
)
async def test_bodies_that_are_refused(
    client: Client, lago: SimulatedLago, *, path: str, body: object, status: int, answer: object
) -> None:
    """400 without the envelope's key, 422 for none, too many, or incomplete events."""
    got = await client.post(path, json=body)
    assert got.status_code == status
    assert got.json()["status"] == status
    assert answer in (None, got.json())
    assert len(lago.state.events) == 0


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded"])
async def test_a_body_that_is_not_sent_as_json_is_not_read(client: Client, content_type: str) -> None:
    """Lago looks for parameters only in what is declared as JSON."""
    body = json.dumps({"event": event()})
    assert (await client.post("/events", content=body, headers={"Content-Type": content_type})).status_code == 400
    broken = await client.post("/events", content="{", headers={"Content-Type": "application/json"})
    assert broken.status_code == 400


async def test_100_events_are_a_full_batch(client: Client, lago: SimulatedLago) -> None:
    """The limit itself is allowed."""
    answer = await client.send_batch(*(event(f"t{number}") for number in range(100)))
    assert answer.status_code == 200
    assert len(lago.state.events) == 100
    assert await client.current_units() == ("150.0", 100)


@pytest.mark.parametrize(
    "fields",
    [
        {"external_subscription_id": "nobody"},
        {"external_subscription_id": None},
        {"external_subscription_id": "sub_old"},
        {"code": "unknown"},
        {"properties": {}},
        {"kwh": "1e3"},
        {"kwh": ".5"},
        {"kwh": " 5"},
        {"timestamp": "1651240791123"},
        {"timestamp": "1577836800"},
    ],
)
async def test_200_does_not_mean_billed(client: Client, lago: SimulatedLago, fields: dict[str, Any]) -> None:
    """Accepted, stored, shown, and never counted."""
    assert (await client.send_event(**fields)).status_code == 200
    assert len(lago.state.events) == 1
    assert (await client.get("/events/t1")).status_code == 200
    assert await client.current_units() == ("0.0", 0)


async def test_large_properties_make_the_whole_batch_fail_for_ever(client: Client, lago: SimulatedLago) -> None:
    """500 with a page instead of JSON, again and again, and nothing of the batch is stored."""
    large = event("large", properties={"kwh": "1", "note": "x" * 2400})
    for _ in range(2):
        answer = await client.send_batch(event("a"), large)
        assert answer.status_code == 500
        assert answer.headers["content-type"].startswith("text/html")
    assert len(lago.state.events) == 0
    assert (await client.send_batch(event("a"))).status_code == 200


async def test_clickhouse_never_refuses_a_duplicate(run: Run) -> None:
    """The same timestamp replaces, another one is billed twice."""
    lago = await run(events_store="clickhouse")
    async with Client(lago) as client:
        now = f"{time.time() - 60:.3f}"
        assert (await client.send_batch(event("a", timestamp=now), event("a", timestamp=now))).status_code == 200
        assert await client.current_units() == ("1.5", 1)
        assert (await client.send_event(transaction_id="a")).status_code == 200
        assert await client.current_units() == ("3.0", 2)
        organization = (await client.get("/organizations")).json()["organization"]
        assert organization["events_store"] == "clickhouse"


async def test_events_are_listed_newest_first_by_page(client: Client) -> None:
    """Filters are inclusive; `meta` leads from page to page; a page too far is empty."""
    base = 1_777_627_800
    await client.send_batch(*(event(f"t{n:03d}", timestamp=str(base + n)) for n in range(7)))
    await client.send_event(transaction_id="other", external_subscription_id="sub_now", timestamp=str(base + 3))
    query = {
        "external_subscription_id": "sub_1",
        "timestamp_from": "2026-05-01T09:30:01Z",
        "timestamp_to": "2026-05-01T09:30:05Z",
        "per_page": "2",
    }
    first = (await client.get("/events", params=query)).json()
    last = (await client.get("/events", params={**query, "page": "3"})).json()
    beyond = (await client.get("/events", params={**query, "page": "4"})).json()
    assert [one["transaction_id"] for one in first["events"]] == ["t005", "t004"]
    assert first["meta"] == {
        "current_page": 1,
        "next_page": 2,
        "prev_page": None,
        "total_pages": 3,
        "total_count": 5,
    }
    assert [one["transaction_id"] for one in last["events"]] == ["t001"]
    assert (last["meta"]["next_page"], last["meta"]["prev_page"]) == (None, 2)
    assert beyond["events"] == []
    everything = (await client.get("/events", params={"code": "ev_charging_kwh"})).json()
    assert everything["meta"]["total_count"] == 8
    assert everything["events"][3]["transaction_id"] == "other"


async def test_an_unreadable_filter_is_refused(client: Client) -> None:
    """A window that cannot be read never looks like an empty one."""
    answer = await client.get("/events", params={"timestamp_to": "yesterday"})
    assert (answer.status_code, answer.json()) == (422, validation({"timestamp_to": ["invalid_date"]}))


@pytest.mark.parametrize("transaction_id", ["steve:17:2", "a.b", "a b", "%41"])
async def test_an_event_is_found_by_its_id(client: Client, transaction_id: str) -> None:
    """Colons, dots and escaped characters are safe in an id; what is unknown is event_not_found."""
    await client.send_event(transaction_id=transaction_id)
    path = transaction_id.replace("%", "%25").replace(" ", "%20")
    found = await client.get(f"/events/{path}")
    assert found.json()["event"]["transaction_id"] == transaction_id
    missing = await client.get("/events/nothing")
    assert (missing.status_code, missing.json()["code"]) == (404, "event_not_found")


async def test_writing_events_can_be_forbidden(client: Client, lago: SimulatedLago) -> None:
    """A key without the permission is told so, and reading goes on."""
    lago.state.event_writes_allowed = False
    for answer in (await client.send_event(), await client.send_batch(event()), await client.post("/events", json={})):
        assert answer.status_code == 403
        assert answer.json() == {
            "status": 403,
            "error": "Forbidden",
            "code": "write_action_not_allowed_for_event",
        }
    assert (await client.get("/events")).status_code == 200
