"""Linking a card, at each step."""

from collections.abc import Iterator
from dataclasses import replace

from services.admin_api.console.view.links import Customer, LinkForm, LinkPage, Preview, Subscription
from services.admin_api.console.view.state import Mark, State
from tests.browser.samples.base import (
    FRAME,
    Sample,
    ago,
)
from tests.browser.samples.cards import UNLINKED
from tests.browser.samples.parts import (
    CARD,
)


def links() -> Iterator[Sample]:
    frame = FRAME.at("cards")
    card = replace(UNLINKED, id_tag="04A1B2C3D4", steve=CARD.steve)
    ada = Customer("cus_ada_gmbh", "Ada GmbH", "billing@ada.example")
    customers = (
        ada,
        Customer("cus_adalbert", "Adalbert Kühn", ""),
        Customer("cus_0196894e-1a2b-7c1a-9d3f-2b7e5a90c4d1"),
    )
    subscriptions = (
        Subscription("sub_fleet", "Fleet", "EV charging, per kWh", Mark(State.OK, "active"), ago(d=120)),
        Subscription("sub_guest", "Guest parking", "EV charging, per kWh", Mark(State.ATTENTION, "not started yet")),
        Subscription(
            "sub_flat",
            "Flat rate",
            "Flat",
            Mark(State.OK, "active"),
            ago(d=300),
            usable=False,
            why_not="Its plan does not charge for kWh, so nothing would be billed.",
        ),
    )
    form = LinkForm("ada", "cus_ada_gmbh", "sub_fleet", "2026-04-28T00:00")
    yield Sample("link", "cards/link.html", frame, LinkPage(card))
    yield Sample(
        "link-customers",
        "cards/link.html",
        frame,
        LinkPage(card, LinkForm("ada"), searched=True, customers=customers),
    )
    yield Sample("link-no-customer", "cards/link.html", frame, LinkPage(card, LinkForm("zebra"), searched=True))
    yield Sample("link-lago-silent", "cards/link.html", frame, LinkPage(card, LinkForm("ada"), customers=None))
    yield Sample(
        "link-subscription",
        "cards/link.html",
        frame,
        LinkPage(card, replace(form, subscription=""), chosen=ada, subscriptions=subscriptions),
    )
    yield Sample(
        "link-wrong-date",
        "cards/link.html",
        frame,
        LinkPage(
            CARD,
            replace(form, valid_from="2027-04-28T00:00"),
            chosen=ada,
            subscriptions=subscriptions,
            errors={
                "valid_from": "28 April 2027 lies in the future. Choose a time up to now.",
                "form": "The link was not changed. See below what has to be corrected.",
            },
        ),
    )
    yield Sample("link-no-subscription", "cards/link.html", frame, LinkPage(card, form, chosen=ada))
    yield Sample(
        "link-confirm",
        "cards/link.html",
        frame,
        LinkPage(
            card,
            form,
            chosen=ada,
            preview=Preview(
                (
                    "From 28 April 2026, 00:00 UTC, sessions are billed to Ada GmbH, subscription sub_fleet.",
                    "1 session running now stays with its owner.",
                ),
                "The link can be undone from the card's page. What Lago has counted by then is not taken back.",
                "Release and bill 3 held sessions that began since 28 April 2026, 00:00 UTC, 21.4 kWh in all",
            ),
            idempotency_key="k",
        ),
    )
