"""A card and what belongs to it: sessions, taps, history, diagnoses."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from services.admin_api.console import paths
from services.admin_api.console.view.audit import Entry
from services.admin_api.console.view.cards import (
    Card,
    Link,
    Relation,
    Steve,
    SteveRecord,
)
from services.admin_api.console.view.diagnosis import Check, Diagnosis, Verdict
from services.admin_api.console.view.sessions import Billing, Session, Sessions
from services.admin_api.console.view.state import Action, Confirm, Mark, State
from services.admin_api.console.view.taps import Tap
from services.admin_api.console.view.timeline import Moment, Timeline, of_entry, of_tap, timeline
from tests.browser.samples.base import ago

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
