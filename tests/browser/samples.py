"""Every page of the console in its typical, empty, silent, wrong and overlong states, from made-up view models."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from services.admin_api.console import paths
from services.admin_api.console.view.audit import AuditFilter, AuditLog, Entry
from services.admin_api.console.view.cards import (
    Card,
    CardList,
    CardPage,
    CardRow,
    Link,
    Relation,
    Relations,
    Steve,
    SteveRecord,
)
from services.admin_api.console.view.diagnosis import Check, Diagnosis, Verdict
from services.admin_api.console.view.frame import Frame, Notice, Operator, Room, Upstream
from services.admin_api.console.view.links import Customer, LinkForm, LinkPage, Preview, Subscription
from services.admin_api.console.view.overview import Overview, Waiting
from services.admin_api.console.view.problem import Problem
from services.admin_api.console.view.sessions import Billing, Session, Sessions
from services.admin_api.console.view.sign_in import SignIn
from services.admin_api.console.view.state import Action, Chip, Confirm, Mark, Pager, State
from services.admin_api.console.view.taps import Tap
from services.admin_api.console.view.timeline import Moment, Timeline, of_entry, of_tap, timeline

NOW = datetime(2026, 5, 1, 9, 30, tzinfo=UTC)


def ago(*, d: int = 0, h: int = 0, m: int = 0, s: int = 0) -> datetime:
    return NOW - timedelta(days=d, hours=h, minutes=m, seconds=s)


@dataclass(frozen=True)
class Sample:
    """One page in one state, and the address it is served at."""

    name: str
    template: str
    frame: Frame
    page: object

    @property
    def address(self) -> str:
        return f"/{self.name}"


STEVE = Upstream("SteVe", State.OK, "Tags and transactions are read every 30 s.", ago(s=4), took_ms=86)
LAGO = Upstream("Lago", State.OK, "Usage events are accepted and read back.", ago(s=11), took_ms=142)
BROKER = Upstream("Broker", State.OK, "Events are confirmed as they happen.", ago(s=1), took_ms=3)
STEVE_LOST = Upstream(
    "SteVe",
    State.WRONG,
    "SteVe refuses the connection. Taps are still decided by SteVe itself where it runs; look whether its host is up.",
    ago(m=12),
    since=ago(m=12),
)
LAGO_SLOW = Upstream(
    "Lago", State.ATTENTION, "Lago answers, but 1 in 4 requests takes longer than 5 s.", ago(s=9), took_ms=5_240
)
LAGO_SILENT = Upstream("Lago", State.UNKNOWN, "Lago has not been asked successfully since the start.")

FRAME = Frame(now=NOW, operator=Operator("Mara Lindt", "operator"), upstreams=(STEVE, LAGO, BROKER), csrf_token="t")
LOST = replace(FRAME, upstreams=(STEVE_LOST, LAGO, BROKER))
ALL_ROOMS = (
    Room("overview", "Overview", "overview", "/"),
    Room("cards", "Tags", "tags", "/cards"),
    Room("chargers", "Chargers", "chargers", "/"),
    Room("sessions", "Sessions", "sessions", "/"),
    Room("sync", "Sync", "sync", "/"),
    Room("held", "Held", "held", "/"),
    Room("taps", "Live taps", "taps", "/"),
    Room("audit", "Audit", "audit", "/audit"),
    Room("system", "System", "system", "/"),
)

LINK = Link("cus_ada_gmbh", "sub_fleet", datetime(2026, 1, 1, tzinfo=UTC), "Ada GmbH", "active")
RECORD = SteveRecord(
    ocpp_tag_pk=311,
    max_active_transaction_count=1,
    blocked=False,
    expiry=None,
    parent_id_tag="META-ADA",
    note="fleet",
    in_transaction=False,
    active_transaction_count=0,
    read_at=ago(s=4),
)
CARD = Card(
    id_tag="04A1B2C3D4",
    card_type="ev_card",
    active=True,
    display_name="Pool car 3",
    id_tag_as_sent="04a1b2c3d4",
    link=LINK,
    steve=Steve("present", RECORD),
)
BLOCKED = replace(CARD, steve=Steve("present", replace(RECORD, blocked=True, max_active_transaction_count=0)))
PARENT = Relation("META-ADA", Mark(State.OK, "accepted"))
LONG_TAG = "WWWWWWWWWWWWWWWWWWW9"

CHECKS = (
    Check(
        "valid_in_steve",
        "yes",
        "Not blocked, no expiry, limit 1, no session open.",
        ago(s=4),
        ("SteVe: ocppTag 311, maxActiveTransactionCount 1", "Parent META-ADA is accepted as well"),
    ),
    Check("linked", "yes", "Linked to Ada GmbH; the subscription sub_fleet is active.", ago(s=6)),
    Check(
        "intercepted",
        "no",
        "0 pairings were armed near the last tap at CP-7.",
        ago(m=28),
        ("Tap at 09:02:11 at CP-7, left to SteVe after 3 ms",),
    ),
    Check("charger", "yes", "CP-7 started a session right after the tap.", ago(m=28)),
)


def unblock(key: str = "unblock") -> Action:
    return Action(
        "Unblock",
        "/cards/04A1B2C3D4/unblock",
        key=key,
        post=True,
        primary=True,
        confirm=Confirm(
            "Unblock 04A1B2C3D4?",
            (
                "SteVe accepts the card from the next tap on, with the limit it had before: 1 session at once.",
                "Chargers that remember the refusal may need up to an hour, or a cleared cache.",
            ),
            "It can be blocked again at any time; this is written to the audit log.",
        ),
    )


def session(number: int, wh: int | None, billing: Billing, *, hours: int, reason: str = "Local") -> Session:
    start = ago(h=hours)
    return Session(
        session=f"main:{number}",
        charge_box_id="CP-7" if number % 2 else "CP-3",
        connector_id=1 + number % 2,
        start=start,
        stop=None if billing.state == "pending" and wh is None else start + timedelta(minutes=40 + 7 * (number % 9)),
        energy_wh=wh,
        billing=billing,
        stop_reason=reason,
        id_tag="04A1B2C3D4",
    )


SESSIONS = Sessions(
    (
        session(4711, None, Billing("pending"), hours=0, reason=""),
        session(4688, 12_437, Billing("counted", ago(h=1, m=16)), hours=2),
        session(4630, 7_912, Billing("held", None, "meter_went_back"), hours=19, reason="EVDisconnected"),
        session(4599, 23_050, Billing("synced", ago(h=30)), hours=31, reason="Remote"),
        session(4412, 1_048, Billing("counted", ago(d=3)), hours=74, reason="DeAuthorized"),
        session(4107, 41_277, Billing("counted", ago(d=9)), hours=220),
    ),
    ago(s=20),
)

TAPS = (
    Tap(ago(m=28), "CP-7", "", "no_pairing_armed", "none", 3, in_time=True, id_tag="04A1B2C3D4"),
    Tap(ago(h=20), "CP-3", "blocked", "pairing_armed", "blocked", 12, in_time=True, id_tag="04A1B2C3D4"),
    Tap(ago(d=1, h=3), "CP-3", "blocked", "pairing_armed", "none", 212, in_time=False, id_tag="04A1B2C3D4"),
    Tap(ago(d=2), "CP-12", "blocked", "pairing_armed", "unknown", None, None, id_tag="04A1B2C3D4"),
)


def event(
    number: int, type_: str, subject: str, at: datetime, who: tuple[str, str], *, source: str, **data: object
) -> Entry:
    return Entry(
        event_id=f"0196894e-{number:04x}-7c1a-9d3f-2b7e5a90c4d1",
        type=type_,
        subject=subject,
        time=at,
        actor_kind=who[0],
        actor_id=who[1],
        source=f"expressync/{source}",
        data=data,
    )


MARA, BOX, SYSTEM = ("operator", "mara"), ("charger", "CP-7"), ("system", "")
ENTRIES = (
    event(
        9,
        "tap.decided",
        "card/04A1B2C3D4",
        ago(m=28),
        BOX,
        source="preauth",
        charge_box_id="CP-7",
        told="none",
        in_time=True,
    ),
    event(
        8,
        "card.blocked",
        "card/04A1B2C3D4",
        ago(h=2),
        MARA,
        source="sync",
        before={"max_active_transaction_count": 1, "blocked": False},
        after={"max_active_transaction_count": 0, "blocked": True},
        reason="lost by the driver",
        change_id="c-1",
    ),
    event(
        7,
        "transaction.counted",
        "session/main:4688",
        ago(h=3),
        SYSTEM,
        source="sync",
        session="main:4688",
        seq=1,
        charge_box_id="CP-7",
        id_tag="04A1B2C3D4",
        from_wh=0,
        to_wh=12_437,
        usage_event_id="steve:main:4688:1",
        external_customer_id="cus_ada_gmbh",
        external_subscription_id="sub_fleet",
        final=True,
    ),
    event(6, "upstream.recovered", "upstream/lago", ago(h=5), ("upstream", "lago"), source="sync", lost_for_s=41),
    event(
        5,
        "card.linked",
        "card/04A1B2C3D4",
        ago(d=1),
        MARA,
        source="sync",
        before=None,
        after={"external_customer_id": "cus_ada_gmbh", "external_subscription_id": "sub_fleet"},
        personal=["customer_name"],
    ),
    event(4, "scan.intercepted", "card/04A1B2C3D4", ago(h=20), BOX, source="preauth", pairing_id="0196-7", via="hook"),
    event(3, "operator.sign_in_refused", "operator/mara", ago(d=1, h=2), MARA, source="admin_api", address_tried=3),
    event(2, "charger.firmware_seen", "charger/CP-7", ago(d=4), BOX, source="preauth", version="2.1.9"),
)


def history(shown: frozenset[str] = frozenset(), missing: tuple[str, ...] = ()) -> Timeline:
    mine = [of_entry(entry) for entry in ENTRIES if "04A1B2C3D4" in entry.subject and entry.type != "tap.decided"]
    moments: list[Moment] = [*mine, *(of_tap(tap) for tap in TAPS)]
    made = timeline(moments, paths.card(CARD.id_tag), shown, missing)
    return replace(made, older=paths.subject("card/04A1B2C3D4"))


def diagnosis(state: State, sentence: str, remedy: str, by: str, *checks: Check, **more: object) -> Diagnosis:
    since = more.get("since")
    actions = more.get("actions", ())
    return Diagnosis(
        Verdict(
            "sample",
            state,
            sentence,
            remedy,
            by,
            since if isinstance(since, datetime) else None,
            actions if isinstance(actions, tuple) else (),
        ),
        checks or CHECKS,
    )


FINE = diagnosis(
    State.OK,
    "This card charges and bills.",
    "If the customer still sees a refusal, ask which charger it was and look at that charger.",
    "steve",
    since=ago(d=1),
)
IS_BLOCKED = diagnosis(
    State.WRONG,
    "Blocked in SteVe since 09:30 by operator Mara.",
    "Unblock it to let it charge. The reason given was “lost by the driver”.",
    "operator",
    replace(
        CHECKS[0],
        answer="no",
        why="Blocked: the limit is 0.",
        evidence=("SteVe: ocppTag 311, maxActiveTransactionCount 0", "card.blocked by operator mara, 2 h ago"),
    ),
    CHECKS[1],
    CHECKS[2],
    Check("charger", "unknown", "CP-7 did not answer.", ago(m=9)),
    since=ago(h=2),
    actions=(unblock(),),
)
UNKNOWN = diagnosis(
    State.UNKNOWN,
    "Whether this card may charge is not known: SteVe did not answer.",
    "Treat it as an outage of SteVe first. Every card looks broken until SteVe is back.",
    "",
    Check("valid_in_steve", "unknown", "SteVe did not answer within 2 s."),
    Check("linked", "yes", "Linked to Ada GmbH; the subscription sub_fleet is active.", ago(m=13)),
    Check("intercepted", "unknown", "Preauth did not answer within 2 s."),
    Check("charger", "unknown", "Nobody could be asked."),
)
INTERCEPTED = diagnosis(
    State.ATTENTION,
    "The last tap was intercepted for a login, as intended. The card itself is fine.",
    "Tell the customer to tap once more to charge. The pairing of that login is used up.",
    "expressync",
    CHECKS[0],
    CHECKS[1],
    Check(
        "intercepted",
        "yes",
        "A pairing was armed at CP-3, and the driver was logged in 2 s later.",
        ago(h=20),
        ("Blocked was told after 12 ms, in time", "scan.login_succeeded in the same minute"),
    ),
    Check("charger", "no", "CP-3 was told Blocked and started no session.", ago(h=20)),
    since=ago(h=20),
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
UNLINKED = replace(CARD, link=None, active=False, display_name="", steve=Steve("absent"), id_tag="NEW-CARD-1")
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


def _cards() -> Iterator[Sample]:
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
                replace(CHECKS[2], why="It was never tapped."),
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
    yield from _card_lists()


def _card_lists() -> Iterator[Sample]:
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


def _links() -> Iterator[Sample]:
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
                    "3 sessions held since then, 21.4 kWh in all, are released and billed to it.",
                    "Sessions that started before stay held.",
                ),
                "The link can be undone from the card's page. What Lago has counted by then is not taken back.",
            ),
            idempotency_key="k",
        ),
    )


def _audit() -> Iterator[Sample]:
    frame = FRAME.at("audit", twin="/api/v1/audit")
    yield Sample("audit", "audit/list.html", frame, AuditLog(ENTRIES, AuditFilter(within="7d"), Pager(8, "/audit?a")))
    yield Sample(
        "audit-none-found",
        "audit/list.html",
        frame,
        AuditLog(
            (),
            AuditFilter("card.blocked", "card/04A1B2C3D4", "operator", "mara", since="2026-05-01T08:00"),
            problem="“until” was not a date: “tomorrow”. It was left out.",
        ),
    )
    yield Sample("audit-empty", "audit/list.html", frame, AuditLog(()))
    yield Sample("audit-silent", "audit/list.html", frame, AuditLog(None, AuditFilter(type="x.unheard_of")))
    yield Sample("audit-entry", "audit/show.html", frame, ENTRIES[1])
    yield Sample("audit-entry-counted", "audit/show.html", frame, ENTRIES[2])
    yield Sample("audit-entry-personal", "audit/show.html", frame, ENTRIES[4])


def _overview() -> Iterator[Sample]:
    frame = FRAME.at("overview", twin="/api/v1/overview")
    calm = (
        Waiting(
            "session to send", "sessions to send", 3, "They go with the next run, in 20 s.", ago(m=2), tolerable=True
        ),
        Waiting("held session", "held sessions", 0, "Nothing is kept back."),
        Waiting("parked message", "parked messages", 0, "Every message was understood."),
    )
    page = Overview((STEVE, LAGO, BROKER), calm, TAPS, SESSIONS, live_taps="/live/taps")
    yield Sample("overview", "overview/show.html", frame, page)
    busy = (
        replace(calm[0], number=12, oldest=ago(h=3)),
        Waiting("held session", "held sessions", 4, "4 sessions, 87.3 kWh, wait for a decision.", ago(d=6), href="/"),
        Waiting("parked message", "parked messages", None, "The broker was not asked."),
    )
    yield Sample(
        "overview-trouble",
        "overview/show.html",
        replace(LOST, upstreams=(STEVE_LOST, LAGO_SLOW, BROKER)).at("overview"),
        replace(page, upstreams=(STEVE_LOST, LAGO_SLOW, BROKER), waiting=busy),
    )
    yield Sample(
        "overview-empty",
        "overview/show.html",
        replace(FRAME, upstreams=(STEVE, LAGO_SILENT, BROKER)).at("overview"),
        replace(page, upstreams=(STEVE, LAGO_SILENT, BROKER), taps=(), sessions=Sessions(())),
    )
    yield Sample(
        "overview-silent",
        "overview/show.html",
        replace(FRAME, upstreams=()).at("overview"),
        Overview((), tuple(replace(each, number=None) for each in calm), None, Sessions(None)),
    )
    yield Sample(
        "overview-held",
        "overview/show.html",
        replace(frame, rooms=ALL_ROOMS),
        replace(page, waiting=(calm[0], busy[1])),
    )
    yield Sample(
        "overview-rail-collapsed", "overview/show.html", replace(frame, rooms=ALL_ROOMS, rail_collapsed=True), page
    )


def _outside() -> Iterator[Sample]:
    nobody = Frame(now=NOW, csrf_token="t")
    yield Sample("sign-in", "sign_in/show.html", nobody, SignIn())
    yield Sample(
        "sign-in-refused",
        "sign_in/show.html",
        nobody,
        SignIn(
            "mara", "This operator and password do not go together. 3 more tries, then a pause of 15 min.", State.WRONG
        ),
    )
    yield Sample(
        "sign-in-single",
        "sign_in/show.html",
        nobody,
        SignIn(message="You were signed out after 30 min without use.", single_sign_on="Keycloak"),
    )
    yield Sample(
        "sign-in-paused",
        "sign_in/show.html",
        nobody,
        SignIn("mara", "Too many tries. Signing in is possible again in 14 min.", State.ATTENTION, disabled=True),
    )
    missing = Problem(
        404,
        "There is no card 04ZZ",
        "Neither ExpresSync nor SteVe knows a card with the idTag “04ZZ”.",
        "Check the idTag on the card, or search by a part of it. A brand-new card appears after its first tap.",
        "0196894e-0001-7c1a-9d3f-2b7e5a90c4d1",
        (Action("Search the cards", "/cards"),),
    )
    yield Sample("problem-missing", "problem/show.html", FRAME.at("cards"), missing)
    yield Sample(
        "problem-silent",
        "problem/show.html",
        FRAME.at("cards"),
        Problem(
            504,
            "Whether the card was linked is not known",
            "Sync did not answer within 3 s. The link may have been made, or not.",
            "Send it again: it is the same request, and is carried out once at most.",
            "0196894e-0002-7c1a-9d3f-2b7e5a90c4d1",
            (Action("Send it again", "/", post=True, primary=True), Action("Back to the card", "/")),
        ),
    )
    yield Sample(
        "problem-outside",
        "problem/show.html",
        nobody,
        Problem(
            500,
            "This page could not be made",
            "An unexpected error was logged.",
            "Try again; if it stays, send the reference to whoever runs ExpresSync.",
            "0196894e",
        ),
    )


SAMPLES: dict[str, Sample] = {
    sample.name: sample for part in (_overview, _cards, _links, _audit, _outside) for sample in part()
}
