"""The card page and the list of cards."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from services.admin_api.console import paths
from services.admin_api.console.view.cards import (
    Card,
    CardList,
    CardPage,
    CardRow,
    Link,
    Relation,
    Relations,
    Steve,
)
from services.admin_api.console.view.diagnosis import Check
from services.admin_api.console.view.frame import Notice
from services.admin_api.console.view.sessions import Billing, Sessions
from services.admin_api.console.view.state import Action, Chip, Mark, Pager, State
from services.admin_api.console.view.timeline import timeline
from tests.browser.samples.base import (
    ALL_ROOMS,
    FRAME,
    LOST,
    NOW,
    Sample,
    ago,
)
from tests.browser.samples.parts import (
    BLOCKED,
    CARD,
    CHECKS,
    FINE,
    INTERCEPTED,
    IS_BLOCKED,
    LINK,
    LONG_TAG,
    PARENT,
    RECORD,
    SESSIONS,
    UNKNOWN,
    diagnosis,
    history,
    session,
    unblock,
)

CARD_PAGE = CardPage(
    card=CARD,
    diagnosis=FINE,
    relations=Relations(parent=PARENT),
    sessions=SESSIONS,
    timeline=history(),
    actions=(Action("Change link", paths.card_link(CARD.id_tag)),),
)
META = CardPage(
    card=Card(
        "META-ADA",
        "meta",
        active=True,
        is_meta=True,
        display_name="Fleet of Ada GmbH",
        link=LINK,
        steve=Steve("present", replace(RECORD, ocpp_tag_pk=12, parent_id_tag="", note="")),
    ),
    diagnosis=diagnosis(
        State.ATTENTION,
        "One of the 240 cards under this one is blocked, and one has expired.",
        "Open the child that is meant; a meta-card itself is not tapped.",
        "steve",
        CHECKS[0],
        CHECKS[1],
        Check("intercepted", "no", "This card was never tapped."),
        Check("charger", "unknown", "No charger has seen this card."),
    ),
    relations=Relations(
        children=(
            Relation("04A1B2C3D4", Mark(State.OK, "accepted"), "Pool car 3"),
            Relation("04A1B2C3D5", Mark(State.WRONG, "blocked"), "Pool car 4"),
            Relation("04A1B2C3D6", Mark(State.WRONG, "expired")),
            Relation("04A1B2C3D7", Mark(State.UNKNOWN, "did not answer")),
            Relation("04A1B2C3D8", Mark(State.OK, "accepted")),
            Relation("04A1B2C3D9", Mark(State.OK, "accepted")),
        ),
        total=240,
    ),
    sessions=Sessions(()),
    timeline=timeline([], paths.card("META-ADA")),
)
UNLINKED = replace(
    CARD, link=None, active=False, display_name="", steve=Steve("absent"), id_tag="NEW-CARD-1", id_tag_as_sent=""
)
LONG = CardPage(
    card=replace(
        CARD,
        id_tag=LONG_TAG,
        display_name="Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbaugesellschaft, pool vehicle 17",
        card_type="subcontractors_temporary_visitor_card",
        link=Link(
            "cus_0196894e-1a2b-7c1a-9d3f-2b7e5a90c4d1",
            "sub_0196894e-5e6f-7c1a-9d3f-2b7e5a90c4d1-fleet-large-night-tariff",
            datetime(2024, 12, 3, 23, 59, tzinfo=UTC),
            "Gemeinnützige Wohnungsbaugenossenschaft Friedrichshain-Kreuzberg eG, Ladeinfrastruktur",
            None,
            inherited_from="META-ADA",
        ),
        steve=Steve(
            "present",
            replace(
                RECORD,
                note="Replaced on request of the facility manager, see ticket 20260412-0099;\nwas 04A1B2C3D1 before.\n"
                "https://tickets.example.org/browse/20260412-0099?focusedCommentId=991823",
                expiry=NOW + timedelta(days=400),
                max_active_transaction_count=-1,
                in_transaction=True,
                active_transaction_count=12,
            ),
        ),
    ),
    diagnosis=diagnosis(
        State.ATTENTION,
        "It charges, but nothing is billed: Lago has not answered whether the subscription "
        "sub_0196894e-5e6f-7c1a-9d3f-2b7e5a90c4d1-fleet-large-night-tariff is active since yesterday.",
        "Nothing is lost: 12 sessions wait. Look at the overview for Lago; the sessions are sent by themselves when "
        "Lago answers again.",
        "lago",
        *(replace(check, why=check.why * 4, evidence=(*check.evidence, "x" * 120)) for check in CHECKS),
        since=ago(d=1),
        actions=(
            Action("See what waits", "/"),
            replace(unblock("block"), label="Block this card", primary=False, dangerous=True),
        ),
    ),
    relations=Relations(
        parent=Relation("WWWWWWWWWWWWWWWWWW-P", Mark(State.WRONG, "blocked")),
        above=("WWWWWWWWWWWWWWWWWW-Q", "WWWWWWWWWWWWWWWWWW-R"),
        circle="Its parents run in a circle, A → WWWWWWWWWWWWWWWWWW-P → WWWWWWWWWWWWWWWWWW-Q and round again, which is"
        " not followed: change one of them.",
        children=tuple(Relation(f"WWWWWWWWWWWWWWWWW{n:03d}", Mark(State.OK, "accepted")) for n in range(24)),
        total=24,
    ),
    sessions=Sessions(
        tuple(
            replace(
                session(
                    9_999_000 + n,
                    1_234_567_849 + n * 37,
                    Billing("held", ago(d=n), "no_active_subscription"),
                    hours=n * 30,
                ),
                charge_box_id="DE*ABC*E0000000000000000000000000001*HAMBURG/STADTPARK NORD 3",
            )
            for n in range(3)
        )
    ),
    timeline=history(),
    actions=(Action("Change link", "/"), Action("Diagnose again", "/")),
)


def cards() -> Iterator[Sample]:
    frame = FRAME.at("cards", twin="/api/v1/cards/04A1B2C3D4")
    yield Sample("card", "cards/show.html", frame, CARD_PAGE)
    yield Sample(
        "card-blocked",
        "cards/show.html",
        frame.at("cards", notice=Notice(State.OK, "04A1B2C3D4 is linked to Ada GmbH.", Action("Undo", "/", post=True))),
        replace(
            CARD_PAGE,
            card=BLOCKED,
            diagnosis=IS_BLOCKED,
            timeline=history(frozenset({"changes", "decisions"})),
        ),
    )
    yield Sample("card-intercepted", "cards/show.html", frame, replace(CARD_PAGE, diagnosis=INTERCEPTED))
    yield Sample(
        "card-steve-lost",
        "cards/show.html",
        LOST.at("cards"),
        replace(
            CARD_PAGE,
            card=replace(CARD, steve=Steve("silent", replace(RECORD, read_at=ago(m=12)))),
            diagnosis=UNKNOWN,
            relations=Relations(parent=replace(PARENT, mark=Mark(State.UNKNOWN, "did not answer")), children=None),
            sessions=replace(SESSIONS, as_of=ago(m=12)),
            timeline=history(missing=("Preauth",)),
        ),
    )
    yield Sample(
        "card-nobody-answers",
        "cards/show.html",
        replace(FRAME, upstreams=()).at("cards"),
        replace(
            CARD_PAGE,
            card=replace(CARD, steve=Steve("silent"), link=replace(LINK, subscription_status=None)),
            diagnosis=None,
            relations=Relations(children=None),
            sessions=Sessions(None),
            timeline=timeline([], paths.card(CARD.id_tag), missing=("Audit", "Preauth")),
        ),
    )
    yield Sample(
        "card-sync-lost",
        "cards/show.html",
        frame,
        replace(
            CARD_PAGE,
            card=Card(CARD.id_tag, "", active=False, known=False, steve=Steve("silent", who="sync")),
            diagnosis=UNKNOWN,
            relations=Relations(children=None),
            sessions=Sessions(None),
            actions=(),
        ),
    )
    yield Sample(
        "card-new",
        "cards/show.html",
        frame,
        replace(
            CARD_PAGE,
            card=UNLINKED,
            diagnosis=diagnosis(
                State.WRONG,
                "SteVe does not know this card, so every charger refuses it.",
                "Add it in SteVe, or let it be tapped once: SteVe then adds it, blocked, and it can be unblocked here.",
                "steve",
                replace(CHECKS[0], answer="no", why="SteVe has no tag NEW-CARD-1.", evidence=()),
                replace(CHECKS[1], answer="no", why="Not linked: its sessions would be held."),
                Check("intercepted", "no", "It was never tapped.", ago(s=3)),
                Check("charger", "unknown", "No charger has seen it."),
            ),
            relations=Relations(),
            sessions=Sessions((), ago(s=3)),
            timeline=timeline([], paths.card("NEW-CARD-1")),
            actions=(Action("Link this card", "/", primary=True),),
        ),
    )
    yield Sample("card-meta", "cards/show.html", frame, META)
    yield Sample("card-long", "cards/show.html", replace(frame, rooms=ALL_ROOMS), LONG)


def card_lists() -> Iterator[Sample]:
    frame = FRAME.at("cards", twin="/api/v1/cards")
    chips = (
        Chip("All", "/cards", on=True, count=1_284),
        Chip("Not linked", "/cards?only=unlinked", count=17),
        Chip("Blocked", "/cards?only=blocked", count=42),
        Chip("Not active", "/cards?only=inactive", count=3),
        Chip("Meta-cards", "/cards?only=meta", count=9),
    )
    rows = (
        CardRow(CARD, ago(h=2)),
        CardRow(replace(BLOCKED, id_tag="04A1B2C3D5", display_name="Pool car 4"), ago(d=3)),
        CardRow(META.card),
        CardRow(UNLINKED),
        CardRow(replace(CARD, id_tag="DE-ABC-C12345678-9", card_type="app", display_name="Ingrid Ø"), ago(d=40)),
        CardRow(
            replace(
                CARD,
                id_tag="04FFEE0011",
                card_type="keytag",
                display_name="",
                steve=Steve("silent", RECORD),
                link=replace(LINK, subscription_status="terminated"),
            ),
            ago(d=500),
        ),
        CardRow(LONG.card, ago(m=1)),
    )
    yield Sample(
        "cards",
        "cards/list.html",
        frame,
        CardList(rows, chips=chips, total=1_284, pager=Pager(7, older="/cards?after=7")),
    )
    yield Sample(
        "cards-none-found",
        "cards/list.html",
        frame.at("cards", search="zebra"),
        CardList((), query="zebra", chips=chips, total=0),
    )
    yield Sample("cards-empty", "cards/list.html", frame, CardList((), total=0))
    yield Sample("cards-silent", "cards/list.html", LOST.at("cards"), CardList(None, query="ada"))
