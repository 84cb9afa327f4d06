"""The verdicts by name, and how each stands. Light: the command line reads it too."""

from collections.abc import Mapping
from typing import Final, Literal

Code = Literal[
    "fine",
    "not_in_steve",
    "blocked",
    "expired",
    "parent_blocked",
    "parent_expired",
    "limit_reached",
    "intercepted",
    "interception_ignored",
    "steve_refused",
    "charger_refused",
    "charger_offline",
    "charger_faulted",
    "not_linked",
    "link_not_valid",
    "no_active_subscription",
    "other_customers_subscription",
    "not_active",
    "steve_silent",
    "charger_not_known",
    "unknown",
]
Standing = Literal["ok", "attention", "wrong", "unknown"]

STANDING: Final[Mapping[str, Standing]] = {
    "fine": "ok",
    "not_in_steve": "wrong",
    "blocked": "wrong",
    "expired": "wrong",
    "parent_blocked": "attention",
    "parent_expired": "attention",
    "limit_reached": "attention",
    "intercepted": "attention",
    "interception_ignored": "wrong",
    "steve_refused": "wrong",
    "charger_refused": "wrong",
    "charger_offline": "wrong",
    "charger_faulted": "wrong",
    "not_linked": "attention",
    "link_not_valid": "attention",
    "no_active_subscription": "attention",
    "other_customers_subscription": "attention",
    "not_active": "attention",
    "steve_silent": "unknown",
    "charger_not_known": "unknown",
    "unknown": "unknown",
}
"""wrong: it does not charge; attention: it charges, or did not on purpose; unknown: nothing found, not all known."""
UNKNOWN_CODES: Final = frozenset(code for code, standing in STANDING.items() if standing == "unknown")
UNASKED_CODES: Final = UNKNOWN_CODES - {"charger_not_known"}
"""Somebody did not answer. What a charger did may not be known although all did."""
