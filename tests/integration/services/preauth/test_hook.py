"""The hook and its journal on a real PostgreSQL: the scenarios of the facts page, one by one."""

import asyncio
import base64
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from shared.contracts.requests.preauth import ArmPairing, CancelPairing, ListPairings, SearchTaps
from shared.web.signatures import hex_hmac
from tests.databases import TestDatabase
from tests.integration.services.preauth.world import KEY, Preauth, running

CP = "CP:7%_/ä"


async def arm(preauth: Preauth, charger: str = CP, **more: int) -> dict[str, Any]:
    return await preauth.done(ArmPairing(charge_box_id=charger, purpose="find_card", **more))


async def test_a_crash_is_answered_as_the_caller_knows_it(preauth: Preauth, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of ours is 500 `internal`, in the hook's own words, and the next call is served."""

    def crash(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    with monkeypatch.context() as broken:
        broken.setattr("services.preauth.decision.http.signed", crash)
        answer = await preauth.post(preauth.body("04A1", "CP-7"))
    assert (answer.status_code, answer.json()) == (500, {"error": "internal"})
    assert await preauth.tap("04A1", "CP-7") is None


async def test_passes_when_nothing_is_armed(preauth: Preauth) -> None:
    """A tap where no scan waits gets no override, and is journalled with what it was told."""
    assert await preauth.tap(" 04a1 ", CP, connector=2) is None
    [row] = await preauth.until("SELECT * FROM tap WHERE told IS NOT NULL")
    assert (row["id_tag"], row["id_tag_as_sent"], row["charge_box_id"]) == ("04A1", " 04a1 ", CP)
    assert (row["reason"], row["told"], row["in_time"], row["connector_id"]) == ("nothing_armed", "passed", True, 2)
    [event] = preauth.events("tap.decided")
    assert event["data"]["tap_id"] == str(row["tap_id"])
    assert event["data"]["decision"] == "pass"


async def test_intercepts_the_card_that_the_scan_waits_for(preauth: Preauth) -> None:
    """The first tap at an armed charger is told Blocked, and only that makes it a scan."""
    armed = await arm(preauth)
    assert await preauth.tap("04A1", CP) == "BLOCKED"
    [pairing] = await preauth.until("SELECT * FROM pairing WHERE state = 'intercepted'")
    assert (str(pairing["pairing_id"]), pairing["id_tag"]) == (armed["pairing_id"], "04A1")
    [event] = preauth.events("scan.intercepted")
    assert event["subject"] == "card/04A1"
    assert event["data"]["pairing_id"] == armed["pairing_id"]
    assert event["data"]["via"] == "hook"
    [decided] = preauth.events("tap.decided")
    assert (decided["data"]["told"], decided["data"]["reason"]) == ("blocked", "matched")


async def test_another_chargers_tap_charges(preauth: Preauth) -> None:
    """Armed at A, tapped at B: it charges, and A goes on waiting; wildcards and colons are plain characters."""
    await arm(preauth)
    for other in ("CP:7%_/a", "CP:7%", "%", CP.upper(), "CP"):
        assert await preauth.tap("04A1", other) is None
    assert await preauth.tap("04A1", CP) == "BLOCKED"


async def test_two_armed_chargers_are_independent(preauth: Preauth) -> None:
    """Each charger's scan takes its own tap."""
    await arm(preauth, "A")
    await arm(preauth, "B")
    assert list(await asyncio.gather(preauth.tap("04A1", "A"), preauth.tap("04B2", "B"))) == ["BLOCKED", "BLOCKED"]
    await preauth.until("SELECT 1 FROM pairing WHERE state = 'intercepted' HAVING count(*) = 2")


async def test_the_same_card_again_is_blocked_without_a_second_event(preauth: Preauth) -> None:
    """The card of a scan is answered Blocked again for ten seconds, and then it charges."""
    await arm(preauth)
    assert await preauth.tap("04A1", CP) == "BLOCKED"
    await preauth.until("SELECT 1 FROM pairing WHERE state = 'intercepted'")
    assert await preauth.tap("04a1", CP) == "BLOCKED"
    assert await preauth.tap("04A1", CP, start=True) == "BLOCKED"
    preauth.clock.ahead += timedelta(seconds=11)
    assert await preauth.tap("04A1", CP) is None
    assert len(preauth.events("scan.intercepted")) == 1
    reasons = [row["reason"] for row in preauth.rows("SELECT reason FROM tap ORDER BY received_at")]
    assert reasons == ["matched", "repeated", "repeated", "already_scanned"]


async def test_another_card_after_the_match_charges(preauth: Preauth) -> None:
    """A scan takes one card; whoever comes next charges."""
    await arm(preauth)
    assert await preauth.tap("04A1", CP) == "BLOCKED"
    assert await preauth.tap("04B2", CP) is None
    assert preauth.rows("SELECT reason FROM tap WHERE id_tag = '04B2'")[0]["reason"] == "other_card_matched"


async def test_an_expired_scan_takes_nobody(preauth: Preauth) -> None:
    """After its window a scan is over, whether somebody swept it away or not, and a new one may be armed."""
    await arm(preauth, window_s=10)
    preauth.clock.ahead += timedelta(seconds=10)
    assert await preauth.tap("04A1", CP) is None
    assert preauth.rows("SELECT reason FROM tap")[0]["reason"] == "expired"
    await arm(preauth)
    assert len(preauth.events("pairing.expired")) == 1


async def test_a_cancelled_scan_takes_nobody(preauth: Preauth) -> None:
    """A cancelled scan lets the card charge, and says so."""
    armed = await arm(preauth)
    await preauth.done(CancelPairing(pairing_id=armed["pairing_id"]))
    assert await preauth.tap("04A1", CP) is None
    assert preauth.rows("SELECT reason FROM tap")[0]["reason"] == "cancelled"
    refused = await preauth.ask(CancelPairing(pairing_id=armed["pairing_id"]))
    assert refused.problem is not None
    assert refused.problem.code == "pairing_not_open"


async def test_the_other_connector_charges(preauth: Preauth) -> None:
    """A scan armed for a connector leaves the driver at the other one alone."""
    await arm(preauth, connector_id=1)
    assert await preauth.tap("04B2", CP, connector=2) is None
    assert preauth.rows("SELECT reason FROM tap")[0]["reason"] == "other_connector"
    assert await preauth.tap("04A1", CP, connector=1) == "BLOCKED"


@pytest.mark.parametrize(
    ("authorized", "reason"), [(False, "start_without_authorize"), (True, "start_follows_authorize")]
)
async def test_a_start_alone_is_no_tap(preauth: Preauth, authorized: bool, reason: str) -> None:  # noqa: FBT001
    """A start that no Authorize preceded, or whose Authorize was let through before the scan was armed, charges."""
    if authorized:
        assert await preauth.tap("04A1", CP) is None
    await arm(preauth)
    assert await preauth.tap("04A1", CP, start=True) is None
    assert preauth.rows("SELECT reason FROM tap WHERE kind = 'start'")[0]["reason"] == reason
    assert await preauth.tap("04B2", CP) == "BLOCKED"


async def test_a_start_after_a_blocked_authorize_was_not_let_through(preauth: Preauth) -> None:
    """Told Blocked, a charger starts all the same once the next scan is armed: the journal does not excuse it."""
    await arm(preauth)
    assert await preauth.tap("04A1", CP) == "BLOCKED"
    await preauth.until("SELECT FROM pairing WHERE state = 'intercepted'")
    preauth.clock.ahead += timedelta(seconds=12)
    await arm(preauth)
    assert await preauth.tap("04A1", CP, start=True) is None
    assert preauth.rows("SELECT reason FROM tap WHERE kind = 'start'") == [{"reason": "start_without_authorize"}]


async def test_a_replayed_call_gets_the_same_answer_once(preauth: Preauth) -> None:
    """The same body again is the same tap: same answer, no second row, no second event."""
    await arm(preauth)
    body = preauth.body("04A1", CP)
    answers = [(await preauth.post(body)).json()["override"] for _ in range(3)]
    assert answers == ["BLOCKED"] * 3
    preauth.clock.ahead += timedelta(seconds=60)
    assert (await preauth.post(body)).json() == {"override": "BLOCKED"}
    assert len(preauth.rows("SELECT 1 FROM tap")) == 1
    assert len(preauth.events("scan.intercepted")) == len(preauth.events("tap.decided")) == 1


async def test_a_replay_from_long_ago_is_stale(preauth: Preauth) -> None:
    """A call whose time is far off is answered null, journalled as stale, and matches nothing."""
    body = preauth.body("04A1", CP)
    preauth.clock.ahead += timedelta(seconds=301)
    await arm(preauth)
    assert (await preauth.post(body)).json() == {"override": None}
    assert preauth.rows("SELECT reason FROM tap")[0]["reason"] == "stale"
    assert await preauth.tap("04A1", CP) == "BLOCKED"


async def test_two_arms_race_and_one_wins(preauth: Preauth) -> None:
    """One scan at a charger at a time: of many that arm at once, one wins and the others are told to wait."""
    request = ArmPairing(charge_box_id=CP, purpose="find_card")
    replies = await asyncio.gather(*(preauth.ask(request) for _ in range(6)))
    refused = [reply.problem for reply in replies if reply.problem]
    assert len(refused) == 5
    assert {problem.code for problem in refused} == {"pairing_already_armed"}
    assert len((await preauth.done(ListPairings(charge_box_id=CP)))["pairings"]) == 1


async def test_taps_at_one_scan_race_and_one_wins(preauth: Preauth) -> None:
    """Many cards at once at an armed charger: one is taken, the others charge, and each is journalled."""
    await arm(preauth)
    answers = await asyncio.gather(*(preauth.tap(f"04A{n}", CP) for n in range(20)))
    assert answers.count("BLOCKED") == 1
    await preauth.until("SELECT 1 FROM pairing WHERE state = 'intercepted'")
    assert len(preauth.rows("SELECT 1 FROM tap")) == 20
    assert len(preauth.events("scan.intercepted")) == 1


async def test_two_replicas_decide_as_one(database: TestDatabase, tmp_path: Path) -> None:
    """Taps of one card at two replicas: one scan, both Blocked; different cards: one Blocked."""
    async with running(database, tmp_path / "a") as one, running(database, tmp_path / "b") as two:
        await arm(one)
        assert await one.tap("04A1", CP) == "BLOCKED"
        await one.until("SELECT 1 FROM pairing WHERE state = 'intercepted'")
        assert await two.tap("04A1", CP) == "BLOCKED"
        body = one.body("04A1", CP)
        assert [(await replica.post(body)).json()["override"] for replica in (one, two)] == ["BLOCKED"] * 2
        await arm(two, "other")
        answers = await asyncio.gather(
            *(r.tap(f"04{n}{i}", "other") for n in range(4) for i, r in enumerate((one, two)))
        )
        assert answers.count("BLOCKED") == 1


async def test_signatures(preauth: Preauth) -> None:
    """X-Signature or Standard Webhooks headers open the hook; nothing else does."""
    body = preauth.body("04A1", CP)
    good = hex_hmac(KEY.encode(), body)
    at = preauth.clock()
    signature = Webhook(base64.b64encode(KEY.encode()).decode()).sign("m-1", at, body.decode())
    stamp = str(int(at.timestamp()))
    standard = {"webhook-id": "m-1", "webhook-timestamp": stamp, "webhook-signature": signature}
    for headers in ({"X-Signature": good}, standard, {**standard, "webhook-signature": f"v1,xx {signature}"}):
        assert (await preauth.post(body, **headers)).status_code == 200
    for headers in (
        {"X-Signature": good.upper()},
        {"X-Signature": "ä"},
        {"X-Signature": ""},
        {"X-Other": "1"},
        {**standard, "webhook-id": "m-2"},
        {**standard, "webhook-signature": ""},
        {"webhook-id": "m-1", "webhook-signature": signature},
    ):
        response = await preauth.http.post(
            "/api/ocpp/pre-authorize", content=body, headers=[(k.encode(), v.encode()) for k, v in headers.items()]
        )
        assert (response.status_code, response.json()) == (401, {"error": "unauthorized"}), headers


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b"", 400, "invalid_json"),
        (b"{", 400, "invalid_json"),
        (b"\xff", 400, "invalid_json"),
        (b"[]", 400, "invalid_body"),
        (b"{}", 400, "invalid_body"),
        (b'{"idTag":1,"chargeBoxId":"A","connectorId":null,"isStartTx":false,"ts":1}', 400, "invalid_body"),
        (b'{"idTag":" ","chargeBoxId":"A","connectorId":null,"isStartTx":false,"ts":1}', 400, "invalid_body"),
        (b'{"idTag":"a\\u0000","chargeBoxId":"A","connectorId":null,"isStartTx":false,"ts":1}', 400, "invalid_body"),
        (b'{"idTag":"a","chargeBoxId":"","connectorId":null,"isStartTx":false,"ts":1}', 400, "invalid_body"),
        (
            b'{"idTag":"a","chargeBoxId":"A","connectorId":1e9,"isStartTx":false,"ts":99999999999999999999}',
            400,
            "invalid_body",
        ),
        (json.dumps({"idTag": "x" * 20000}).encode(), 413, "body_too_large"),
    ],
)
async def test_bad_bodies_are_refused(preauth: Preauth, body: bytes, status: int, error: str) -> None:
    """What is not a call is refused with a code, whoever signed it, and changes nothing."""
    response = await preauth.post(body)
    assert (response.status_code, response.json()) == (status, {"error": error})
    assert preauth.rows("SELECT 1 FROM tap") == []


async def test_search_taps_pages_newest_first(preauth: Preauth) -> None:
    """Taps are found by card, charger, pairing and time, newest first, a page at a time."""
    for n in range(5):
        await preauth.tap(f"04A{n}", CP)
    await preauth.tap("04A0", "other")
    found: list[str] = []
    cursor = None
    while True:
        page = await preauth.done(SearchTaps(charge_box_id=CP, limit=2, cursor=cursor))
        found += [tap["id_tag"] for tap in page["taps"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert found == ["04A4", "04A3", "04A2", "04A1", "04A0"]
    page = await preauth.done(SearchTaps(id_tag="04a0"))
    assert [tap["charge_box_id"] for tap in page["taps"]] == ["other", CP]
    refused = await preauth.ask(SearchTaps(cursor="nonsense"))
    assert refused.problem is not None
    assert refused.problem.code == "invalid"
