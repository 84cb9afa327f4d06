"""Linking a card in the console: find the customer, choose, read what will change, confirm."""

import pytest

from shared.contracts.problem import Conflict
from shared.contracts.requests.sync import CustomerPage, CustomerView, GetCard, LinkCard, SearchCustomers
from shared.contracts.requests.sync_cards import PreviewLink, RelinkCard
from tests.integration.services.admin_api import scene
from tests.integration.services.admin_api.console import Console, words
from tests.integration.services.admin_api.scene import CARD, all_is_well
from tests.integration.services.admin_api.support import House
from tests.unit.services.admin_api.diagnosis import cases

ADA = CustomerView(external_customer_id="ada", name="Ada GmbH", subscriptions=[cases.subscription()])
STEPS = {"q": "ada", "customer": "ada", "subscription": "sub_fleet", "valid_from": "2026-05-01T00:00", "review": "1"}


@pytest.fixture
def unlinked(admin: House) -> House:
    admin.owners.answer(GetCard, cases.known(link=None))
    admin.owners.answer(SearchCustomers, CustomerPage(answered=True, customers=[ADA]))
    admin.owners.answer(PreviewLink, scene.preview)
    return admin


@pytest.fixture
async def console(admin: House) -> Console:
    """Signed in as the administrator, with all owners answering."""
    all_is_well(admin.owners)
    browser = Console(admin)
    await browser.sign_in()
    return browser


async def test_a_card_is_linked_in_three_steps(console: Console, unlinked: House) -> None:
    """Find, choose, read what will change, confirm: one change, under one key, and the card page says it is done."""
    path = f"/cards/{CARD}/link"
    assert "Ada GmbH" in words(await console.get(path, q="ada"))
    assert "sub_fleet" in words(await console.get(path, q="ada", customer="ada"))
    review = await console.get(path, **STEPS)
    text = words(review)
    assert "From 2026-05-01 00:00 UTC, new sessions are billed to ada, subscription sub_fleet." in text
    assert "Release and bill 3 held sessions that began since 2026-05-01 00:00 UTC, 21.4 kWh in all" in text
    assert unlinked.owners.requests(LinkCard) == []
    linked = await console.submit(review, path)
    assert linked.headers["location"] == f"/cards/{CARD}?done=linked"
    await console.submit(review, path)
    first, second = unlinked.owners.requests(LinkCard)
    assert first.idempotency_key == second.idempotency_key
    assert first.data["valid_from"].startswith("2026-05-01T00:00:00")
    assert first.data["release_from"] is None
    unlinked.owners.answer(GetCard, cases.known())
    assert f"{CARD} is linked to ada, subscription sub_fleet." in words(await console.get(linked.headers["location"]))


async def test_a_customer_is_found_and_chosen_by_its_own_id(console: Console, unlinked: House) -> None:
    """Lago's search finds many in whose id `12` stands, newest first: who has just that id is the first to choose, and
    is linked.
    """
    subscribed = cases.subscription(external_customer_id="12")
    twelve = CustomerView(external_customer_id="12", name="Old GmbH", subscriptions=[subscribed])
    others = [CustomerView(external_customer_id=f"12{n}", name=None, subscriptions=[]) for n in range(20)]

    def answer(request: SearchCustomers) -> CustomerPage:
        if request.external_customer_id is None:
            return CustomerPage(answered=True, customers=others)
        return CustomerPage(answered=True, customers=[twelve] if request.external_customer_id == "12" else [])

    unlinked.owners.answer(SearchCustomers, answer)
    path = f"/cards/{CARD}/link"
    found = words(await console.get(path, q="12"))
    assert 0 < found.index("Old GmbH") < found.index("120")
    # Whom it names first is not taken for whom was asked for.
    unlinked.owners.answer(SearchCustomers, CustomerPage(answered=True, customers=[others[0], twelve]))
    review = await console.get(path, **{**STEPS, "q": "12", "customer": "12"})
    assert "new sessions are billed to 12, subscription sub_fleet." in words(review)
    assert (await console.submit(review, path)).status_code == 303
    assert "Lago has no customer 13." in words(await console.get(path, q="12", customer="13"))


async def test_held_sessions_are_released_only_where_it_is_confirmed(console: Console, unlinked: House) -> None:
    """The date is the operator's own, the box is not ticked by itself, and a repeat asks for the same again."""
    path = f"/cards/{CARD}/link"
    review = await console.get(path, **STEPS, release_from="2026-03-01T00:00")
    assert "began since 2026-03-01 00:00 UTC" in words(review)
    unlinked.owners.silence(LinkCard)
    unknown = await console.submit(review, path, release="1")
    assert (unknown.status_code, "2026-03-01 00:00 UTC" in words(unknown)) == (504, True)
    unlinked.owners.answer(LinkCard, cases.known())
    linked = await console.submit(unknown, path)
    assert linked.headers["location"] == f"/cards/{CARD}?done=released"
    first, second = unlinked.owners.requests(LinkCard)
    assert first.data == second.data
    assert first.idempotency_key == second.idempotency_key
    assert first.data["release_from"].startswith("2026-03-01T00:00:00")
    unlinked.owners.answer(GetCard, cases.known())
    assert "Its held sessions are released" in words(await console.get(linked.headers["location"]))


async def test_a_linked_card_is_relinked(console: Console, unlinked: House) -> None:
    """The same form for a card that has a link moves it."""
    unlinked.owners.answer(GetCard, cases.known())
    unlinked.owners.answer(RelinkCard, cases.known())
    review = await console.get(f"/cards/{CARD}/link", **STEPS)
    assert (await console.submit(review, f"/cards/{CARD}/link")).status_code == 303
    assert len(unlinked.owners.requests(RelinkCard)) == 1


async def test_what_is_wrong_with_a_link_is_said_where_it_is_wrong(console: Console, unlinked: House) -> None:
    """A date in the future, a subscription that is not there, Lago silent, and a refusal of the owner."""
    path = f"/cards/{CARD}/link"
    future = await console.get(path, **{**STEPS, "valid_from": "2999-01-01T00:00"})
    assert "lies in the future" in words(future)
    other = await console.get(path, **{**STEPS, "subscription": "sub_gone"})
    assert "Choose one of the active subscriptions." in words(other)
    review = await console.get(path, **STEPS)

    class NoActiveSubscription(Conflict):
        code, title = "no_active_subscription", "Lago has no such active subscription"

    unlinked.owners.answer(LinkCard, NoActiveSubscription("Lago knows no active subscription sub_fleet."))
    refused = await console.submit(review, path)
    assert (refused.status_code, "Lago knows no active subscription" in words(refused)) == (409, True)
    unlinked.owners.silence(LinkCard)
    unknown = await console.submit(review, path)
    assert (unknown.status_code, "it is done once" in words(unknown)) == (504, True)
    assert 'data-state="unknown" role="alert"' in unknown.text
    unlinked.owners.answer(LinkCard, cases.known())
    assert (await console.submit(unknown, path)).status_code == 303
    keys = {envelope.idempotency_key for envelope in unlinked.owners.requests(LinkCard)}
    assert len(keys) == 1
    unlinked.owners.answer(SearchCustomers, CustomerPage(answered=False, customers=[], problem="timeout"))
    assert "Lago did not answer" in words(await console.get(path, q="ada"))
