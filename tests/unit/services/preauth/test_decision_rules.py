"""The decision, as a table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.preauth.decision.rules import (
    FACT_NAMES,
    INTERCEPTING,
    RULES,
    SENTENCES,
    Facts,
    Reason,
    decide,
    outcome_of,
)

ARMED = Facts()


def facts(*names: str) -> Facts:
    return Facts(**dict.fromkeys(names, True))


@pytest.mark.parametrize(
    ("known", "reason", "outcome"),
    [
        (ARMED, Reason.MATCHED, "intercept"),
        (facts("unpaired"), Reason.NOTHING_ARMED, "pass"),
        (facts("unpaired", "is_start", "remote_start_pending"), Reason.NOTHING_ARMED, "pass"),
        (facts("stale"), Reason.STALE, "pass"),
        (facts("switched_off"), Reason.SWITCHED_OFF, "pass"),
        (facts("not_answerable", "is_start"), Reason.NOT_ANSWERED_HERE, "pass"),
        (facts("remote_start_pending"), Reason.REMOTE_START_PENDING, "pass"),
        (facts("taken", "same_card", "repeats"), Reason.REPEATED, "intercept"),
        (facts("taken", "same_card", "repeats", "is_start"), Reason.REPEATED, "intercept"),
        (facts("taken", "same_card", "repeats", "switched_off"), Reason.SWITCHED_OFF, "pass"),
        (facts("taken", "same_card", "void"), Reason.SCAN_VOID, "pass"),
        (facts("taken", "void"), Reason.SCAN_VOID, "pass"),
        (facts("taken", "same_card"), Reason.ALREADY_SCANNED, "pass"),
        (facts("taken"), Reason.OTHER_CARD_MATCHED, "pass"),
        (facts("cancelled"), Reason.CANCELLED, "pass"),
        (facts("expired"), Reason.EXPIRED, "pass"),
        (facts("other_connector"), Reason.OTHER_CONNECTOR, "pass"),
        (facts("own_session_here", "group_session_here"), Reason.STOPS_OWN_SESSION, "pass"),
        (facts("group_session_here"), Reason.STOPS_GROUP_SESSION, "pass"),
        (facts("is_start", "authorized_before"), Reason.START_FOLLOWS_AUTHORIZE, "pass"),
        (facts("is_start"), Reason.START_WITHOUT_AUTHORIZE, "pass"),
        (facts("authorized_before"), Reason.MATCHED, "intercept"),
        (facts("untrusted", "unfinished"), Reason.WEAK_PRESENCE, "pass"),
        (facts("unfinished"), Reason.WEAK_SCAN_UNFINISHED, "pass"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_each_situation_has_one_reason(known: Facts, reason: Reason, outcome: str) -> None:
    """Each situation is decided for one reason, and the reason says what happens to the tap."""
    rule = decide(known)
    assert (rule.reason, rule.outcome, outcome_of(reason)) == (reason, outcome, outcome)


@given(st.builds(Facts, **{name: st.booleans() for name in FACT_NAMES}))
def test_nothing_is_intercepted_without_an_open_scan(known: Facts) -> None:
    """Whatever else is known: with no scan, a scan that is over, or the switch off, nobody is intercepted."""
    rule = decide(known)
    waits = not (
        known.taken or known.cancelled or known.expired or known.other_connector or known.untrusted or known.unfinished
    )
    if rule.outcome == "intercept":
        assert not any((known.unpaired, known.switched_off, known.stale, known.remote_start_pending))
        assert known.repeats or (waits and not known.is_start and not known.own_session_here)


def test_the_set_of_reasons_is_closed() -> None:
    """Each rule's facts exist, each reason has a sentence, and only the two that mean a scan intercept."""
    assert {name for rule in RULES for name in rule.when} <= set(FACT_NAMES)
    assert set(SENTENCES) == set(Reason)
    assert {Reason.MATCHED, Reason.REPEATED} == INTERCEPTING
