"""Pairings: their states, and whether one may be armed now."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from shared.contracts.problem import Conflict, Problem

OPEN_STATES: Final = ("armed", "matched")
CODE_LENGTH: Final = 4
WINDOW_S: Final = 90
MOST_PIN_TRIES: Final = 3  # for one scan: a guesser needs the card at the charger again for three more


class AlreadyArmed(Conflict):
    code, title = "pairing_already_armed", "A scan is already waiting at this charger"


class NotCancellable(Conflict):
    code, title = "pairing_not_open", "This scan is not waiting any more"


class TooManyScans(Problem):
    code, status, title = "too_many_scans", 429, "Too many scans"


class InterceptionOff(Conflict):
    code, title = "interception_off", "Signing in by card is switched off"


class ChargerUnable(Conflict):
    code, title = "charger_unable", "Cards cannot be taken at this charger"


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
    """When scans were armed lately at this charger, by this kiosk and from this source, newest first; and when a card
    was last scanned here. Of the charger's, only those of the same kind of presence count: weak ones must not use up
    what drivers who stand there may do. Of these, `own` are from this source, and there are `sources` of them with it.
    """

    charger: Sequence[datetime] = ()
    own: int = 0
    sources: int = 1
    kiosk: Sequence[datetime] = ()
    source: Sequence[datetime] = ()
    last_scan_at: datetime | None = None


def wait_s(recent: Recent, budgets: Budgets, now: datetime, *, weak: bool = False) -> float:
    """Seconds until a scan may be armed; 0 when it may now.

    A charger's budget for weak scans is shared: who used less than a fair part of it is let in also when it is used up.
    """
    fair = max(1, budgets.charger // recent.sources)
    free_at = [
        armed[budget - 1] + budgets.per
        for armed, budget in (
            (() if weak and recent.own < fair else recent.charger, budgets.charger),
            (recent.kiosk, budgets.kiosk),
            (recent.source, budgets.source),
        )
        if len(armed) >= budget
    ]
    if recent.last_scan_at is not None:
        free_at.append(recent.last_scan_at + budgets.cooldown)
    return max([0.0, *((at - now).total_seconds() for at in free_at)])
