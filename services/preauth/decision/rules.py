"""May this tap charge, or is it taken as a scan? The rules, as one ordered list.

The list is evaluated here in Python and, for all waiting taps at once, inside the journal's one SQL statement, which
is generated from it (`store`): the order and the conditions are written once. A fact's SQL is the store's business.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Final, Literal

Outcome = Literal["intercept", "pass"]


class Reason(StrEnum):
    """Why a tap was decided as it was. A closed set: it is stored, counted, and explained in words."""

    MATCHED = "matched"
    REPEATED = "repeated"

    STALE = "stale"
    SWITCHED_OFF = "switched_off"
    NOT_ANSWERED_HERE = "not_answered_here"
    REMOTE_START_PENDING = "remote_start_pending"
    NOTHING_ARMED = "nothing_armed"
    SCAN_VOID = "scan_void"
    ALREADY_SCANNED = "already_scanned"
    OTHER_CARD_MATCHED = "other_card_matched"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    OTHER_CONNECTOR = "other_connector"
    STOPS_OWN_SESSION = "stops_own_session"
    STOPS_GROUP_SESSION = "stops_group_session"
    START_FOLLOWS_AUTHORIZE = "start_follows_authorize"
    START_WITHOUT_AUTHORIZE = "start_without_authorize"
    WEAK_PRESENCE = "weak_presence"
    WEAK_SCAN_UNFINISHED = "weak_scan_unfinished"

    # Not decided by a rule: there was nobody to ask in time, so the tap passed.
    DATABASE_SLOW = "database_slow"
    DATABASE_AWAY = "database_away"
    NOT_DECIDED = "not_decided"


SENTENCES: Final[dict[Reason, str]] = {
    Reason.MATCHED: "A scan was armed at this charger, and this was the card it waited for.",
    Reason.REPEATED: "The same card was just taken as a scan here, so it is answered the same again.",
    Reason.STALE: "The call's time is too far from ours, so it could be a replay.",
    Reason.SWITCHED_OFF: "Interception is switched off here.",
    Reason.NOT_ANSWERED_HERE: "A start that passes the gateway always goes to SteVe.",
    Reason.REMOTE_START_PENDING: "A remote start was under way at this charger; this is its card, not a tap.",
    Reason.NOTHING_ARMED: "No scan was armed at this charger.",
    Reason.SCAN_VOID: "The scan at this charger took no card: the one it matched was not told Blocked in time.",
    Reason.ALREADY_SCANNED: "This card was already taken as a scan; now it charges.",
    Reason.OTHER_CARD_MATCHED: "The scan armed at this charger had already taken another card.",
    Reason.CANCELLED: "The scan at this charger had been cancelled.",
    Reason.EXPIRED: "The scan at this charger had run out.",
    Reason.OTHER_CONNECTOR: "The scan was armed for another connector.",
    Reason.STOPS_OWN_SESSION: "This card is charging here: the tap means stop.",
    Reason.STOPS_GROUP_SESSION: "A card of the same group is charging here: the tap may mean stop.",
    Reason.START_FOLLOWS_AUTHORIZE: "The card had been let through at Authorize before; its start follows that.",
    Reason.START_WITHOUT_AUTHORIZE: "No Authorize let the card through: a remote start, or the charger decides alone.",
    Reason.WEAK_PRESENCE: "The scan was armed with a QR code, and this card has neither a PIN nor that browser.",
    Reason.WEAK_SCAN_UNFINISHED: "The scan was armed with a QR code, and the last one here that took this card came to"
    " nothing: it may be a photo of the code.",
    Reason.DATABASE_SLOW: "The database did not answer within the deadline, so the tap passed.",
    Reason.DATABASE_AWAY: "The database did not answer before, so the tap passed at once.",
    Reason.NOT_DECIDED: "The decision failed inside ExpresSync, so the tap passed.",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about one tap at the moment it is decided.

    Pairing facts are of the pairing at the charger that the tap repeats, or else of the latest one.
    """

    stale: bool = False
    switched_off: bool = False
    not_answerable: bool = False
    """A StartTransaction on its way through the gateway, which must reach SteVe (facts: SteVe, pitfall 3)."""
    remote_start_pending: bool = False
    unpaired: bool = False
    """No pairing at this charger, also none that ended within the last minute."""
    taken: bool = False
    """The pairing has been matched by a card already."""
    void: bool = False
    """... which was not told Blocked in time, so that nothing was taken."""
    same_card: bool = False
    """... by this card."""
    repeats: bool = False
    """... and Blocked was told in time, a few seconds ago, inside the pairing's window."""
    cancelled: bool = False
    expired: bool = False
    other_connector: bool = False
    own_session_here: bool = False
    group_session_here: bool = False
    is_start: bool = False
    authorized_before: bool = False
    """This card's Authorize at this charger was let through shortly before."""
    untrusted: bool = False
    """The pairing's presence is weak, and this card has no PIN and did not bind that browser."""
    unfinished: bool = False
    """The pairing's presence is weak, this card did not bind that browser, and such a scan of it here came to nothing
    some minutes ago."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Applies when all the facts named in `when` hold."""

    reason: Reason
    when: tuple[str, ...]
    outcome: Outcome = "pass"


RULES: Final[Sequence[Rule]] = (
    Rule(Reason.STALE, ("stale",)),
    Rule(Reason.SWITCHED_OFF, ("switched_off",)),
    Rule(Reason.NOT_ANSWERED_HERE, ("not_answerable",)),
    Rule(Reason.NOTHING_ARMED, ("unpaired",)),
    Rule(Reason.REMOTE_START_PENDING, ("remote_start_pending",)),
    Rule(Reason.REPEATED, ("repeats",), "intercept"),
    Rule(Reason.SCAN_VOID, ("void",)),
    Rule(Reason.ALREADY_SCANNED, ("taken", "same_card")),
    Rule(Reason.OTHER_CARD_MATCHED, ("taken",)),
    Rule(Reason.CANCELLED, ("cancelled",)),
    Rule(Reason.EXPIRED, ("expired",)),
    Rule(Reason.OTHER_CONNECTOR, ("other_connector",)),
    Rule(Reason.STOPS_OWN_SESSION, ("own_session_here",)),
    Rule(Reason.STOPS_GROUP_SESSION, ("group_session_here",)),
    Rule(Reason.START_FOLLOWS_AUTHORIZE, ("is_start", "authorized_before")),
    Rule(Reason.START_WITHOUT_AUTHORIZE, ("is_start",)),
    Rule(Reason.WEAK_PRESENCE, ("untrusted",)),
    Rule(Reason.WEAK_SCAN_UNFINISHED, ("unfinished",)),
    Rule(Reason.MATCHED, (), "intercept"),
)
"""The first rule that applies decides; the last one applies always."""

INTERCEPTING: Final = frozenset(rule.reason for rule in RULES if rule.outcome == "intercept")
FACT_NAMES: Final = tuple(field.name for field in fields(Facts))


def decide(facts: Facts) -> Rule:
    """The rule that decides a tap with these facts."""
    return next(rule for rule in RULES if all(getattr(facts, name) for name in rule.when))


def outcome_of(reason: str) -> Outcome:
    """What a stored reason means for the tap."""
    return "intercept" if reason in INTERCEPTING else "pass"
