"""Whether the tap that is asked about may be one of those that the journal lost."""

from datetime import datetime, timedelta

from services.admin_api.answers import Answered
from services.admin_api.diagnosis.model import Evidence
from shared.contracts.requests.preauth import GapView


def gap_in_question(evidence: Evidence) -> GapView | None:
    """The gap that may hold the tap in question: one after all that is known of the card, or nearer to `at`.

    Whose taps a gap held, nobody knows. A session since then shows that it was not the last one.
    """
    taps = evidence.taps.value if isinstance(evidence.taps, Answered) else []
    tapped_at = taps[0].tapped_at if taps else None
    if evidence.at is not None:
        at = evidence.at
        nearest = min(evidence.gaps, key=lambda gap: _distance(gap, at), default=None)
        if nearest is None or (tapped_at is not None and abs(tapped_at - at) <= _distance(nearest, at)):
            return None
        return nearest
    sessions = evidence.sessions.value if isinstance(evidence.sessions, Answered) else []
    known = [*([tapped_at] if tapped_at else []), *(session.started_at for session in sessions)]
    newest = max(evidence.gaps, key=lambda gap: gap.last_at, default=None)
    if newest is None or (known and max(known) >= newest.last_at):
        return None
    return newest


def _distance(gap: GapView, at: datetime) -> timedelta:
    return max(gap.first_at - at, at - gap.last_at, timedelta(0))
