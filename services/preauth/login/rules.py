"""What a scan may turn into, and what its page is told."""

from datetime import datetime, timedelta
from typing import Final, Literal

from shared.contracts.problem import Conflict, NotFound, Problem
from shared.contracts.requests.sync import CardView

Stage = Literal["armed", "matched", "intercepted", "void", "cancelled", "expired", "consumed"]

# The order in which a page can learn of them; also the event ids of its stream, so that a page that reconnects says
# how far it got (Last-Event-ID).
STAGE: Final[dict[str, int]] = {
    "armed": 1,
    "matched": 2,
    "intercepted": 3,
    "void": 4,
    "cancelled": 4,
    "expired": 4,
    "consumed": 4,
}
LAST_STAGE: Final = 4

# After the match, the page has this long to complete the login: a page that reconnects needs some seconds, and a
# person with a PIN half a minute.
COMPLETE_WITHIN: Final = timedelta(seconds=120)
# An answer that got lost on its way may be asked for again by the same browser.
ANSWER_AGAIN_WITHIN: Final = timedelta(seconds=30)


class NoSuchScan(NotFound):
    """Also for somebody else's: whoever guesses or copies an id learns nothing."""

    code, title = "no_such_scan", "There is no such scan"


class NotScanned(Conflict):
    code, title = "not_scanned", "No card was scanned yet"


class AlreadyUsed(Conflict):
    code, title = "already_used", "This scan was used already"


class ScanOver(Conflict):
    code, title = "scan_over", "This scan is over"


class LoginRefused(Problem):
    """One and the same for every true reason: known and unknown cards cannot be told apart."""

    code, status, title = "login_refused", 403, "This card cannot be used here"


class PinNeeded(Problem):
    code, status, title = "pin_needed", 401, "Enter the PIN of your card"


class PinLocked(Problem):
    code, status, title = "pin_locked", 403, "Too many wrong PINs"


class PinWrong(Problem):
    code, status, title = "pin_wrong", 403, "That was not the PIN"


REFUSED: Final = "You cannot log in with this card now. Ask whoever gave it to you."


def why_not(card: CardView | None, now: datetime) -> str | None:
    """Why this card may not log in, or None when it may. None as a card: nobody knows it."""
    if card is None or card.steve is None:
        return "unknown_card"
    if not card.active:
        return "inactive"
    if card.steve.blocked:
        return "blocked"
    if card.steve.expiry is not None and card.steve.expiry <= now:
        return "expired"
    return None
