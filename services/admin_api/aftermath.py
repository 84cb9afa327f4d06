"""What came of a tap, and what is missing between taps, in words: for the console and for the command line."""

from services.admin_api.console import format as fmt
from shared.contracts.requests.preauth import OverrideOutcome, SessionOutcome

_OVERRIDE = {
    "honoured": "The charger did as it was told.",
    "ignored": "The charger ignored that and charged.",
    "explained": "A session began later, for which there is a reason.",
}


def of_tap(session: str | None, session_outcome: SessionOutcome, override_outcome: OverrideOutcome | None) -> str:
    """A sentence, or nothing where nothing is known (yet)."""
    if override_outcome is not None:
        return _OVERRIDE[override_outcome]
    if session_outcome == "began":
        return f"Session {session} began."
    return "No session began." if session_outcome == "none" else ""


def of_gap(taps: int, why: str) -> str:
    return f"{fmt.count(taps, 'tap')} in no journal. {why}"
