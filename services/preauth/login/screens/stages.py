"""What a scan's page shows at each stage and for each refusal. Pure."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

State = Literal["neutral", "ok", "attention", "wrong", "unknown"]


class Screen(StrEnum):
    """One thing a screen. The words of each stand under `scan.<name>`."""

    READY = "ready"
    WAIT = "wait"
    WORKING = "working"
    DONE = "done"
    PIN = "pin"
    PIN_WRONG = "pin_wrong"
    PIN_LOCKED = "pin_locked"
    PINS_SPENT = "pins_spent"
    ANOTHER_CARD = "another_card"
    CHARGES_HERE = "charges_here"
    EXPIRED = "expired"
    UNFINISHED = "unfinished"
    CANCELLED = "cancelled"
    VOID = "void"
    REFUSED = "refused"
    UNABLE = "unable"
    BUSY = "busy"
    GAVE_WAY = "gave_way"
    TOO_MANY = "too_many"
    OFF = "off"
    NOT_PRESENT = "not_present"
    SCREEN_OFF = "screen_off"
    OVER = "over"
    FAILED = "failed"


Doing = Literal["start", "again", "over", "cancel"]


@dataclass(frozen=True, slots=True)
class Look:
    """`over`: nothing follows by itself, so a kiosk returns to its chargers. `wait`: may be tried again only later."""

    state: State = "neutral"
    doing: tuple[Doing, ...] = ()
    over: bool = False
    wait: bool = False


AGAIN: Final[tuple[Doing, ...]] = ("again",)

LOOKS: Final[dict[Screen, Look]] = {
    Screen.READY: Look(doing=("start",)),
    Screen.WAIT: Look(doing=("cancel",)),
    Screen.WORKING: Look("ok"),
    Screen.DONE: Look("ok"),
    Screen.PIN: Look(doing=("over",)),
    Screen.PIN_WRONG: Look("attention", doing=("over",)),
    Screen.PIN_LOCKED: Look("wrong", over=True),
    Screen.PINS_SPENT: Look("wrong", AGAIN, over=True),
    Screen.ANOTHER_CARD: Look("attention", doing=("cancel",)),
    Screen.CHARGES_HERE: Look("attention", doing=("cancel",)),
    Screen.EXPIRED: Look("attention", AGAIN, over=True),
    Screen.UNFINISHED: Look("attention", AGAIN, over=True),
    Screen.CANCELLED: Look("neutral", AGAIN, over=True),
    Screen.VOID: Look("attention", AGAIN, over=True),
    Screen.REFUSED: Look("wrong", AGAIN, over=True),
    Screen.UNABLE: Look("attention", over=True),
    Screen.BUSY: Look("attention", AGAIN, over=True),
    Screen.GAVE_WAY: Look("attention", AGAIN, over=True),
    Screen.TOO_MANY: Look("attention", AGAIN, over=True, wait=True),
    Screen.OFF: Look("attention", over=True),
    Screen.NOT_PRESENT: Look("attention", over=True),
    Screen.SCREEN_OFF: Look("attention", over=True),
    Screen.OVER: Look("attention", AGAIN, over=True),
    Screen.FAILED: Look("unknown", AGAIN, over=True),
}

OF_STATE: Final[dict[str, Screen]] = {
    "armed": Screen.WAIT,
    "matched": Screen.WORKING,
    "intercepted": Screen.WORKING,
    "void": Screen.VOID,
    "cancelled": Screen.CANCELLED,
    "expired": Screen.EXPIRED,
}
"""A pairing's state, as its stream tells it. One that waits while other cards pass by shows `OF_OTHER_CARD`."""

OF_OTHER_CARD: Final[dict[str, Screen]] = {
    "another_card": Screen.ANOTHER_CARD,
    "charges_here": Screen.CHARGES_HERE,
}

WAITING: Final = frozenset({Screen.WAIT, *OF_OTHER_CARD.values()})
"""With the code and the time that is left."""

PINS: Final = frozenset({Screen.PIN, Screen.PIN_WRONG})
"""With a field for the card's PIN."""


def of_pairing(state: str, result: str | None, other_card: str | None) -> Screen:
    """The screen of a scan that stands so. What it came to says more than that it ended."""
    screen = OF_RESULT.get(result or "") or OF_STATE.get(state, Screen.OVER)
    return OF_OTHER_CARD.get(other_card or "", screen) if screen is Screen.WAIT else screen


OF_RESULT: Final[dict[str, Screen]] = {
    "refused": Screen.REFUSED,
    "not_completed": Screen.UNFINISHED,
    "gave_way": Screen.GAVE_WAY,
    "kiosk_revoked": Screen.SCREEN_OFF,
    "qr_rotated": Screen.NOT_PRESENT,
    "pins_spent": Screen.PINS_SPENT,
    "pin_locked": Screen.PIN_LOCKED,
}
"""What a pairing came to, where that was no login; it says more than its state."""

OF_PROBLEM: Final[dict[str, Screen]] = {
    "pairing_already_armed": Screen.BUSY,
    "too_many_scans": Screen.TOO_MANY,
    "too_many_waiting": Screen.TOO_MANY,
    "not_present": Screen.NOT_PRESENT,
    "interception_off": Screen.OFF,
    "charger_unable": Screen.UNABLE,
    "no_such_scan": Screen.OVER,
    "scan_over": Screen.OVER,
    "already_used": Screen.OVER,
    "not_scanned": Screen.WAIT,
    "login_refused": Screen.REFUSED,
    "pin_needed": Screen.PIN,
    "pin_wrong": Screen.PIN_WRONG,
    "pin_locked": Screen.PIN_LOCKED,
    "pins_spent": Screen.PINS_SPENT,
}
"""The `code` of a refusal; any other is `failed`."""
