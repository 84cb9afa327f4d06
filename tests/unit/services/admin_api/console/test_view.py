from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.admin_api.console import paths
from services.admin_api.console.view.audit import AuditFilter, AuditLog, Entry
from services.admin_api.console.view.cards import Card, Link, Steve, SteveRecord
from services.admin_api.console.view.diagnosis import Check
from services.admin_api.console.view.events import EVENTS, KIND_WORDS
from services.admin_api.console.view.frame import Frame, Upstream
from services.admin_api.console.view.overview import Overview, Waiting
from services.admin_api.console.view.sessions import Billing, Sessions
from services.admin_api.console.view.state import Mark, State, worst
from services.admin_api.console.view.taps import Tap
from services.admin_api.console.view.timeline import Moment, timeline
from tests.browser.samples.base import LOST
from tests.browser.samples.cards import CARD_PAGE
from tests.browser.samples.every import SAMPLES

NOW = datetime(2026, 5, 1, 9, 30, tzinfo=UTC)
RECORD = SteveRecord(311, 1, False, None, "", "", False, 0, NOW)
UP = Upstream("SteVe", State.OK, "It answers.")


def overview(*upstreams: Upstream, waiting: tuple[Waiting, ...] = ()) -> Overview:
    return Overview(upstreams, waiting, (), Sessions(()))


@pytest.mark.parametrize(
    ("steve", "state", "word"),
    [
        (Steve("present", RECORD), State.OK, "accepted"),
        (Steve("present", replace(RECORD, blocked=True)), State.WRONG, "blocked"),
        (Steve("present", replace(RECORD, expiry=NOW)), State.WRONG, "expired"),
        (Steve("present", replace(RECORD, expiry=NOW + timedelta(seconds=1))), State.OK, "accepted"),
        (Steve("absent"), State.WRONG, "not in SteVe"),
        (Steve("silent"), State.UNKNOWN, "did not answer"),
        (Steve("silent", RECORD), State.UNKNOWN, "did not answer"),
    ],
)
def test_how_steve_sees_the_card(steve: Steve, state: State, word: str) -> None:
    """A card counts as accepted only when SteVe answered; a record from before does not make silence fine."""
    mark = steve.mark(NOW)
    assert (mark.state, mark.word) == (state, word)


@pytest.mark.parametrize(
    ("status", "subscription", "linked"),
    [
        ("active", State.OK, State.OK),
        ("pending", State.ATTENTION, State.ATTENTION),
        ("terminated", State.WRONG, State.ATTENTION),
        ("something_new", State.ATTENTION, State.ATTENTION),
        (None, State.UNKNOWN, State.UNKNOWN),
    ],
)
def test_a_link_is_as_good_as_its_subscription(status: str | None, subscription: State, linked: State) -> None:
    """A link to a subscription that is not active, or that nobody could ask about, does not look fine."""
    link = Link("cus", "sub", NOW, subscription_status=status)
    assert (link.subscription.state, link.mark.state) == (subscription, linked)


def test_the_title_tells_a_meta_card_from_a_card() -> None:
    """The page is titled as the runbook says, by whether the card groups others."""
    assert Card("A", "ev_card", active=True).title == "EV Card details"
    assert Card("A", "meta", active=True, is_meta=True).title == "Meta-EV Card details"


def test_the_banner_stands_exactly_when_steve_is_silent() -> None:
    """The page warns of stale history when SteVe did not answer, and never otherwise. Who else did not, is named."""
    assert CARD_PAGE.banner == ""
    for who, silence in (
        ("SteVe", "SteVe is unreachable right now"),
        ("sync", "Sync did not answer, so nobody asked SteVe"),
    ):
        silent = replace(CARD_PAGE, card=replace(CARD_PAGE.card, steve=Steve("silent", RECORD, who)))
        assert silent.banner == f"{silence}; charging history and hierarchy may be stale."


@pytest.mark.parametrize(
    ("check", "state"),
    [
        (Check("valid_in_steve", "yes", ""), State.OK),
        (Check("valid_in_steve", "no", ""), State.WRONG),
        (Check("linked", "no", ""), State.ATTENTION),
        (Check("intercepted", "yes", ""), State.ATTENTION),
        (Check("intercepted", "no", ""), State.OK),
        (Check("charger", "unknown", ""), State.UNKNOWN),
        (Check("never_heard_of", "yes", ""), State.NEUTRAL),
    ],
)
def test_what_an_answer_means_for_the_card(check: Check, state: State) -> None:
    """A yes is not always good: that the tap was intercepted is what explains the refusal."""
    assert check.state is state


@pytest.mark.parametrize(
    ("tap", "state", "decider"),
    [
        (Tap(NOW, "CP", "", "no_pairing_armed", "none", 3, True), State.NEUTRAL, "SteVe"),
        (Tap(NOW, "CP", "", "", "none", 300, False), State.ATTENTION, "SteVe"),
        (Tap(NOW, "CP", "blocked", "", "blocked", 12, True), State.ATTENTION, "ExpresSync"),
        (Tap(NOW, "CP", "blocked", "", "none", 212, False), State.WRONG, "SteVe"),
        (Tap(NOW, "CP", "blocked", "", "unknown", None, None), State.UNKNOWN, ""),
    ],
)
def test_who_decided_a_tap(tap: Tap, state: State, decider: str) -> None:
    """ExpresSync decided only where Blocked was told in time; an answer nobody recorded stays unknown."""
    assert (tap.state, tap.decider) == (state, decider)


def test_unknown_is_never_as_good_as_fine() -> None:
    """Among several states the worst one counts, and unknown is worse than fine."""
    assert worst([State.OK, State.UNKNOWN]) is State.UNKNOWN
    assert worst([State.UNKNOWN, State.ATTENTION, State.OK]) is State.ATTENTION
    assert worst([]) is State.NEUTRAL


def test_the_summary_names_the_upstream_that_stands_worst() -> None:
    """On a phone one mark stands for all upstreams, and nothing heard of them is unknown."""
    lost = Upstream("Lago", State.WRONG, "It refuses.")
    assert Frame(NOW, upstreams=(UP, lost)).summary.word == "Lago"
    assert Frame(NOW, upstreams=(UP, UP)).summary == Mark(State.OK, "All answer", "Every upstream answers.")
    assert Frame(NOW).summary.state is State.UNKNOWN


@pytest.mark.parametrize(
    ("page", "state", "sentence"),
    [
        (overview(UP), State.OK, "Everything answers, and nothing waits for a decision."),
        (
            overview(UP, waiting=(Waiting("session to send", "sessions to send", 3, "", tolerable=True),)),
            State.OK,
            "Everything answers, and nothing waits for a decision.",
        ),
        (
            overview(UP, waiting=(Waiting("held session", "held sessions", 1, ""),)),
            State.ATTENTION,
            "1 held session waits for a decision.",
        ),
        (
            overview(UP, waiting=(Waiting("held session", "held sessions", None, ""),)),
            State.UNKNOWN,
            "What waits is not known: held sessions.",
        ),
        (
            overview(replace(UP, state=State.WRONG), replace(UP, name="Lago", state=State.UNKNOWN)),
            State.WRONG,
            "SteVe and Lago do not answer; nothing is lost, work waits.",
        ),
        (overview(), State.UNKNOWN, "How the upstreams stand is not known."),
    ],
)
def test_the_overview_says_the_worst_first(page: Overview, state: State, sentence: str) -> None:
    """One sentence says how things stand; what normally waits is no reason to worry, silence is."""
    assert (page.state, page.sentence) == (state, sentence)


def test_a_sessions_table_counts_what_has_no_reading() -> None:
    """The total leaves out sessions without a reading, and says how many those are."""
    row = SAMPLES["card"].page.sessions.rows[1]  # type: ignore[attr-defined]
    table = Sessions((row, replace(row, energy_wh=None), replace(row, energy_wh=1_000)))
    assert (table.total.wh, table.unread) == (row.energy_wh + 1_000, 1)


def test_a_held_session_says_why() -> None:
    """The reason code of a held session stands beside the word, spelled out."""
    assert Billing("held", reason="meter_went_back").word == "held: meter went back"


def moment(minutes: int, kind: str) -> Moment:
    assert kind in KIND_WORDS
    return Moment(NOW - timedelta(minutes=minutes), kind, State.NEUTRAL, f"{kind} {minutes}")


def test_a_timeline_is_newest_first_and_each_chip_toggles_its_kind() -> None:
    """A chip adds its kind to the address or takes it away, and the counts are those of everything."""
    moments = [moment(5, "taps"), moment(1, "changes"), moment(3, "taps")]
    shown = timeline(moments, "/cards/A", frozenset({"taps"}))
    assert [each.title for each in shown.moments] == ["taps 3", "taps 5"]
    assert [(chip.label, chip.count, chip.on) for chip in shown.chips] == [
        ("All", 3, False),
        ("Taps", 2, True),
        ("Changes", 1, False),
    ]
    assert [chip.href for chip in shown.chips] == [
        "/cards/A#timeline",
        "/cards/A#timeline",
        "/cards/A?show=taps%2Cchanges#timeline",
    ]


def test_a_timeline_of_one_kind_needs_no_chips() -> None:
    """Where there is nothing to choose between, nothing is offered."""
    assert timeline([moment(1, "taps")], "/cards/A").chips == ()


def test_every_event_type_has_words_and_a_kind() -> None:
    """The words are sentences for people, without the type's dots or underscores."""
    for name, (words, kind, _) in EVENTS.items():
        assert kind in KIND_WORDS, name
        assert words[0].isupper(), name
        assert "_" not in words, name


def entry(**data: object) -> Entry:
    return Entry("id-1", "card.blocked", "card/04A1", NOW, "operator", "mara", "expressync/sync", data)


def test_an_entry_shows_what_changed_and_the_rest_apart() -> None:
    """Fields of before and after become rows of one table, personal ones only their names, the rest facts."""
    made = entry(before={"blocked": False, "note": "x"}, after={"blocked": True}, personal=["note"], to_wh=5)
    assert [(change.field, change.before, change.after) for change in made.changes] == [
        ("blocked", "no", "yes"),
        ("note", "x", "none"),
    ]
    assert made.personal == ("note",)
    assert made.facts == (("To", "5 Wh"),)


def test_an_entry_survives_data_of_any_shape() -> None:
    """A newer event whose before and after are no objects is shown as it is, and breaks nothing."""
    made = entry(before=[1, 2], after="text", personal=7)
    assert (made.changes, made.personal) == ((), ())
    assert '"before": [' in made.cloud_event


def test_the_audit_filter_keeps_an_unknown_type() -> None:
    """A type in the address that this version does not know stays chosen in the form."""
    log = AuditLog((), AuditFilter(type="x.unheard_of"))
    assert log.types[-1] == ("Other", (("x.unheard_of", "X unheard of"),))


def test_a_period_chip_keeps_the_other_filters_and_drops_exact_times() -> None:
    """Choosing a period replaces from and to, and leaves subject and actor as they are."""
    chips = AuditFilter(subject="card/A", since="2026-05-01T00:00").periods
    assert chips[0].href == "/audit?subject=card%2FA&within=1h"
    assert not any(chip.on for chip in chips)


@pytest.mark.parametrize("id_tag", ["04A1", "a/b", "a#b", "a?b", "a b", "ü", "..", "%2F"])
def test_a_card_address_is_one_path_segment(id_tag: str) -> None:
    """Whatever stands in an idTag, its address has one segment for it and nothing after."""
    address = paths.card(id_tag)
    assert address.count("/") == 2
    assert not set("?# ") & set(address)


def test_a_subject_leads_to_its_page() -> None:
    """A card's subject leads to the card, any other to its part of the audit log."""
    assert paths.of_subject("card/04A1") == "/cards/04A1"
    assert paths.of_subject("charger/CP/7") == "/audit?subject=charger%2FCP%2F7"


def test_the_frame_goes_from_page_to_page() -> None:
    """A frame put around another page keeps who is signed in and how the upstreams stand."""
    there = LOST.at("audit", twin="/api/v1/audit")
    assert (there.operator, there.upstreams, there.room, there.twin) == (
        LOST.operator,
        LOST.upstreams,
        "audit",
        "/api/v1/audit",
    )
