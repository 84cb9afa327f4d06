from datetime import UTC, datetime, timedelta

import pytest

from deploy.local.doctor.clock import rules
from deploy.local.doctor.clock.rules import Reading

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def reading(ahead_s: float, *, took_s: float = 0.2, grain_s: float = 0.0) -> Reading:
    after = NOON + timedelta(seconds=took_s)
    return Reading(NOON + timedelta(seconds=took_s / 2 + ahead_s), NOON, after, grain_s)


@pytest.mark.parametrize(
    ("check", "ahead_s", "answer", "words"),
    [
        ("clock.steve", 0.0, "yes", "They agree"),
        ("clock.steve", 0.05, "yes", "They agree"),
        ("clock.steve", 12.0, "yes", "11.9 s ahead of"),
        ("clock.steve", -12.0, "yes", "behind"),
        ("clock.steve", 95.0, "no", "95 s ahead of this machine's. From 300 s on, every hook call is stale"),
        ("clock.steve", -300.0, "no", "From 300 s on"),
        ("clock.steve", -301.0, "no", "Every hook call is stale and no tap is intercepted (300 s are allowed)"),
        ("clock.lago", 400.0, "no", "Lago's clock is 400 s ahead"),
        ("clock.database", -40.0, "no", "The database's clock is 40 s behind"),
    ],
)
def test_how_far_clocks_are_apart(check: str, ahead_s: float, answer: str, words: str) -> None:
    """A drift is a finding from half a minute on, and the bound of the hook is named."""
    found = rules.judge(check, reading(ahead_s), bound_s=300)
    assert found.answer == answer
    assert words in found.why


def test_the_bound_is_the_setting() -> None:
    """A shorter EXPRESSYNC_PREAUTH_FRESH_S makes hook calls stale earlier."""
    assert "Every hook call is stale" in rules.judge("clock.steve", reading(90), bound_s=60).why


def test_a_slow_answer_and_a_coarse_clock_are_not_taken_for_a_drift() -> None:
    """What the measurement cannot tell is not held against the clock."""
    assert rules.judge("clock.lago", reading(31, took_s=4), bound_s=300).answer == "yes"
    assert rules.judge("clock.lago", reading(-0.9, grain_s=1.0), bound_s=300).why.startswith("They agree")


def test_a_clock_that_cannot_be_read_is_unknown() -> None:
    """No reading is never an agreement."""
    assert rules.judge("clock.lago", None, bound_s=300).answer == "unknown"
