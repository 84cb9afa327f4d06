"""What a scan may turn into, and what its page is told."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, Literal

from services.preauth.decision.rules import Reason
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

Progress = tuple[int, int]
"""How far a page got: the stage, and how many other cards it was told of."""

_EVENT_ID: Final = re.compile(r"([1-4])(?:\.([0-9]{1,4}))?", re.ASCII)


def event_id(progress: Progress) -> str:
    stage, others = progress
    return f"{stage}.{others}" if others else str(stage)


def progress_of(last_event_id: str) -> Progress:
    """What a page knows already, from its Last-Event-ID; nothing, where that is no id of ours."""
    found = _EVENT_ID.fullmatch(last_event_id)
    return (int(found[1]), int(found[2] or 0)) if found else (0, 0)


OtherCard = Literal["another_card", "charges_here", "came_later"]
"""What a page is told of the latest card that was held to its charger and was not taken for it."""

UNTAKEN: Final = (
    Reason.WEAK_PRESENCE,
    Reason.WEAK_SCAN_UNFINISHED,
    Reason.STOPS_OWN_SESSION,
    Reason.STOPS_GROUP_SESSION,
    Reason.OTHER_CARD_MATCHED,
)
"""Why a card passed by a scan, where its page says so. It is the same whether anybody knows the card."""


def other_card(reasons: Sequence[str], *, weak: bool) -> OtherCard | None:
    """What to say of cards that passed by, in the order in which they came. From afar, where presence is weak, nobody
    learns which of them charges here.
    """
    if not reasons:
        return None
    if reasons[-1] == Reason.OTHER_CARD_MATCHED:
        return "came_later"
    return "another_card" if weak else "charges_here"


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


class NotAtKiosk(Conflict):
    code, title = "not_at_kiosk", "This sign-in did not begin at a kiosk"


class PinsSpent(Problem):
    code, status, title = "pins_spent", 403, "Too many wrong PINs for one scan"


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
