"""Whether a charger did what it was told, as a table."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.preauth.evidence.rules import (
    BELONGS,
    Blocked,
    Judgement,
    is_unusual,
    judge,
    may_have_begun,
    needs_sight,
)

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


YEARS = timedelta(days=9000)


@given(off=st.timedeltas(-YEARS, YEARS), late=st.timedeltas(timedelta(), timedelta(seconds=100)))
def test_a_session_that_was_seen_running_followed_its_tap(off: timedelta, late: timedelta) -> None:
    """However far its station's clock is off: it may have begun when it was first seen."""
    times = may_have_begun(TOLD + off, TOLD + late, seen_running=True)
    assert any(TOLD <= at <= TOLD + BELONGS for at in times)


@given(ago=st.timedeltas(BELONGS, YEARS), late=st.timedeltas(timedelta(), timedelta(hours=24)))
def test_a_session_that_was_told_of_once_it_had_ended_followed_no_later_tap(ago: timedelta, late: timedelta) -> None:
    """A charger that was offline, and whose clock is right, tells what it did before the tap: that began no session."""
    times = may_have_begun(TOLD - ago, TOLD + late, seen_running=False)
    assert not any(TOLD <= at <= TOLD + BELONGS for at in times)


@given(after_s=st.floats(0, 120), late=st.timedeltas(timedelta(), timedelta(hours=23)), running=st.booleans())
def test_a_session_that_is_known_late_followed_its_tap(after_s: float, late: timedelta, running: bool) -> None:  # noqa: FBT001
    """Sync was away: where the station's clock is right, it says when the session began."""
    by_station = after(after_s)
    assert by_station in may_have_begun(by_station, by_station + late, seen_running=running)


BEFORE = replace(OPEN, session_stopped_at=after(60), energy_wh=900, of_before=True)


def test_a_session_that_may_have_been_before_accuses_nobody_and_praises_nobody() -> None:
    """Nor does it say so before another one could have been told of, or ask how far sync sees."""
    assert judge(BEFORE, after(170), known_until=after(170)) is None
    assert judge(BEFORE, after(180), known_until=after(180)) == Judgement(
        "explained", "the session that was told of may have begun before"
    )
    assert not needs_sight(BEFORE, after(3600))


@pytest.mark.parametrize(
    ("stopped", "energy_wh", "outcome"), [(None, None, None), (after(30), 900, "ignored"), (after(90), 0, "ignored")]
)
def test_a_session_that_its_station_dates_elsewhere_is_judged_by_its_end(
    stopped: datetime | None, energy_wh: int | None, outcome: str | None
) -> None:
    """It may have begun while its charger was offline: while it runs it accuses nobody, however long."""
    known = replace(OPEN, dated_elsewhere=True, session_stopped_at=stopped, energy_wh=energy_wh)
    judgement = judge(known, after(3600), known_until=after(3600))
    assert (judgement.outcome if judgement else None) == outcome
    assert not needs_sight(known, after(3600))


@pytest.mark.parametrize(
    ("scans", "usual", "unusual"), [(5, 0.0, False), (6, 0.0, True), (20, 5.0, False), (21, 5.0, True)]
)
def test_a_rate_is_unusual_by_far_more_than_usual(scans: int, usual: float, unusual: bool) -> None:  # noqa: FBT001
    """Some scans at a charger that had none are no alarm; many times the usual number are."""
    assert is_unusual(scans, usual) is unusual
