"""SteVe = ledger = sent = counted, or which session differs, how, and what would repair it. Pure.

Energies are integer Wh. Each difference carries the energy by which Lago counts more (or, negative, less) than SteVe
recorded because of it, so that they add up: `counted_wh - steve_wh` is the sum over all differences.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

Kind = Literal[
    "ledger_differs",
    "not_sent",
    "counted_not_sent",
    "sent_not_stored",
    "sent_not_counted",
    "counted_twice",
    "unknown_in_ledger",
    "wrong_quantity",
    "wrong_time",
    "other_subscription",
    "other_metric",
    "held_but_counted",
    "no_charge",
    "counted_otherwise",
]
"""What differs. The first two lie in this house, the others between it and Lago."""

PROPOSALS: Final[dict[Kind, str]] = {
    "ledger_differs": "`retry` the session: it is read again from SteVe and settled by what its ledger entries say.",
    "not_sent": "Look at the error of the last attempt and at Lago; it is sent by itself when Lago takes it.",
    "counted_not_sent": "Nothing is missing: the next attempt finds that Lago has it.",
    "sent_not_stored": "Lago acknowledged it and does not have it. `retry` the session: the same event is sent again.",
    "sent_not_counted": "Repair in Lago what it names: metric, property or subscription; bill what is late by hand.",
    "counted_twice": "Write a credit note for the second one; Lago deletes no event.",
    "unknown_in_ledger": "Find out who sent it. If it is not due, correct it with a negative event or a credit note.",
    "wrong_quantity": "Correct the difference with an event or a credit note, and find out who sent the other one.",
    "wrong_time": "Compare the invoices of the two periods; correct them with a credit note if it matters.",
    "other_subscription": "Credit the subscription that has it, and bill the one that should.",
    "other_metric": "Restore the metric in Lago or in EXPRESSYNC_SYNC_METRIC_CODE; bill what was missed by hand.",
    "held_but_counted": "Lago has another event under this id. Compare the two, then ignore or release the session.",
    "no_charge": "Add a charge on the metric to the subscription's plan: Lago counts nothing without one.",
    "counted_otherwise": "Compare Lago's current usage with its events; a total below zero is billed as zero.",
}


@dataclass(frozen=True, slots=True)
class Span:
    """A billing period; both ends belong to it."""

    start: datetime
    end: datetime

    def __contains__(self, moment: datetime) -> bool:
        return self.start <= moment <= self.end


@dataclass(frozen=True, slots=True)
class Scope:
    """What is compared: a subscription's events of a metric in a span."""

    subscription: str
    metric_code: str
    span: Span


EntryState = Literal["sent", "waiting", "stuck", "held"]
"""How an entry of the ledger stands. `waiting`: on its way, or so fresh that Lago may not show it yet; `stuck`: not
sent although there was time enough.
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A ledger entry stamped inside the span."""

    usage_event_id: str
    session: str
    wh: int
    timestamp: datetime
    code: str
    state: EntryState
    # What Lago objected to in its hourly report.
    reported: str | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """A session with entries in the span, or that ended in it. `steve_wh` is None where SteVe's record has no final
    answer (it runs, is held, ignored, or about to be settled again): then the ledger is believed.
    """

    session: str
    steve_wh: int | None
    ledger_wh: int
    held_wh: int = 0
    ignored_wh: int = 0


@dataclass(frozen=True, slots=True)
class Stored:
    """An event as Lago shows it; `wh` is None where its property is no plain decimal number of whole Wh."""

    usage_event_id: str
    subscription: str | None
    code: str
    timestamp: datetime
    wh: int | None
    counted: bool


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Where the ledger has a usage event that Lago shows here."""

    session: str
    subscription: str
    timestamp: datetime


@dataclass(frozen=True, slots=True)
class Difference:
    kind: Kind
    wh: int
    explanation: str
    session: str | None = None
    usage_event_id: str | None = None

    @property
    def proposal(self) -> str:
        return PROPOSALS[self.kind]


@dataclass(frozen=True, slots=True)
class Sums:
    """What a span holds, without what is held or ignored and without what is on its way (`waiting_wh`)."""

    steve_wh: int
    ledger_wh: int
    sent_wh: int
    held_wh: int
    ignored_wh: int
    waiting_wh: int
    sent_events: int


@dataclass(frozen=True, slots=True)
class Findings:
    sums: Sums
    counted_wh: int | None
    differences: list[Difference] = field(default_factory=list)

    @property
    def equal(self) -> bool | None:
        return None if self.counted_wh is None else not self.differences

    def sessions(self) -> list[str]:
        """The sessions behind the differences, the largest difference first."""
        ordered = sorted(self.differences, key=lambda one: (-abs(one.wh), one.session or ""))
        return list(dict.fromkeys(one.session for one in ordered if one.session is not None))


def sums(sessions: Iterable[Session], entries: Sequence[Entry]) -> Sums:
    sessions = list(sessions)
    billed = [one for one in entries if one.state in ("sent", "stuck")]
    sent = [one for one in entries if one.state == "sent"]
    ledger_wh = sum(one.wh for one in billed)
    return Sums(
        steve_wh=ledger_wh + sum(_unbilled(one) for one in sessions),
        ledger_wh=ledger_wh,
        sent_wh=sum(one.wh for one in sent),
        held_wh=sum(one.held_wh for one in sessions),
        ignored_wh=sum(one.ignored_wh for one in sessions),
        waiting_wh=sum(one.wh for one in entries if one.state == "waiting"),
        sent_events=len(sent),
    )


def _unbilled(one: Session) -> int:
    """What SteVe recorded beyond the ledger, in all periods together: it is missing now, whenever it was used."""
    return one.steve_wh - one.ledger_wh if one.steve_wh is not None else 0


def in_house(sessions: Iterable[Session]) -> list[Difference]:
    """Where the ledger is not what SteVe recorded."""
    found = []
    for one in sessions:
        missing = _unbilled(one)
        if missing:
            what = f"SteVe recorded {one.steve_wh} Wh, and the ledger has {one.ledger_wh} Wh."
            found.append(Difference("ledger_differs", -missing, what, session=one.session))
    return found


def at_a_glance(
    sessions: Sequence[Session], entries: Sequence[Entry], *, usage_wh: int | None, usage_events: int
) -> Findings | None:
    """Lago's own total tells enough where all is well. None: its events have to be looked at one by one.

    Entries on their way may be in the total already, all of them or none.
    """
    total = sums(sessions, entries)
    if any(one.state == "stuck" for one in entries) or (usage_wh is None and total.sent_events):
        return None
    waiting = sum(1 for one in entries if one.state == "waiting")
    landed = (total.sent_wh + total.waiting_wh, total.sent_events + waiting)
    if (usage_wh or 0, usage_events) not in {(total.sent_wh, total.sent_events), landed}:
        return None
    return Findings(total, total.sent_wh, in_house(sessions))


def one_by_one(
    sessions: Sequence[Session],
    entries: Sequence[Entry],
    stored: Iterable[Stored],
    scope: Scope,
    *,
    known: Mapping[str, Elsewhere],
) -> Findings:
    """Compare each entry with what Lago stores.

    :param stored: this subscription's events in the span, and what Lago has under the ids of entries that are not
        among them.
    :param known: usage events of this house that are not among `entries`.
    """
    by_id: defaultdict[str, list[Stored]] = defaultdict(list)
    for one in _once(stored):
        by_id[one.usage_event_id].append(one)
    found = in_house(sessions)
    counted_wh = 0
    for entry in entries:
        there = by_id.pop(entry.usage_event_id, [])
        counting = [one for one in there if _counts(one, entry.reported, scope)]
        if entry.state != "waiting":
            counted_wh += sum(one.wh or 0 for one in counting)
            found += _compare(entry, there, counting, scope.subscription)
    for event_id, there in by_id.items():
        for one in there:
            if _counts(one, None, scope):
                counted_wh += one.wh or 0
                found.append(_foreign(event_id, one, known.get(event_id), scope.subscription))
    return Findings(sums(sessions, entries), counted_wh, found)


def shown_wh(entries: Iterable[Entry], stored: Iterable[Stored], scope: Scope) -> int:
    """The sum over all events that count, whatever the ledger says of them."""
    reported = {one.usage_event_id: one.reported for one in entries}
    return sum(one.wh or 0 for one in _once(stored) if _counts(one, reported.get(one.usage_event_id), scope))


def with_total(findings: Findings, *, usage_wh: int | None, shown: int) -> Findings:
    """Add what Lago's own total says beyond the events that it shows.

    :param usage_wh: None: the subscription's usage has no charge on the metric.
    :param shown: `shown_wh`.
    """
    if findings.counted_wh is None:
        return findings
    total_wh = usage_wh or 0
    more = total_wh - shown
    if more == 0:
        return findings
    kind: Kind = "no_charge" if usage_wh is None else "counted_otherwise"
    if usage_wh is None:
        what = f"Its events add up to {shown} Wh, and the plan has no charge on the metric."
    else:
        what = f"Its events add up to {shown} Wh, and Lago's total is {total_wh} Wh."
    return Findings(findings.sums, findings.counted_wh + more, [*findings.differences, Difference(kind, more, what)])


def _once(stored: Iterable[Stored]) -> list[Stored]:
    """An event that came on two pages, because another one was stored meanwhile, is one event. The same id at another
    time or under another subscription is another one (facts 6).
    """
    return list({(one.usage_event_id, one.subscription, one.code, one.timestamp): one for one in stored}.values())


def _counts(one: Stored, reported: str | None, scope: Scope) -> bool:
    return (
        one.counted
        and one.wh is not None
        and reported is None
        and one.subscription == scope.subscription
        and one.code == scope.metric_code
        and one.timestamp in scope.span
    )


def _compare(entry: Entry, there: Sequence[Stored], counting: Sequence[Stored], subscription: str) -> list[Difference]:
    counted_wh = sum(one.wh or 0 for one in counting)
    if entry.state == "held":
        if not counting:
            return []
        what = f"The ledger holds {entry.usage_event_id}, and Lago counts {counted_wh} Wh under it."
        return [_about(entry, "held_but_counted", counted_wh, what)]
    if not counting:
        return [_uncounted(entry, there, subscription)]
    found = []
    # The one that is ours: of the time that was sent, else of the quantity.
    first = min(counting, key=lambda one: (one.timestamp != entry.timestamp, one.wh != entry.wh))
    if entry.state == "stuck":
        found.append(
            _about(entry, "counted_not_sent", 0, f"Lago counts {entry.usage_event_id}, which is not sent yet.")
        )
    if first.wh != entry.wh:
        what = f"Lago counts {first.wh} Wh for {entry.usage_event_id} instead of {entry.wh}."
        found.append(_about(entry, "wrong_quantity", (first.wh or 0) - entry.wh, what))
    if first.timestamp != entry.timestamp:
        what = f"Lago has {entry.usage_event_id} at {_words(first.timestamp)} instead of {_words(entry.timestamp)}."
        found.append(_about(entry, "wrong_time", 0, what))
    for one in counting:
        if one is not first:
            what = f"Lago counts {entry.usage_event_id} once more, at {_words(one.timestamp)}."
            found.append(_about(entry, "counted_twice", one.wh or 0, what))
    return found


def _uncounted(entry: Entry, there: Sequence[Stored], subscription: str) -> Difference:
    """Why Lago counts nothing for an entry that it should count."""
    event_id = entry.usage_event_id
    if there:
        mine = next((one for one in there if one.subscription == subscription), None)
        if mine is None:
            what = f"Lago has {event_id} under subscription {there[0].subscription}."
            return _about(entry, "other_subscription", -entry.wh, what)
        kind, what = _why_not(entry, mine)
        return _about(entry, kind, -entry.wh, what)
    if entry.state == "stuck":
        return _about(entry, "not_sent", -entry.wh, f"{event_id} is not delivered yet.")
    return _about(entry, "sent_not_stored", -entry.wh, f"Lago acknowledged {event_id} and does not have it.")


def _why_not(entry: Entry, one: Stored) -> tuple[Kind, str]:
    """Why Lago does not count an event that it has under the right subscription."""
    event_id = entry.usage_event_id
    reasons: list[tuple[bool, Kind, str]] = [
        (one.code != entry.code, "other_metric", f"Lago has {event_id} under metric {one.code} and not {entry.code}."),
        (
            one.timestamp != entry.timestamp,
            "wrong_time",
            f"Lago has {event_id} at {_words(one.timestamp)} instead of {_words(entry.timestamp)}.",
        ),
        (
            entry.reported is not None,
            "sent_not_counted",
            f"Lago reported {event_id} as an error: {entry.reported}.",
        ),
        (one.wh is None, "sent_not_counted", f"The quantity of {event_id} in Lago is no number."),
        (
            not one.counted,
            "sent_not_counted",
            f"No subscription of that id ran at the time of {event_id}, or its invoice was final when the event came.",
        ),
    ]
    otherwise: tuple[Kind, str] = (
        "other_metric",
        f"{event_id} was sent under metric {one.code}, which is not the one that is billed.",
    )
    return next(((kind, what) for holds, kind, what in reasons if holds), otherwise)


def _foreign(event_id: str, one: Stored, elsewhere: Elsewhere | None, subscription: str) -> Difference:
    """Counted here, and no entry of this subscription and span says so."""
    wh = one.wh or 0
    if elsewhere is None:
        what = f"Lago counts {wh} Wh for {event_id}, which the ledger does not know."
        return Difference("unknown_in_ledger", wh, what, usage_event_id=event_id)
    if elsewhere.subscription != subscription:
        what = f"Lago counts {event_id} here; the ledger has it for subscription {elsewhere.subscription}."
        return Difference("other_subscription", wh, what, session=elsewhere.session, usage_event_id=event_id)
    what = f"Lago has {event_id} at {_words(one.timestamp)} instead of {_words(elsewhere.timestamp)}."
    return Difference("wrong_time", wh, what, session=elsewhere.session, usage_event_id=event_id)


def _about(entry: Entry, kind: Kind, wh: int, explanation: str) -> Difference:
    return Difference(kind, wh, explanation, session=entry.session, usage_event_id=entry.usage_event_id)


def _words(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S.") + f"{moment.microsecond // 1000:03d} UTC"


def summary(differences: Sequence[Difference]) -> str:
    """All differences in a sentence, by kind."""
    kinds: Mapping[str, list[Difference]] = defaultdict(list)
    for one in differences:
        kinds[one.kind].append(one)
    parts = [
        f"{kind} {len(some)} time{'s' if len(some) > 1 else ''} ({sum(one.wh for one in some):+d} Wh)"
        for kind, some in sorted(kinds.items())
    ]
    return (
        f"Lago counts something else than SteVe recorded: {', '.join(parts)}. For example: {differences[0].explanation}"
    )
