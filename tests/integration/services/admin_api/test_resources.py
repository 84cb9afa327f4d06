"""Each resource over the real bus: what is sent reaches its owner as it was meant, and its answer comes back."""

from datetime import timedelta
from typing import Any, Final

import pytest

from services.admin_api import asking
from shared.contracts.problem import Conflict
from shared.contracts.request import Request
from shared.contracts.requests.preauth import (
    ChargerPage,
    ChargerQr,
    EnrolKiosk,
    GetCharger,
    GetInterception,
    InterceptionState,
    KioskEnrolment,
    KioskList,
    ListChargers,
    ListKiosks,
    PinState,
    PrintChargerQr,
    RevokeKiosk,
    RotateChargerQr,
    SetCardPin,
    SwitchInterception,
)
from shared.contracts.requests.sync import GetSession, OperateCharger, OperationResult, ReplayWebhooks, WebhooksReplayed
from shared.contracts.requests.sync_cards import (
    BlockCard,
    ChangeCard,
    ChangeParent,
    CreateCard,
    GetPortalUrl,
    PortalAnswer,
    SetExpiry,
    UnblockCard,
    UndoChange,
    UnlinkCard,
)
from shared.contracts.requests.sync_work import (
    CadenceView,
    GetRun,
    HeldChanged,
    HeldPage,
    IgnoreHeld,
    ListRuns,
    PinCadence,
    Reconcile,
    ReconcileResult,
    ReleaseHeld,
    RetryHeld,
    RunDetail,
    RunPage,
    RunSessionView,
    SearchHeld,
    StartRun,
)
from tests.integration.services.admin_api.scene import CARD
from tests.integration.services.admin_api.support import House, key, problem
from tests.unit.services.admin_api.diagnosis import cases, things
from tests.unit.services.admin_api.diagnosis.cases import AN_ID, NOW

LATER: Final = "2027-01-01T00:00:00Z"
DONE: Final = HeldChanged(sessions=["main:42"], refused={"main:43": "It is not held but counted."})
QR: Final = ChargerQr(charge_box_id="CP-7", address="https://x/scan/s", svg="<svg/>", rotated_at=NOW)
CADENCE: Final = CadenceView(mode="idle", since=NOW, pinned=True, pinned_by="m", seconds=60, why="Pinned by m.")

# Operation, body, the request that its owner gets, what of it was sent, the owner's answer.
CHANGES: Final[list[tuple[str, dict[str, Any], type[Request[Any]], dict[str, Any], Any]]] = [
    (
        "POST /cards",
        {"id_tag": "04a1B2C3D4", "max_active_transaction_count": -1, "display_name": "Ada"},
        CreateCard,
        {"id_tag": "04a1B2C3D4", "max_active_transaction_count": -1, "display_name": "Ada", "parent_id_tag": None},
        cases.known(),
    ),
    (
        f"PATCH /cards/{CARD.lower()}",
        {"active": False, "notes": None},
        ChangeCard,
        {"id_tag": CARD, "changes": {"active": False, "notes": None}},
        cases.known(),
    ),
    (f"POST /cards/{CARD}/block", {"reason": "lost"}, BlockCard, {"id_tag": CARD, "reason": "lost"}, cases.known()),
    (f"POST /cards/{CARD}/unblock", {}, UnblockCard, {"id_tag": CARD, "limit": None}, cases.known()),
    (f"POST /cards/{CARD}/unblock", {"limit": 2}, UnblockCard, {"id_tag": CARD, "limit": 2}, cases.known()),
    (f"POST /cards/{CARD}/parent", {"parent_id_tag": "meta"}, ChangeParent, {"parent_id_tag": "META"}, cases.known()),
    (f"POST /cards/{CARD}/parent", {"parent_id_tag": None}, ChangeParent, {"parent_id_tag": None}, cases.known()),
    (f"POST /cards/{CARD}/expiry", {"expiry": LATER}, SetExpiry, {"expiry": LATER}, cases.known()),
    (f"POST /cards/{CARD}/unlink", {"valid_to": LATER}, UnlinkCard, {"valid_to": LATER}, cases.known()),
    (f"POST /changes/{AN_ID}/undo", {}, UndoChange, {"change_id": str(AN_ID)}, cases.known()),
    (
        f"PUT /cards/{CARD}/pin",
        {"pin": "123456"},
        SetCardPin,
        {"id_tag": CARD, "pin": "123456"},
        PinState(id_tag=CARD, has_pin=True),
    ),
    ("POST /held/retry", {"everything": True}, RetryHeld, {"everything": True, "reason": None}, DONE),
    ("POST /held/retry", {"reason": "late"}, RetryHeld, {"everything": False, "reason": "late"}, DONE),
    ("POST /held/retry", {"sessions": ["main:42"]}, RetryHeld, {"sessions": ["main:42"]}, DONE),
    (
        "POST /held/ignore",
        {"sessions": ["main:42"], "note": "a test"},
        IgnoreHeld,
        {"sessions": ["main:42"], "note": "a test"},
        DONE,
    ),
    ("POST /held/release", {"card": CARD, "since": LATER}, ReleaseHeld, {"id_tag": CARD, "since": LATER}, DONE),
    (
        "POST /held/release",
        {"sessions": ["main:42"], "change_owner": True},
        ReleaseHeld,
        {"sessions": ["main:42"], "since": None, "change_owner": True},
        DONE,
    ),
    ("POST /runs", {"segments": ["sweep"]}, StartRun, {"segments": ["sweep"]}, things.run(state="waiting")),
    (
        "POST /webhooks/replay",
        {"failed": True},
        ReplayWebhooks,
        {"failed": True, "unique_keys": []},
        WebhooksReplayed(replayed=2),
    ),
    ("PUT /cadence", {"mode": "idle"}, PinCadence, {"mode": "idle"}, CADENCE),
    (
        "POST /chargers/CP%2F7%20%C3%BC/operations",
        {"operation": "Reset", "parameters": {"resetType": "Soft"}},
        OperateCharger,
        {"charge_box_id": "CP/7 ü", "operation": "Reset", "parameters": {"resetType": "Soft"}},
        OperationResult(charge_box_id="CP/7 ü", operation="Reset", outcome="accepted", asked_at=NOW, answered_at=NOW),
    ),
    ("POST /chargers/CP%2F7/qr", {}, RotateChargerQr, {"charge_box_id": "CP/7"}, QR),
    (
        "POST /kiosks",
        {"name": "Hall 2", "charge_box_ids": ["CP-7", "CP-8"]},
        EnrolKiosk,
        {"kiosk_name": "Hall 2", "charge_box_ids": ["CP-7", "CP-8"]},
        KioskEnrolment(kiosk=things.kiosk(), code="K7QX-2M9P", code_expires_at=NOW),
    ),
    (f"POST /kiosks/{AN_ID}/revoke", {}, RevokeKiosk, {"kiosk_id": str(AN_ID)}, things.kiosk(state="revoked")),
    (
        "PUT /interception",
        {"on": False, "charge_box_id": "CP-7", "why": "noise"},
        SwitchInterception,
        {"on": False, "charge_box_id": "CP-7", "why": "noise"},
        InterceptionState(everywhere=True, off_at=["CP-7"]),
    ),
]


@pytest.mark.parametrize(("operation", "body", "request_", "sent", "answer"), CHANGES)
async def test_a_change_reaches_its_owner_with_its_key(  # noqa: PLR0917 - a row of the table
    admin: House,
    operation: str,
    body: dict[str, Any],
    request_: type[Request[Any]],
    sent: dict[str, Any],
    answer: Any,  # noqa: ANN401 - a reply of any request
) -> None:
    """Exactly what was sent, in the name of who asked, under the key; the owner's answer comes back unchanged."""
    admin.owners.answer(request_, answer)
    method, path = operation.split()
    client = await admin.as_admin()
    reply = await client.request(method, f"/api/v1{path}", json=body, headers=key("my-key"))
    assert reply.status_code in (200, 201), reply.text
    assert reply.json() == answer.model_dump(mode="json")
    (asked,) = admin.owners.requests(request_)
    assert {name: asked.data[name] for name in sent} == sent
    assert (asked.idempotency_key, asked.actor.kind, asked.actor.id) == ("my-key", "operator", "admin")


READS: Final[list[tuple[str, dict[str, str], type[Request[Any]], dict[str, Any], Any]]] = [
    ("/sessions/main:42", {}, GetSession, {"session": "main:42"}, cases.session()),
    (
        "/held",
        {"reason": "late", "card": CARD, "charger": "CP-7", "limit": "7"},
        SearchHeld,
        {"reason": "late", "id_tag": CARD, "charge_box_id": "CP-7", "limit": 7, "cursor": None},
        HeldPage(held=[things.held()], classes=[things.held_class()]),
    ),
    (
        "/runs",
        {"state": "running", "cursor": "x"},
        ListRuns,
        {"state": "running", "limit": 50, "cursor": "x"},
        RunPage(runs=[things.run()], cadence="idle", pinned=True),
    ),
    (
        f"/runs/{AN_ID}",
        {"outcome": "held"},
        GetRun,
        {"run_id": str(AN_ID), "outcome": "held", "limit": 100, "cursor": None},
        RunDetail(run=things.run(), sessions=[RunSessionView(session="main:42", outcome="held", detail="late")]),
    ),
    (
        "/reconciliations",
        {"subscription": "sub_fleet", "differing": "true"},
        Reconcile,
        {"external_subscription_id": "sub_fleet", "differing": True, "stored": True, "limit": 50, "cursor": None},
        ReconcileResult(rows=[things.row()], checked_at=NOW),
    ),
    (
        "/chargers",
        {"q": "CP", "connected": "false", "ready": "no"},
        ListChargers,
        {"text": "CP", "connected": False, "ready": "no", "limit": 50, "cursor": None},
        ChargerPage(chargers=[things.charger()]),
    ),
    ("/chargers/CP%2F7", {}, GetCharger, {"charge_box_id": "CP/7"}, things.charger()),
    ("/chargers/CP%2F7/qr", {}, PrintChargerQr, {"charge_box_id": "CP/7"}, QR),
    ("/interception", {}, GetInterception, {}, InterceptionState(everywhere=True, off_at=["CP-7"], qr_is_strong=True)),
    ("/kiosks", {}, ListKiosks, {}, KioskList(kiosks=[things.kiosk()])),
]


@pytest.mark.parametrize(("path", "query", "request_", "sent", "answer"), READS)
async def test_a_question_reaches_its_owner_with_its_filters(  # noqa: PLR0917 - a row of the table
    admin: House,
    path: str,
    query: dict[str, str],
    request_: type[Request[Any]],
    sent: dict[str, Any],
    answer: Any,  # noqa: ANN401 - a reply of any request
) -> None:
    """One thing comes back as its owner knows it; a list as items with what stands beside them."""
    admin.owners.answer(request_, answer)
    client = await admin.as_admin()
    reply = await client.get(f"/api/v1{path}", params=query)
    assert reply.status_code == 200, reply.text
    (asked,) = admin.owners.requests(request_)
    assert asked.data == sent
    told = answer.model_dump(mode="json")
    names = {"held": "items", "rows": "items", "chargers": "items", "kiosks": "items"}
    if path == "/runs":
        names["runs"] = "items"
    expected = {names.get(name, name): value for name, value in told.items()}
    if "items" in expected:
        expected.setdefault("next_cursor", None)
    assert reply.json() == expected


@pytest.mark.parametrize(
    ("method", "path", "body", "says"),
    [
        ("PATCH", f"/cards/{CARD}", {}, "at least one field"),
        ("PATCH", f"/cards/{CARD}", {"active": None}, "active cannot be emptied"),
        ("PATCH", f"/cards/{CARD}", {"limit": 3}, "at least one field"),
        ("POST", "/cards", {"id_tag": "with space"}, "body.id_tag"),
        ("POST", f"/cards/{CARD}/expiry", {"expiry": "2027-01-01T00:00:00"}, "body.expiry"),
        ("POST", f"/cards/{CARD}/block", {"reason": ""}, "body.reason"),
        ("POST", "/held/retry", {}, "either sessions, or a reason, or everything"),
        ("POST", "/held/retry", {"reason": "late", "everything": True}, "either"),
        ("POST", "/held/release", {"card": CARD}, "either sessions, or a card and since when"),
        ("POST", "/held/release", {"card": CARD, "since": LATER, "sessions": ["main:1"]}, "either"),
        ("POST", "/chargers/CP-7/operations", {"operation": "Explode"}, "body.operation"),
        ("POST", "/webhooks/replay", {}, "either unique_keys, or failed"),
        ("PUT", "/cadence", {}, "body.mode"),
        ("POST", "/kiosks", {"name": "x", "charge_box_ids": []}, "body.charge_box_ids"),
    ],
)
async def test_what_cannot_be_meant_is_refused_before_anybody_is_asked(
    admin: House, method: str, path: str, body: dict[str, Any], says: str
) -> None:
    """422, in words that name the field or the choice."""
    client = await admin.as_admin()
    answer = await client.request(method, f"/api/v1{path}", json=body, headers=key())
    assert says in problem(answer, 422, "invalid_request")["detail"]
    assert admin.owners.asked == []


async def test_a_pin_that_is_none_is_refused_without_repeating_it(admin: House) -> None:
    """The refusal names the field; the PIN that was typed stands nowhere in it."""
    client = await admin.as_admin()
    answer = await client.put(f"/api/v1/cards/{CARD}/pin", json={"pin": "12a"}, headers=key())
    problem(answer, 422, "invalid_request")
    assert "12a" not in answer.text
    assert admin.owners.asked == []


async def test_a_refusal_of_the_owner_is_told_in_its_words(admin: House) -> None:
    """Its code, status and sentence, unchanged."""

    class AlreadyBlocked(Conflict):
        code, title = "already_blocked", "The card is blocked already"

    admin.owners.answer(BlockCard, AlreadyBlocked("ada blocked it: lost."))
    client = await admin.as_role("operator")
    answer = await client.post(f"/api/v1/cards/{CARD}/block", json={"reason": "lost"}, headers=key())
    assert problem(answer, 409, "already_blocked")["detail"] == "ada blocked it: lost."


async def test_a_proof_is_made_on_request(admin: House) -> None:
    """Fresh, for one subscription; it changes nothing and needs no key."""
    admin.owners.answer(Reconcile, ReconcileResult(rows=[things.row(equal=False)], checked_at=NOW))
    viewer = await admin.as_role("viewer")
    made = await viewer.post("/api/v1/reconcile", json={"external_subscription_id": "sub_fleet"})
    assert (made.status_code, made.json()["items"][0]["equal"]) == (200, False)
    (asked,) = admin.owners.requests(Reconcile)
    assert (asked.data["external_subscription_id"], asked.data["stored"]) == ("sub_fleet", False)


@pytest.mark.parametrize(
    ("request_", "path", "body", "seconds"),
    [
        (Reconcile, "/reconcile", {}, 60),
        (OperateCharger, "/chargers/CP-7/operations", {"operation": "ClearCache"}, 35),
        (StartRun, "/runs", {}, 1.5),
    ],
)
async def test_who_has_to_wait_for_others_is_waited_for(
    admin: House, request_: type[Request[Any]], path: str, body: dict[str, Any], seconds: float
) -> None:
    """A charger gets the 30 s that SteVe gives it, a proof a minute, anything else the settings' seconds."""
    deadlines = []
    admin.owners.answer(request_, Conflict("enough seen"))
    client = await admin.as_admin()
    before = admin.clock() - timedelta(seconds=0.1)
    await client.post(f"/api/v1{path}", json=body, headers=key())
    deadlines = [asked.deadline - before for asked in admin.owners.requests(request_)]
    assert len(deadlines) == 1
    assert seconds <= deadlines[0].total_seconds() < seconds + 1
    assert seconds == asking.PATIENCE_S.get(request_.name, 1.5)


async def test_a_customers_portal_is_an_address_or_a_reason(admin: House) -> None:
    """Lago's address; no such customer is 404, and a silent Lago is unknown, not "no such customer"."""
    client = await admin.as_role("operator")
    path = "/api/v1/customers/ada/portal"
    admin.owners.answer(GetPortalUrl, PortalAnswer(answered=True, url="https://lago/p"))
    assert (await client.get(path)).json() == {"url": "https://lago/p"}
    admin.owners.answer(GetPortalUrl, PortalAnswer(answered=True, url=None, problem="Lago has no customer ada."))
    assert problem(await client.get(path), 404, "no_such_customer")["detail"] == "Lago has no customer ada."
    admin.owners.answer(GetPortalUrl, PortalAnswer(answered=False, url=None, problem="timeout"))
    problem(await client.get(path), 504, "unknown")
