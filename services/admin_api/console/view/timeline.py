"""What happened to one card, newest first: taps, decisions, changes, billing, access."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from services.admin_api.console import paths
from services.admin_api.console.view import events
from services.admin_api.console.view.audit import Entry
from services.admin_api.console.view.events import Kind
from services.admin_api.console.view.state import Chip, State
from services.admin_api.console.view.taps import Tap


@dataclass(frozen=True, slots=True)
class Moment:
    """One thing that happened, in words, and who is behind it."""

    at: datetime
    kind: Kind
    state: State
    title: str
    detail: str = ""
    by: str = ""
    charge_box_id: str = ""
    href: str = ""

    @property
    def kind_word(self) -> str:
        return events.KIND_WORDS[self.kind]


@dataclass(frozen=True, slots=True)
class Timeline:
    """`missing` names who did not answer, so that a gap is not taken for silence."""

    moments: tuple[Moment, ...]
    chips: tuple[Chip, ...] = ()
    missing: tuple[str, ...] = ()
    older: str = ""
    filtered: bool = False


def of_tap(tap: Tap) -> Moment:
    return Moment(
        at=tap.at,
        kind="taps",
        state=tap.state,
        title="Tapped",
        detail=tap.sentence,
        by=f"decided by {tap.decider}" if tap.decider else "nobody knows who decided",
        charge_box_id=tap.charge_box_id,
    )


def of_gap(first_at: datetime, last_at: datetime, sentence: str) -> Moment:
    """Taps of anybody, so perhaps of this card."""
    since = f" since {first_at:%H:%M:%S}" if first_at < last_at else ""
    return Moment(
        at=last_at,
        kind="taps",
        state=State.UNKNOWN,
        title=f"Taps are missing{since}",
        detail=f"{sentence} Whether this card was among them is not known.",
        by="nobody knows who decided",
    )


def of_entry(entry: Entry) -> Moment:
    told = "; ".join(f"{change.field}: {change.before} → {change.after}" for change in entry.changes)
    return Moment(
        at=entry.time,
        kind=events.kind(entry.type),
        state=entry.state,
        title=entry.title,
        detail=told,
        by=entry.actor,
        href=paths.entry(entry.event_id),
    )


def timeline(
    moments: Iterable[Moment], address: str, shown: frozenset[str] = frozenset(), missing: tuple[str, ...] = ()
) -> Timeline:
    """Newest first, with a chip for each kind there is. `shown` are the kinds in the address; none means all.

    A chip adds or takes away its own kind and keeps the others, so that any combination has an address.
    """
    everything = sorted(moments, key=lambda moment: moment.at, reverse=True)
    counts = Counter(moment.kind for moment in everything)
    kinds = [kind for kind in events.KIND_WORDS if counts[kind] or kind in shown]
    chips = [Chip("All", f"{address}#timeline", on=not shown, count=len(everything))]
    for kind in kinds:
        chosen = shown ^ {kind}
        query = ",".join(each for each in events.KIND_WORDS if each in chosen)
        href = paths.address(address, {"show": query}) + "#timeline"
        chips.append(Chip(events.KIND_WORDS[kind], href, on=kind in shown, count=counts[kind]))
    return Timeline(
        moments=tuple(moment for moment in everything if not shown or moment.kind in shown),
        chips=tuple(chips) if len(kinds) > 1 or shown else (),
        missing=missing,
        filtered=bool(shown),
    )
