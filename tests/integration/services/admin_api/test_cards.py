"""Cards over the API: lists, one card with its parts, the link, the diagnosis."""

from datetime import timedelta
from typing import Any

import pytest

from shared.contracts.problem import Conflict
from shared.contracts.requests.audit import SearchEntries
from shared.contracts.requests.preauth import GetCharger, ListPairings, SearchTaps, TapPage
from shared.contracts.requests.sync import (
    CardPage,
    GetCard,
    GetSubscription,
    LinkCard,
    ReadCardInSteve,
    SearchCards,
    SearchSessions,
    SessionPage,
    SteveAnswer,
    SubscriptionAnswer,
)
from tests.integration.services.admin_api import scene
from tests.integration.services.admin_api.scene import CARD, all_is_well
from tests.integration.services.admin_api.stubs import nothing
from tests.integration.services.admin_api.support import EventLog, House, change, key, problem
from tests.unit.services.admin_api.diagnosis import cases
from tests.waiting import until

LINK = {"external_customer_id": "ada", "external_subscription_id": "sub_fleet"}


async def test_a_list_is_asked_from_its_owner_and_read_on_by_cursor(admin: House) -> None:
    """Filters and cursor go to sync as they came, in the name of who asks."""
    admin.owners.answer(SearchCards, CardPage(cards=[cases.known()], next_cursor="more"))
    viewer = await admin.as_role("viewer")
    page = (await viewer.get("/api/v1/cards", params={"q": "ada", "linked": "true", "limit": 1, "cursor": "x"})).json()
    assert [card["id_tag"] for card in page["items"]] == [CARD]
    assert page["next_cursor"] == "more"
    (asked,) = admin.owners.requests(SearchCards)
    assert asked.data == {"text": "ada", "linked": True, "limit": 1, "cursor": "x"}
    assert (asked.actor.kind, asked.actor.id.split()[0]) == ("api_token", "viewer")


async def test_a_list_whose_owner_is_silent_is_unknown(admin: House) -> None:
    """504 and `unknown`: never an empty list."""
    client = await admin.as_admin()
    problem(await client.get("/api/v1/cards"), 504, "unknown")


async def test_a_card_is_shown_with_everything_that_is_known_of_it(admin: House) -> None:
    """What ExpresSync keeps, what SteVe and Lago say now, sessions, taps, timeline, and the diagnosis over it."""
    all_is_well(admin.owners)
    client = await admin.as_admin()
    found = (await client.get(f"/api/v1/cards/{CARD.lower()}")).json()
    assert found["id_tag"] == CARD
    parts = ("card", "steve", "subscription", "sessions", "taps", "pairings", "timeline")
    assert all(found[part]["answered"] for part in parts)
    assert found["diagnosis"]["verdict"]["code"] == "fine"
    assert found["sessions"]["value"][0]["energy_wh"] == 12_400
    correlations = {envelope.correlationid for envelope in admin.owners.asked}
    assert len(correlations) == 1


@pytest.mark.parametrize(
    ("silenced", "part"),
    [
        (GetCard, "card"),
        (ReadCardInSteve, "steve"),
        (GetSubscription, "subscription"),
        (SearchSessions, "sessions"),
        (SearchTaps, "taps"),
        (GetCharger, "charger"),
        (ListPairings, "pairings"),
        (SearchEntries, "timeline"),
    ],
)
async def test_a_part_whose_owner_is_silent_says_so_and_the_rest_is_there(
    admin: House,
    silenced: Any,  # noqa: ANN401 - a class of requests
    part: str,
) -> None:
    """One silent owner never takes the page away."""
    all_is_well(admin.owners)
    admin.owners.silence(silenced)
    client = await admin.as_admin()
    answer = await client.get(f"/api/v1/cards/{CARD}")
    assert answer.status_code == 200
    found = answer.json()
    silent = [
        name
        for name in ("card", "steve", "subscription", "sessions", "taps", "charger", "pairings", "timeline")
        if found[name] is not None and not found[name]["answered"]
    ]
    assert silent == [part]
    assert found[part]["why"]


async def test_that_sync_answered_does_not_mean_that_steve_or_lago_did(admin: House) -> None:
    """Sync says that it could not ask: the part is silent, in SteVe's and in Lago's name, with the reason."""
    all_is_well(admin.owners)
    why = "SteVe answered 503"
    admin.owners.answer(ReadCardInSteve, SteveAnswer(answered=False, card=None, asked_at=scene.now(), problem=why))
    admin.owners.answer(
        GetSubscription,
        SubscriptionAnswer(answered=False, subscription=None, asked_at=scene.now(), problem="Lago timed out"),
    )
    client = await admin.as_admin()
    found = (await client.get(f"/api/v1/cards/{CARD}")).json()
    assert (found["steve"]["who"], found["steve"]["why"]) == ("SteVe", why)
    assert found["subscription"]["who"] == "Lago"
    answers = {check["id"]: check["answer"] for check in found["diagnosis"]["checks"]}
    assert (answers["valid_in_steve"], answers["linked"]) == ("unknown", "unknown")


async def test_a_card_that_nobody_knows_is_not_found_only_when_everybody_says_so(admin: House) -> None:
    """404 needs every answer; with one owner silent the card may exist, and the page says what is missing."""
    all_is_well(admin.owners)
    admin.owners.answer(GetCard, nothing)
    admin.owners.answer(ReadCardInSteve, SteveAnswer(answered=True, card=None, asked_at=scene.now()))
    admin.owners.answer(SearchTaps, TapPage(taps=[]))
    admin.owners.answer(SearchSessions, SessionPage(sessions=[]))
    client = await admin.as_admin()
    problem(await client.get("/api/v1/cards/NOBODY"), 404, "no_such_card")
    admin.owners.silence(ReadCardInSteve)
    found = (await client.get("/api/v1/cards/NOBODY")).json()
    assert found["card"] == {"answered": True, "value": None, "as_of": found["card"]["as_of"]}
    assert found["steve"]["answered"] is False


async def test_an_operator_links_a_card_and_a_viewer_may_not(admin: House) -> None:
    """The owner is asked with the caller's key and name; a viewer's request never leaves the house."""
    all_is_well(admin.owners)
    viewer, operator = await admin.as_role("viewer"), await admin.as_role("operator")
    path = f"/api/v1/cards/{CARD}/link"
    problem(await viewer.post(path, json=LINK, headers=key()), 403, "role_too_low")
    assert admin.owners.requests(LinkCard) == []
    answer = await operator.post(path, json=LINK, headers=key("my-key"))
    assert answer.status_code == 200, answer.text
    assert answer.json()["link"]["external_subscription_id"] == "sub_fleet"
    (asked,) = admin.owners.requests(LinkCard)
    assert (asked.idempotency_key, asked.actor.kind) == ("my-key", "api_token")


async def test_a_refusal_of_the_owner_is_told_as_it_is(admin: House) -> None:
    """Its code, status and sentence, unchanged."""

    class LinkedElsewhere(Conflict):
        code, title = "linked_elsewhere", "The card has another link"

    admin.owners.answer(LinkCard, LinkedElsewhere("It is linked to eve since May."))
    client = await admin.as_admin()
    answer = await client.post(f"/api/v1/cards/{CARD}/link", json=LINK, headers=key())
    assert problem(answer, 409, "linked_elsewhere")["detail"] == "It is linked to eve since May."


async def test_a_change_without_an_answer_is_unknown_and_says_how_to_find_out(admin: House) -> None:
    """It may have been done: the same key is sent on to the owner when the request is repeated."""
    client = await admin.as_admin()
    headers = key()
    body = problem(await client.post(f"/api/v1/cards/{CARD}/link", json=LINK, headers=headers), 504, "unknown")
    assert "same key" in body["detail"]
    all_is_well(admin.owners)
    assert (await client.post(f"/api/v1/cards/{CARD}/link", json=LINK, headers=headers)).status_code == 200
    first, second = admin.owners.requests(LinkCard)
    assert first.idempotency_key == second.idempotency_key == headers["Idempotency-Key"]


async def test_a_diagnosis_is_recorded_and_its_key_gives_the_same_one(admin: House, told: EventLog) -> None:
    """A viewer may ask; the event names the verdict and the answers; a repeat asks nobody and tells nothing."""
    all_is_well(admin.owners)
    admin.owners.answer(ReadCardInSteve, scene.blocked_in_steve())
    viewer = await admin.as_role("viewer")
    headers = key()
    first = await viewer.post("/api/v1/diagnoses", json={"card": CARD}, headers=headers)
    assert first.status_code == 201
    assert first.json()["verdict"]["code"] == "blocked"
    all_is_well(admin.owners)
    again = await viewer.post("/api/v1/diagnoses", json={"card": CARD}, headers=headers)
    assert again.json() == first.json()
    await change(viewer, "/diagnoses", {"card": CARD})

    async def both() -> bool:
        return len(told.of("diagnosis.made")) >= 2

    await until(both)
    made, other = told.of("diagnosis.made")
    assert (made.subject, made.actorkind, made.data["verdict"]) == (f"card/{CARD}", "api_token", "blocked")
    assert made.data["answers"] == {"valid_in_steve": "no", "linked": "yes", "intercepted": "no", "charger": "yes"}
    assert other.data["verdict"] == "fine"


async def test_the_tap_that_failed_is_asked_about_not_the_newest(admin: House) -> None:
    """By its charger and about when: the nearest tap there, and only the session that may be of it."""
    all_is_well(admin.owners)
    failed, asked_at = scene.now() - timedelta(hours=5), scene.now() - timedelta(hours=5, minutes=4)
    other = cases.tap(tapped_at=failed + timedelta(minutes=20), charge_box_id="CP-9")
    failing = cases.intercepted_tap(tapped_at=failed, charge_box_id="CP-9")
    admin.owners.answer(SearchTaps, TapPage(taps=[other, failing]))
    client = await admin.as_admin()
    made = await change(client, "/diagnoses", {"card": CARD, "charger": "CP-9", "at": asked_at.isoformat()})
    assert made["verdict"]["code"] == "intercepted"
    answers = {check["id"]: check["answer"] for check in made["checks"]}
    assert (answers["intercepted"], answers["charger"]) == ("yes", "unknown")
    assert admin.owners.requests(GetCharger)[0].data["charge_box_id"] == "CP-9"
    taps, sessions = admin.owners.requests(SearchTaps)[0].data, admin.owners.requests(SearchSessions)[0].data
    assert (taps["charge_box_id"], sessions["charge_box_id"]) == ("CP-9", "CP-9")
    assert taps["since"] < asked_at.isoformat() < taps["until"]


async def test_a_diagnosis_with_nobody_there_is_unknown_throughout(admin: House) -> None:
    """Every owner silent: four unknowns, the verdict says so, and nothing is an error."""
    client = await admin.as_admin()
    made = await change(client, "/diagnoses", {"card": CARD})
    assert {check["answer"] for check in made["checks"]} == {"unknown"}
    assert made["verdict"]["code"] == "unknown"
    assert made["verdict"]["sentence"].startswith("Sync did not answer, so nobody asked SteVe")
