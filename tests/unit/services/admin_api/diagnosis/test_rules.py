"""The four questions and the verdict, as tables."""

from datetime import timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.admin_api.diagnosis.codes import STANDING, UNKNOWN_CODES, Code
from services.admin_api.diagnosis.model import Evidence
from services.admin_api.diagnosis.rules import diagnose
from shared.contracts.requests.preauth import TapView
from tests.unit.services.admin_api.diagnosis import cases as c
from tests.unit.services.admin_api.diagnosis import things

YES, NO, UNKNOWN = "yes", "no", "unknown"


def answers(evidence: Evidence) -> dict[str, str]:
    return {check.id: check.answer for check in diagnose(evidence).checks}


def test_a_card_with_which_all_is_well_is_fine() -> None:
    """Accepted by SteVe, linked to an active subscription, not intercepted, charged: the verdict is "fine"."""
    made = diagnose(c.evidence())
    assert made.verdict.code == "fine"
    assert answers(c.evidence()) == {"valid_in_steve": YES, "linked": YES, "intercepted": NO, "charger": YES}


def test_the_answer_has_the_shape_of_the_contract() -> None:
    """`diagnose --json` is card, verdict (code, sentence, decided_by, since, remedy) and four checks."""
    made = diagnose(c.evidence()).model_dump(mode="json")
    assert set(made) == {"card", "verdict", "checks"}
    assert set(made["verdict"]) == {"code", "sentence", "decided_by", "since", "remedy"}
    assert [check["id"] for check in made["checks"]] == ["valid_in_steve", "linked", "intercepted", "charger"]
    assert all(set(check) == {"id", "answer", "why", "as_of", "evidence"} for check in made["checks"])


@pytest.mark.parametrize(
    ("steve", "answer", "words"),
    [
        (c.in_steve(None), NO, "Invalid"),
        (c.in_steve(c.blocked_tag()), NO, "Blocked"),
        (c.in_steve(c.blocked_tag(expiry=c.ago(days=1))), NO, "Blocked"),
        (c.in_steve(c.tag(expiry=c.NOW)), NO, "Expired"),
        (c.in_steve(c.tag(expiry=c.NOW + timedelta(seconds=1))), YES, "Accepted"),
        (c.in_steve(c.tag(max_active_transaction_count=-1)), YES, "Accepted"),
        (c.in_steve(c.tag(active_transaction_count=1, in_transaction=True)), YES, "ConcurrentTx"),
        (c.in_steve(c.tag(parent_id_tag="META"), c.blocked_tag(id_tag="META")), YES, "parent META is blocked"),
        (c.in_steve(c.tag(parent_id_tag="META"), c.tag(id_tag="META", expiry=c.ago(days=1))), YES, "META is expired"),
        (c.silence("SteVe"), UNKNOWN, "did not answer"),
    ],
)
def test_valid_in_steve_is_steves_own_answer(steve: object, answer: str, words: str) -> None:
    """In SteVe's order; a parent, which stock SteVe ignores, is told beside the answer and does not change it."""
    check = diagnose(c.evidence(steve=steve)).checks[0]
    assert (check.answer, words in check.why) == (answer, True), check.why


def test_the_mirror_is_no_answer_to_right_now() -> None:
    """When SteVe is silent, what was last read from it is evidence with its age, and the answer is unknown."""
    check = diagnose(c.evidence(steve=c.silence("SteVe"))).checks[0]
    assert check.answer == UNKNOWN
    assert [(fact.says, fact.at) for fact in check.evidence] == [
        ("When it was last read, SteVe's answer was: accepted.", c.ago(minutes=5))
    ]


@pytest.mark.parametrize(
    ("parts", "answer"),
    [
        ({"known": c.said(None), "subscription": None}, NO),
        ({"known": c.said(c.known(link=None)), "subscription": None}, NO),
        ({"known": c.said(c.known(link=c.link(valid_from=c.NOW + timedelta(days=1))))}, NO),
        ({"known": c.said(c.known(link=c.link(valid_to=c.NOW)))}, NO),
        ({"subscription": c.said(None)}, NO),
        ({"subscription": c.said(c.subscription(status="terminated"))}, NO),
        ({"subscription": c.said(c.subscription(status="pending"))}, NO),
        ({"subscription": c.said(c.subscription(external_customer_id="eve"))}, NO),
        ({"subscription": c.silence("Lago")}, UNKNOWN),
        ({"subscription": None}, UNKNOWN),
        ({"known": c.silence("sync"), "subscription": None}, UNKNOWN),
        ({}, YES),
    ],
)
def test_linked_needs_a_valid_link_and_lagos_word_for_an_active_subscription(
    parts: dict[str, object], answer: str
) -> None:
    """Only Lago's answer now makes it a yes; only an answer makes it a no."""
    assert answers(c.evidence(**parts))["linked"] == answer


BELOW = {"known": c.said(c.known(link=None, ancestors=["META", "TOP"]))}


@pytest.mark.parametrize(
    ("parts", "answer", "words", "code"),
    [
        ({"above": c.said(c.known(id_tag="TOP"))}, YES, "Through TOP above it, linked to ada", "fine"),
        (
            {"above": c.said(c.known(id_tag="TOP")), "subscription": c.said(None)},
            NO,
            "no active subscription sub_fleet",
            "no_active_subscription",
        ),
        ({"subscription": None}, NO, "Neither the card nor META → TOP above it is linked to a", "not_linked"),
        ({"above": c.silence("sync"), "subscription": None}, UNKNOWN, "whether one above it has is not", "unknown"),
    ],
)
def test_a_card_without_a_link_of_its_own_has_that_of_the_nearest_above_it(
    parts: dict[str, object], answer: str, words: str, code: str
) -> None:
    """Whose link applies is said; only where none above it has one, its sessions are held."""
    made = diagnose(c.evidence(**BELOW, **parts))
    check = made.checks[1]
    assert (check.answer, words in check.why, made.verdict.code) == (answer, True, code), check.why
    assert ("sessions are held" in check.why + made.verdict.sentence) == (code == "not_linked")


@pytest.mark.parametrize(
    ("taps", "answer"),
    [
        (c.said([c.intercepted_tap()]), YES),
        (c.said([c.intercepted_tap(told="unknown", in_time=None)]), UNKNOWN),
        (c.said([c.intercepted_tap(told=None, in_time=None)]), UNKNOWN),
        (c.said([c.intercepted_tap(in_time=None)]), UNKNOWN),
        (c.said([c.intercepted_tap(in_time=False)]), NO),
        (c.said([c.intercepted_tap(told="passed")]), NO),
        (c.said([c.tap(), c.intercepted_tap(tapped_at=c.ago(days=1))]), NO),
        (c.said([]), NO),
        (c.silence("preauth"), UNKNOWN),
    ],
)
def test_intercepted_means_that_blocked_was_told_in_time(taps: object, answer: str) -> None:
    """A match whose answer came too late charged normally; one whose answer nobody recorded is unknown."""
    assert answers(c.evidence(taps=taps))["intercepted"] == answer


@pytest.mark.parametrize(
    ("parts", "answer"),
    [
        ({"gaps": [c.gap(minutes=30)]}, UNKNOWN),
        ({"gaps": [c.gap(minutes=30)], "taps": c.said([])}, UNKNOWN),
        ({"gaps": [c.gap(minutes=30)], "taps": c.said([c.intercepted_tap()])}, UNKNOWN),
        ({"gaps": [c.gap(minutes=30)], "taps": c.said([c.tap(tapped_at=c.ago(minutes=20))])}, NO),
        ({"gaps": [c.gap(minutes=30)], "sessions": c.said([c.session(started_at=c.ago(minutes=20))])}, NO),
        ({"gaps": [c.gap(minutes=90)]}, NO),
        ({"gaps": [c.gap(minutes=90)], "at": c.ago(minutes=91)}, UNKNOWN),
        ({"gaps": [c.gap(minutes=30)], "at": c.ago(minutes=61)}, NO),
        ({"gaps": [c.gap(minutes=30)], "at": c.ago(minutes=61), "taps": c.said([])}, UNKNOWN),
    ],
)
def test_a_tap_that_the_journal_may_have_lost_is_not_known(parts: dict[str, object], answer: str) -> None:
    """A gap after all that is known of the card, or nearer to the time in question, leaves its tap open."""
    made = diagnose(c.evidence(**({"sessions": c.said([])} | parts)))
    (check,) = [each for each in made.checks if each.id == "intercepted"]
    assert check.answer == answer
    assert ("lost 3 taps" in check.why) == (answer == UNKNOWN)


def test_a_lost_tap_is_asked_for_again() -> None:
    """What the journal lost does not come back by asking again."""
    made = diagnose(c.evidence(gaps=[c.gap(minutes=5)]))
    assert made.verdict.code == "unknown"
    assert "lost 3 taps" in made.verdict.sentence
    assert "Tap the card once more" in made.verdict.remedy


@pytest.mark.parametrize(
    ("parts", "answer"),
    [
        ({}, YES),
        ({"sessions": c.said([c.session(energy_wh=0, stop_reason="DeAuthorized")])}, NO),
        ({"sessions": c.said([c.session(energy_wh=0)])}, UNKNOWN),
        ({"sessions": c.said([c.session(energy_wh=None, stopped_at=None, stop_reason=None)])}, UNKNOWN),
        ({"sessions": c.said([c.session(energy_wh=10, stopped_at=None, stop_reason=None)])}, YES),
        ({"sessions": c.said([c.session(started_at=c.ago(days=2))])}, UNKNOWN),
        ({"sessions": c.said([])}, UNKNOWN),
        ({"sessions": c.said([]), "taps": c.said([])}, UNKNOWN),
        ({"taps": c.said([])}, YES),
        ({"sessions": c.silence("sync")}, UNKNOWN),
        ({"taps": c.silence("preauth")}, UNKNOWN),
    ],
)
def test_the_charger_accepted_only_what_it_delivered_energy_for(parts: dict[str, object], answer: str) -> None:
    """A transaction alone proves nothing, and a session before the last tap says nothing about that tap."""
    assert answers(c.evidence(**parts))["charger"] == answer


BLOCKED = c.in_steve(c.blocked_tag())
JUST_NOW = c.said([c.intercepted_tap(tapped_at=c.ago(minutes=5))])
UNLINKED = c.said(c.known(link=None))


@pytest.mark.parametrize(
    ("parts", "code", "decided_by"),
    [
        ({"steve": c.in_steve(None)}, "not_in_steve", "steve"),
        ({"steve": BLOCKED}, "blocked", "steve"),
        ({"steve": BLOCKED, "taps": c.said([c.intercepted_tap()])}, "blocked", "steve"),
        ({"steve": BLOCKED, "taps": c.silence("preauth"), "subscription": c.silence("Lago")}, "blocked", "steve"),
        ({"steve": c.in_steve(c.tag(expiry=c.ago(days=1)))}, "expired", "steve"),
        ({"taps": JUST_NOW, "sessions": c.said([])}, "intercepted", "expressync"),
        ({"taps": c.said([c.intercepted_tap()]), "sessions": c.said([])}, "charger_not_known", None),
        (
            {"taps": c.said([c.intercepted_tap()]), "sessions": c.said([]), "known": UNLINKED, "subscription": None},
            "not_linked",
            "expressync",
        ),
        (
            {"taps": c.said([c.intercepted_tap()]), "sessions": c.said([]), "at": c.ago(hours=1, minutes=3)},
            "intercepted",
            "expressync",
        ),
        (
            {"taps": JUST_NOW, "sessions": c.said([]), "steve": c.silence("SteVe")},
            "intercepted",
            "expressync",
        ),
        ({"taps": c.said([c.intercepted_tap()])}, "interception_ignored", "charger"),
        ({"steve": c.silence("SteVe")}, "steve_silent", None),
        ({"steve": c.silence("sync")}, "unknown", None),
        (
            {"steve": c.in_steve(c.tag(active_transaction_count=1, in_transaction=True))},
            "limit_reached",
            "steve",
        ),
        (
            {"steve": c.in_steve(c.tag(parent_id_tag="META"), c.blocked_tag(id_tag="META"))},
            "parent_blocked",
            "steve",
        ),
        (
            {"steve": c.in_steve(c.tag(parent_id_tag="META"), c.tag(id_tag="META", expiry=c.ago(days=1)))},
            "parent_expired",
            "steve",
        ),
        ({"steve": c.in_steve(c.tag(parent_id_tag="META"))}, "unknown", None),
        ({"sessions": c.said([c.session(energy_wh=0, stop_reason="DeAuthorized")])}, "charger_refused", "charger"),
        ({"known": c.said(c.known(link=None)), "subscription": None}, "not_linked", "expressync"),
        ({"known": c.said(None), "subscription": None}, "not_linked", "expressync"),
        ({"known": c.said(c.known(link=c.link(valid_to=c.ago(days=1))))}, "link_not_valid", "expressync"),
        ({"subscription": c.said(None)}, "no_active_subscription", "lago"),
        ({"subscription": c.said(c.subscription(status="terminated"))}, "no_active_subscription", "lago"),
        (
            {"subscription": c.said(c.subscription(external_customer_id="eve"))},
            "other_customers_subscription",
            "lago",
        ),
        ({"subscription": c.silence("Lago")}, "unknown", None),
        ({"sessions": c.said([])}, "charger_not_known", None),
        ({"sessions": c.silence("sync")}, "unknown", None),
        ({"taps": c.silence("preauth")}, "unknown", None),
        ({"known": c.said(c.known(active=False))}, "not_active", "expressync"),
        ({"pairings": c.silence("preauth"), "changes": c.silence("audit")}, "fine", "steve"),
    ],
)
def test_the_verdict_names_the_strongest_finding_and_who_decided(
    parts: dict[str, object], code: str, decided_by: str | None
) -> None:
    """What SteVe refuses comes first, then an intended interception, then what is not billed, then what is unknown."""
    verdict = diagnose(c.evidence(**parts)).verdict
    assert (verdict.code, verdict.decided_by) == (code, decided_by)
    assert verdict.sentence.endswith(".")
    assert verdict.remedy.endswith(".")


NOW_AT_CP7: dict[str, object] = {"taps": c.said([c.tap(tapped_at=c.ago(minutes=2))]), "sessions": c.said([])}
FAULTED = things.charger(connectors=[things.connector(status="Faulted", error_code="GroundFailure")])


@pytest.mark.parametrize(
    ("parts", "code", "words"),
    [
        ({"charger": c.said(things.charger(connected=False))}, "charger_offline", "but CP-7 is offline"),
        ({"charger": c.said(FAULTED)}, "charger_faulted", "but connector 1 of CP-7 reports Faulted (GroundFailure)"),
        ({"charger": c.said(things.charger())}, "charger_not_known", ""),
        ({"charger": c.said(things.charger(connected=None))}, "charger_not_known", ""),
        ({"charger": c.said(None)}, "charger_not_known", ""),
        ({"charger": c.silence("preauth")}, "charger_not_known", ""),
        ({"charger": c.said(FAULTED), "taps": c.said([c.tap(tapped_at=c.ago(days=1))])}, "charger_not_known", ""),
        ({"charger": c.said(FAULTED), "sessions": c.said([c.session(started_at=c.ago(minutes=2))])}, "fine", ""),
        ({"charger": c.said(FAULTED), "known": UNLINKED, "subscription": None}, "charger_faulted", ""),
        ({"charger": c.said(FAULTED), "steve": BLOCKED}, "blocked", ""),
    ],
)
def test_a_charger_that_is_off_explains_a_tap_that_came_to_nothing(
    parts: dict[str, object], code: str, words: str
) -> None:
    """As it stands now, for a tap of just now that no session followed; what SteVe refuses still comes first."""
    verdict = diagnose(c.evidence(**{**NOW_AT_CP7, **parts})).verdict
    assert verdict.code == code
    assert words in verdict.sentence


NOT_STEVES = {"steve_answer": "Blocked", "tapped_at": c.ago(hours=2)}


@pytest.mark.parametrize(
    ("tap", "parts", "code", "words"),
    [
        (c.tap(steve_answer="Invalid"), {}, "steve_refused", "it answered Invalid"),
        (c.tap(steve_answer="error:InternalError"), {}, "steve_refused", "with an error (InternalError)"),
        (c.tap(steve_answer="Blocked"), {}, "steve_refused", "it answered Blocked"),
        (
            c.tap(steve_answer="Invalid", kind="start"),
            {"sessions": c.said([c.session(energy_wh=0, stop_reason="DeAuthorized")])},
            "steve_refused",
            "it answered Invalid",
        ),
        (c.intercepted_tap(steve_answer="Invalid", told="passed"), {}, "steve_refused", "it answered Invalid"),
        (c.tap(steve_answer="Invalid"), {"steve": BLOCKED}, "blocked", ""),
        (c.tap(steve_answer="Invalid"), {"sessions": c.said([c.session()])}, "fine", ""),
        (c.tap(steve_answer="Accepted"), {}, "charger_not_known", ""),
        (c.tap(steve_answer=None), {}, "charger_not_known", ""),
        (c.intercepted_tap(**NOT_STEVES), {}, "charger_not_known", ""),
    ],
)
def test_what_steve_answered_counts_beside_what_it_has_on_record(
    tap: TapView, parts: dict[str, object], code: str, words: str
) -> None:
    """An internal error is Invalid to the charger, while the card is fine on record: the gateway saw the answer. A
    Blocked that stood for a login is not SteVe's.
    """
    made = diagnose(c.evidence(**({"taps": c.said([tap]), "sessions": c.said([])} | parts)))
    assert made.verdict.code == code
    assert words in made.verdict.sentence
    if code == "steve_refused":
        assert (made.checks[3].answer, made.verdict.decided_by, made.verdict.since) == (NO, "steve", tap.tapped_at)
        assert ("SteVe failed inside" in made.verdict.remedy) == (tap.steve_answer != "Blocked")


def test_what_is_known_of_the_charger_is_evidence() -> None:
    """Online or not, its connector, and that it did not stay off before; silence is said as silence."""
    found = things.charger(honours_override="no")
    says = [fact.says for fact in diagnose(c.evidence(charger=c.said(found))).checks[3].evidence]
    assert says[:3] == [
        "CP-7 is online through the gateway.",
        "Connector 1 of CP-7 reports Available.",
        "CP-7 was told Blocked before, and charged all the same.",
    ]
    silent = diagnose(c.evidence(charger=c.silence("preauth"))).checks[3].evidence
    assert silent[0].says == "How the charger stands is not known: nobody answered."


def test_a_card_that_charges_now_has_not_reached_its_limit() -> None:
    """What fills the limit is the session the card is charging with: nothing stands in its way."""
    charging = c.session(stopped_at=None, stop_reason=None, energy_wh=300)
    full = c.in_steve(c.tag(active_transaction_count=1, in_transaction=True))
    assert diagnose(c.evidence(sessions=c.said([charging]), steve=full)).verdict.code == "fine"


def test_a_card_at_its_limit_is_told_where_it_is_in_session() -> None:
    """The operator need not look for the session that stands in the way."""
    running = c.session(stopped_at=None, stop_reason=None, energy_wh=None, charge_box_id="CP-3")
    full = c.in_steve(c.tag(active_transaction_count=1, in_transaction=True))
    verdict = diagnose(c.evidence(sessions=c.said([running]), steve=full)).verdict
    assert (verdict.code, verdict.since) == ("limit_reached", running.started_at)
    assert "the newest at CP-3" in verdict.sentence


def test_a_taps_reason_is_told_in_the_journals_words() -> None:
    """Where the journal explains itself, its sentence stands in the answer; otherwise the reason's code as words."""
    explained = c.tap(explanation="No scan was armed at this charger.")
    assert diagnose(c.evidence(taps=c.said([explained]))).checks[2].why.endswith("No scan was armed at this charger.")
    assert diagnose(c.evidence()).checks[2].why.endswith("Nothing armed.")


def test_the_audit_log_tells_who_blocked_and_since_when() -> None:
    """The recorded block of an operator is named with its time."""
    change = c.entry("card.changed", c.ago(minutes=18), {"after": {"blocked": True}})
    verdict = diagnose(c.evidence(steve=BLOCKED, changes=c.said([change]))).verdict
    assert (verdict.decided_by, verdict.since) == ("operator", c.ago(minutes=18))
    assert " m " in verdict.sentence


def test_a_block_that_was_lifted_later_is_not_the_one_that_holds() -> None:
    """An unblock recorded after the block means that this block came from elsewhere: since is unknown. So is it where
    an operator's block was taken off one of before it.
    """
    for lifted in ({"blocked": False}, {"block_kind": None}, {"block_kind": "policy"}):
        changes = [
            c.entry("card.changed", c.ago(minutes=5), {"after": lifted}),
            c.entry("card.blocked", c.ago(minutes=18), {}),
        ]
        verdict = diagnose(c.evidence(steve=BLOCKED, changes=c.said(changes))).verdict
        assert (verdict.decided_by, verdict.since) == ("steve", None)


def test_a_pairing_armed_where_the_card_was_last_seen_is_evidence() -> None:
    """The next tap there would be taken, so the operator is told; one at another charger concerns nobody here."""
    here, elsewhere = c.pairing(), c.pairing(charge_box_id="CP-9")
    facts = diagnose(c.evidence(pairings=c.said([elsewhere, here]))).checks[2].evidence
    armed = [fact.says for fact in facts if "A pairing is armed" in fact.says]
    assert len(armed) == 1
    assert "CP-7" in armed[0]


def maybe(who: str, *values: object) -> st.SearchStrategy[object]:
    return st.sampled_from([c.silence(who), *map(c.said, values)])


ANY_EVIDENCE = st.fixed_dictionaries(
    {
        "known": maybe("sync", None, c.known(), c.known(link=None), c.known(active=False), c.known(steve=None)),
        "steve": st.sampled_from(
            [
                c.silence("SteVe"),
                c.in_steve(None),
                c.in_steve(c.tag()),
                BLOCKED,
                c.in_steve(c.tag(expiry=c.ago(days=1))),
                c.in_steve(c.tag(parent_id_tag="META")),
                c.in_steve(c.tag(parent_id_tag="META"), c.blocked_tag(id_tag="META")),
                c.in_steve(c.tag(parent_id_tag="META"), c.tag(id_tag="META")),
                c.in_steve(c.tag(active_transaction_count=1, in_transaction=True)),
            ]
        ),
        "subscription": st.one_of(
            st.none(),
            maybe("Lago", None, c.subscription(), c.subscription(status="pending")),
        ),
        "sessions": maybe(
            "sync", [], [c.session()], [c.session(energy_wh=0, stop_reason="DeAuthorized")], [c.session(energy_wh=None)]
        ),
        "taps": maybe(
            "preauth",
            [],
            [c.tap()],
            [c.intercepted_tap()],
            [c.intercepted_tap(told="unknown", in_time=None)],
            [c.tap(tapped_at=c.ago(minutes=1))],
        ),
        "charger": st.one_of(st.none(), maybe("preauth", None, things.charger(), things.charger(connected=False))),
        "pairings": maybe("preauth", [], [c.pairing()]),
        "changes": maybe("audit", [], [c.entry("card.blocked", c.ago(hours=1), {})]),
    }
)
RESTS_ON = {
    "valid_in_steve": ("steve",),
    "linked": ("known",),
    "intercepted": ("taps",),
    "charger": ("sessions", "taps"),
}


@given(ANY_EVIDENCE)
def test_silence_is_never_a_yes_or_a_no_and_never_fine(parts: dict[str, object]) -> None:
    """Whatever else is known: a question whose owner was silent is unknown, and then the verdict is not "fine"."""
    evidence = c.evidence(**parts)
    made = diagnose(evidence)
    told = answers(evidence)
    for check, pieces in RESTS_ON.items():
        if any(getattr(parts[piece], "answered", True) is False for piece in pieces):
            assert told[check] == UNKNOWN
    if UNKNOWN in told.values():
        assert made.verdict.code != "fine"
    if made.verdict.code == "fine":
        assert told == {"valid_in_steve": YES, "linked": YES, "intercepted": NO, "charger": YES}
    if made.verdict.code in UNKNOWN_CODES:
        assert NO not in (told["valid_in_steve"], told["linked"], told["charger"]) or told["valid_in_steve"] == UNKNOWN


def test_every_verdict_stands_somehow() -> None:
    """No code is without a standing, so that nothing can be drawn as fine for want of one."""
    assert set(STANDING) == set(get_args(Code))
    assert [code for code, standing in STANDING.items() if standing == "ok"] == ["fine"]


@given(ANY_EVIDENCE)
def test_every_verdict_says_what_to_do(parts: dict[str, object]) -> None:
    """One sentence on how things stand, one on what to do, and who decided where somebody did."""
    verdict = diagnose(c.evidence(**parts)).verdict
    assert verdict.sentence
    assert verdict.remedy
    assert "None" not in verdict.sentence + verdict.remedy
    assert verdict.decided_by is not None or verdict.code in UNKNOWN_CODES
