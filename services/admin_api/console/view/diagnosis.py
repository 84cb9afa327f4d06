"""The runbook's answer for one card: the verdict, and the four checks it rests on."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from services.admin_api.console import format as fmt
from services.admin_api.console.view.state import Action, State

Answer = Literal["yes", "no", "unknown"]
ANSWER_WORDS: dict[Answer, str] = {"yes": "Yes", "no": "No", "unknown": "Unknown"}

QUESTIONS: dict[str, tuple[str, State, State]] = {
    "valid_in_steve": ("Does SteVe consider this card valid right now?", State.OK, State.WRONG),
    "linked": ("Is it linked to a Lago customer with an active subscription?", State.OK, State.ATTENTION),
    "intercepted": ("Was the last tap intercepted for a login?", State.ATTENTION, State.OK),
    "charger": ("Did the charger accept the card?", State.OK, State.WRONG),
}
"""Each check's question as the runbook asks it, with what a yes and a no mean for the card."""

DECIDERS = {
    "steve": "SteVe",
    "expressync": "ExpresSync",
    "charger": "the charger",
    "lago": "Lago",
    "operator": "an operator",
    "driver": "the driver",
}


@dataclass(frozen=True, slots=True)
class Check:
    id: str
    answer: Answer
    why: str
    as_of: datetime | None = None
    evidence: tuple[str, ...] = ()

    @property
    def question(self) -> str:
        known = QUESTIONS.get(self.id)
        return known[0] if known else fmt.sentence(fmt.words(self.id)) + "?"

    @property
    def state(self) -> State:
        if self.answer == "unknown":
            return State.UNKNOWN
        _, yes, no = QUESTIONS.get(self.id, ("", State.NEUTRAL, State.NEUTRAL))
        return yes if self.answer == "yes" else no

    @property
    def word(self) -> str:
        return ANSWER_WORDS[self.answer]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One sentence on how the card stands, who decided that and since when, and the next step."""

    code: str
    state: State
    sentence: str
    remedy: str = ""
    decided_by: str = ""
    since: datetime | None = None
    actions: tuple[Action, ...] = ()

    @property
    def decider(self) -> str:
        return DECIDERS.get(self.decided_by, self.decided_by)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    verdict: Verdict
    checks: tuple[Check, ...]
