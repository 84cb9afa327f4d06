"""Pairings: their states, and whether one may be armed now."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from shared.contracts.problem import Conflict, Problem

OPEN_STATES: Final = ("armed", "matched")
CODE_LENGTH: Final = 4
WINDOW_S: Final = 90


class AlreadyArmed(Conflict):
    code, title = "pairing_already_armed", "A scan is already waiting at this charger"


class NotCancellable(Conflict):
    code, title = "pairing_not_open", "This scan is not waiting any more"


class TooManyScans(Problem):
    code, status, title = "too_many_scans", 429, "Too many scans"


class InterceptionOff(Conflict):
    code, title = "interception_off", "Signing in by card is switched off"


class NotPresent(Problem):
    """The same words for a wrong secret, an unknown charger and a revoked kiosk: nothing to learn by trying."""

    code, status, title = "not_present", 403, "Nobody is known to be at this charger"


@dataclass(frozen=True, slots=True)
class Budgets:
    """How often scans may be armed within `per`, and how soon after the last one at a charger."""

    per: timedelta = timedelta(minutes=10)
    charger: int = 20
    kiosk: int = 60
    source: int = 10
    cooldown: timedelta = timedelta(seconds=5)

    @classmethod
    def of(cls, *, charger: int, kiosk: int, source: int, cooldown_s: float) -> "Budgets":
        return cls(charger=charger, kiosk=kiosk, source=source, cooldown=timedelta(seconds=cooldown_s))


@dataclass(frozen=True, slots=True)
class Recent:
    """What was armed lately at this charger, by this kiosk, from this source; and when a card was last scanned."""

    charger: int = 0
    kiosk: int = 0
    source: int = 0
    last_scan_at: datetime | None = None


def wait_s(recent: Recent, budgets: Budgets, now: datetime) -> float:
    """Seconds until a scan may be armed; 0 when it may now."""
    over = recent.charger >= budgets.charger or recent.kiosk >= budgets.kiosk or recent.source >= budgets.source
    if over:
        return budgets.per.total_seconds()
    if recent.last_scan_at is None:
        return 0.0
    return max(0.0, (recent.last_scan_at + budgets.cooldown - now).total_seconds())
