"""What came of a tap, in the words that the console and the command line share."""

from datetime import timedelta

import pytest

from services.admin_api import aftermath
from services.admin_api.console.drawing import events
from services.admin_api.console.view.timeline import of_gap, of_tap
from tests.unit.services.admin_api.diagnosis import cases


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, ""),
        ({"session_outcome": "none"}, "No session began."),
        ({"session_outcome": "began", "session": "steve:7"}, "Session steve:7 began."),
        ({"override_outcome": "ignored", "told": "blocked"}, "The charger ignored that and charged."),
    ],
)
def test_a_tap_ends_with_what_came_of_it(fields: dict[str, str], sentence: str) -> None:
    """What the charger did stands behind what it was told; where nobody knows it, nothing is said."""
    view = cases.tap(**fields)
    assert aftermath.of_tap(view.session, view.session_outcome, view.override_outcome) == sentence
    assert of_tap(events.tap(view)).detail.endswith(sentence)


def test_a_gap_in_the_journal_is_a_moment_of_unknown_taps() -> None:
    """The timeline says that taps are missing, how many, and that nobody knows whose."""
    moment = of_gap(cases.ago(hours=1) - timedelta(minutes=1), cases.ago(hours=1), aftermath.of_gap(2, "Full."))
    assert moment.title.startswith("Taps are missing since")
    assert moment.detail == "2 taps in no journal. Full. Whether this card was among them is not known."
