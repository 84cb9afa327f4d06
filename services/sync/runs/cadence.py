"""How often SteVe is looked at: by what happens there, slow to calm down and quick to wake up. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from shared.contracts.requests.sync_work import CadenceMode

# News this recent, or a car that charges: active.
ACTIVE_FOR: Final = timedelta(minutes=10)
# No news for this long: dormant. In between: idle.
DORMANT_AFTER: Final = timedelta(hours=24)
# A mode is kept this long before a calmer one is taken.
CALM_DOWN_AFTER: Final = timedelta(minutes=2)
# No look is due later than so long from now: a session is seen within 30 s, these and the look itself.
LONGEST_S: Final = 20
_CALMER: Final[tuple[CadenceMode, ...]] = ("active", "idle", "dormant")


@dataclass(frozen=True, slots=True)
class Intervals:
    """Seconds between two looks."""

    active: float
    idle: float
    dormant: float

    def of(self, mode: CadenceMode) -> float:
        return {"active": self.active, "idle": self.idle, "dormant": self.dormant}[mode]


def next_mode(
    mode: CadenceMode, since: datetime, *, news_at: datetime | None, charging: bool, now: datetime
) -> CadenceMode:
    """The mode from now on. Livelier at once; calmer one step at a time, after a while."""
    wanted = _wanted(news_at, charging, now)
    if _CALMER.index(wanted) <= _CALMER.index(mode):
        return wanted
    if now - since < CALM_DOWN_AFTER:
        return mode
    return _CALMER[_CALMER.index(mode) + 1]


def _wanted(news_at: datetime | None, charging: bool, now: datetime) -> CadenceMode:  # noqa: FBT001 - a fact
    if charging or (news_at is not None and now - news_at < ACTIVE_FOR):
        return "active"
    if news_at is not None and now - news_at < DORMANT_AFTER:
        return "idle"
    return "dormant"


def why(mode: CadenceMode, news_at: datetime | None) -> str:
    """The mode's reason as a sentence."""
    if news_at is None:
        return "No session has been seen yet."
    at = f"{news_at:%Y-%m-%d %H:%M} UTC"
    return {
        "active": f"Something charges, or did lately; the last news came at {at}.",
        "idle": f"Nothing charges; the last news came at {at}.",
        "dormant": f"There has been no news since {at}.",
    }[mode]
