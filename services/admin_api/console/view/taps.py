"""Taps as sentences: who decided, why, and what the charger was told in the end."""

from dataclasses import dataclass
from datetime import datetime

from services.admin_api.console import format as fmt
from services.admin_api.console.view.state import State


@dataclass(frozen=True, slots=True)
class Tap:
    """`decision` is what ExpresSync wanted (`blocked`, or empty to leave it to SteVe), `told` what was answered
    (`blocked`, `none`, `unknown`), `in_time` whether the answer came within the caller's budget.
    """

    at: datetime
    charge_box_id: str
    decision: str
    reason: str
    told: str
    duration_ms: int | None = None
    in_time: bool | None = None
    id_tag: str = ""
    # What came of it, as a sentence; empty where that is not known.
    aftermath: str = ""

    @property
    def intercepted(self) -> bool:
        return self.decision == "blocked"

    @property
    def decider(self) -> str:
        """Whose answer stood in the end; empty where that is not known."""
        if self.state is State.UNKNOWN:
            return ""
        return "ExpresSync" if self.intercepted and self.in_time else "SteVe"

    @property
    def state(self) -> State:
        if self.told == "unknown" or (self.intercepted and self.in_time is None):
            return State.UNKNOWN
        if self.intercepted:
            return State.ATTENTION if self.in_time else State.WRONG
        return State.NEUTRAL if self.in_time is not False else State.ATTENTION

    @property
    def word(self) -> str:
        if self.state is State.UNKNOWN:
            return "answer not known"
        if self.intercepted:
            return "intercepted" if self.in_time else "too late"
        return "left to SteVe"

    @property
    def sentence(self) -> str:
        return f"{self._told} {self.aftermath}".rstrip()

    @property
    def _told(self) -> str:
        took = f" after {fmt.milliseconds(self.duration_ms)}" if self.duration_ms is not None else ""
        why = f": {fmt.words(self.reason)}" if self.reason else ""
        if self.state is State.UNKNOWN:
            return "Whether the charger was told Blocked is not known, so nobody was logged in by it."
        if not self.intercepted:
            return f"Left to SteVe{took}{why}."
        if self.in_time:
            return f"Blocked was told{took}{why}. The charger starts no session; this is intended."
        return f"It matched a pairing, but the answer came too late{took}; SteVe's own verdict stood."
