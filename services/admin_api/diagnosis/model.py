"""What goes into a diagnosis and what comes out of it."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime, Field

from services.admin_api.answers import Part, Silent
from services.admin_api.diagnosis.codes import Code
from shared.contracts.identity import Frozen, IdTag
from shared.contracts.requests.audit import EntryView
from shared.contracts.requests.preauth import ChargerView, GapView, PairingView, TapView
from shared.contracts.requests.sync import CardView, SessionView, SteveCard, SubscriptionView

Answer = Literal["yes", "no", "unknown"]
CheckId = Literal["valid_in_steve", "linked", "intercepted", "charger"]
Source = Literal["steve", "lago", "sync", "preauth", "audit"]
Decider = Literal["steve", "expressync", "charger", "lago", "operator"]


class SteveNow(Frozen):
    """What SteVe answered. `card` None: it has none of that idTag. `parent` None: there is none, or it was not read."""

    card: SteveCard | None
    parent: SteveCard | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known about a card, each piece answered or silent, with its time.

    Lists are newest first, but the first tap is the one that is asked about: the newest, or the one nearest to `at`.
    `subscription` is None where there is no link, `charger` where there is no tap, so that nobody was asked. `above` is
    the nearest card above it that has a link; None where it has one itself, or none above it has.
    """

    id_tag: IdTag
    now: datetime
    known: Part[CardView | None]
    steve: Part[SteveNow]
    subscription: Part[SubscriptionView | None] | None
    sessions: Part[list[SessionView]]
    taps: Part[list[TapView]]
    pairings: Part[list[PairingView]]
    changes: Part[list[EntryView]]
    gaps: list[GapView] = field(default_factory=list)
    charger: Part[ChargerView | None] | None = None
    at: datetime | None = None
    above: Part[CardView | None] | None = None

    @property
    def linked(self) -> CardView | None:
        """The card whose link applies, itself or one above it; None: there is none, or it is not known."""
        parts = [part for part in (self.known, self.above) if part is not None and not isinstance(part, Silent)]
        return next((part.value for part in parts if part.value is not None and part.value.link is not None), None)


class Fact(Frozen):
    """One thing somebody said, as a sentence, with its time where it has one."""

    source: Source
    says: str
    at: AwareDatetime | None = None


class Check(Frozen):
    """One of the runbook's four questions and its answer."""

    id: CheckId
    answer: Answer
    why: str
    as_of: AwareDatetime | None = None
    evidence: list[Fact] = Field(default_factory=list)


class Verdict(Frozen):
    """How the card stands in one sentence, who decided that and since when (where known), and what to do."""

    code: Code
    sentence: str
    decided_by: Decider | None
    since: AwareDatetime | None
    remedy: str


class Diagnosis(Frozen):
    card: str
    verdict: Verdict
    checks: list[Check]
