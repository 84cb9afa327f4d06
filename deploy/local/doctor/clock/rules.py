"""What is said about clocks. Pure."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from deploy.local.doctor.result import Result, no, unknown, yes

# A clock that is kept by NTP is within a second; beyond this one nobody keeps it.
DRIFT_S: Final = 30.0
WHOSE: Final = {"clock.steve": "SteVe's", "clock.lago": "Lago's", "clock.database": "The database's"}


@dataclass(frozen=True, slots=True)
class Reading:
    """Another clock, and ours before and after it was asked. `grain_s`: it shows no less than so many seconds."""

    theirs: datetime
    before: datetime
    after: datetime
    grain_s: float

    @property
    def ahead_s(self) -> float:
        """How far theirs is ahead of ours, in the middle of what is possible."""
        ours = self.before + (self.after - self.before) / 2
        return (self.theirs - ours).total_seconds() + self.grain_s / 2

    @property
    def within_s(self) -> float:
        """By how much that can be wrong, either way."""
        return (self.after - self.before).total_seconds() / 2 + self.grain_s / 2


def judge(check: str, reading: Reading | None, *, bound_s: float) -> Result:
    """`bound_s`: a hook call whose `ts` is further off is stale, so it never matches (contracts: Hook)."""
    whose = WHOSE[check]
    if reading is None:
        return unknown(check, f"{whose} clock could not be read.", "Repair the connection first.")
    ahead, sure = reading.ahead_s, reading.within_s
    apart = max(abs(ahead) - sure, 0.0)
    way = "ahead of" if ahead > 0 else "behind"
    if apart > DRIFT_S:
        why = f"{whose} clock is {abs(ahead):.0f} s {way} this machine's."
        if check == "clock.steve":
            stale = "every hook call is stale and no tap is intercepted"
            why += f" {stale[0].upper()}{stale[1:]}" if apart > bound_s else f" From {bound_s:g} s on, {stale}"
            why += f" ({bound_s:g} s are allowed)." if apart > bound_s else "."
        return no(check, why, "Keep both clocks by NTP: compare `timedatectl` on both machines.")
    close = "They agree" if apart == 0 else f"It is {apart:.1f} s {way} this machine's"
    return yes(check, f"{close}, within {sure:.1f} s; {bound_s:g} s would make hook calls stale.")
