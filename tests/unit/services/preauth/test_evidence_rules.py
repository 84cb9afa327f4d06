"""Whether a charger did what it was told, as a table."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.preauth.evidence.rules import Blocked, began_at, is_unusual, judge, needs_sight

TOLD = datetime(2026, 5, 1, 9, 30, tzinfo=UTC)
NOTHING = Blocked(told_at=TOLD, let_through_later=False, remote_start=False)


def after(seconds: float) -> datetime:
    return TOLD + timedelta(seconds=seconds)


OPEN = replace(NOTHING, session_started_at=after(2))


@pytest.mark.parametrize(
    ("known", "seconds", "outcome"),
    [
        (NOTHING, 119, None),
        (NOTHING, 120, "honoured"),
        # SteVe writes a transaction for a Blocked start too: the row alone proves nothing.
        (OPEN, 30, None),
        (OPEN, 62, "ignored"),
        (replace(OPEN, session_stopped_at=after(4), energy_wh=0), 30, None),
        (replace(OPEN, session_stopped_at=after(4), energy_wh=0), 200, "honoured"),
        (replace(OPEN, session_stopped_at=after(4)), 200, "honoured"),
        (replace(OPEN, session_stopped_at=after(4), energy_wh=1), 5, "ignored"),
        (replace(OPEN, session_stopped_at=after(70), energy_wh=0), 80, "ignored"),
        (replace(OPEN, let_through_later=True, energy_wh=900), 300, "explained"),
        (replace(OPEN, remote_start=True), 300, "explained"),
        (replace(NOTHING, remote_start=True), 300, "honoured"),
    ],
)
def test_a_charger_is_judged_by_evidence(known: Blocked, seconds: float, outcome: str | None) -> None:
    """Energy, or a session that stays open, proves that it ignored the Blocked, unless something else explains it."""
    judgement = judge(known, after(seconds), known_until=after(seconds))
    assert (judgement.outcome if judgement else None) == outcome


@pytest.mark.parametrize(("known_until", "outcome"), [(None, None), (after(119), None), (after(120), "honoured")])
def test_silence_says_something_only_of_a_time_that_is_known(known_until: datetime | None, outcome: str | None) -> None:
    """As long as sessions of the tap's time may not be known, that there is none proves nothing."""
    judgement = judge(NOTHING, after(3600), known_until)
    assert (judgement.outcome if judgement else None) == outcome


@pytest.mark.parametrize(
    ("known_until", "stopped", "outcome"),
    [(None, None, None), (after(61), None, None), (after(62), None, "ignored"), (None, after(62), "ignored")],
)
def test_a_session_is_still_open_only_as_far_as_its_end_would_be_known(
    known_until: datetime | None, stopped: datetime | None, outcome: str | None
) -> None:
    """As long as its end may not be known, that a session has none proves nothing."""
    known = replace(OPEN, session_stopped_at=stopped)
    assert needs_sight(known, after(3600)) is (stopped is None)
    judgement = judge(known, after(3600), known_until)
    assert (judgement.outcome if judgement else None) == outcome


@pytest.mark.parametrize(
    ("by_station", "began"),
    [
        (after(-5), after(-5)),
        (after(-23 * 3600), after(-23 * 3600)),
        (datetime(2000, 1, 1, tzinfo=UTC), TOLD),
        (after(7200), TOLD),
    ],
)
def test_a_clock_that_cannot_be_right_is_not_believed(by_station: datetime, began: datetime) -> None:
    """A session may be known late, and the station says when it was; a time out of all reach is when it was seen."""
    assert began_at(by_station, TOLD) == began


@pytest.mark.parametrize(
    ("scans", "usual", "unusual"), [(5, 0.0, False), (6, 0.0, True), (20, 5.0, False), (21, 5.0, True)]
)
def test_a_rate_is_unusual_by_far_more_than_usual(scans: int, usual: float, unusual: bool) -> None:  # noqa: FBT001
    """Some scans at a charger that had none are no alarm; many times the usual number are."""
    assert is_unusual(scans, usual) is unusual
