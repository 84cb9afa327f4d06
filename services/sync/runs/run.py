"""A run in hand: what it has read, and what became of the sessions it saw."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from pyroaring import BitMap

from shared.contracts.identity import Actor, Cause
from shared.contracts.requests.sync_work import RunCounters, RunTrigger, Segment


@dataclass(slots=True)
class Run:
    """It is written down when there is something to tell; `requested` ones are from the start."""

    run_id: UUID
    trigger: RunTrigger
    requested_by: str
    segments: tuple[Segment, ...]
    requested_at: datetime
    cursor_before: int
    started_at: datetime
    kept: bool = False
    # What was billed from then on, it calls billed: earlier than its start where it counts for one that was cut short.
    since: datetime = field(init=False)
    # There is more of it to do, and the next turn does it at once.
    more: bool = False
    segment: Segment | None = None
    # Sessions by SteVe's ids, of which a backlog has a hundred thousand: bits need a hundredth of what a set needs.
    seen: BitMap = field(default_factory=BitMap)
    done: int = 0
    expected: int | None = None
    totals: Counter[str] = field(default_factory=Counter)
    # Seen sessions whose outcome was not final when last looked at, and the one that was the last to be looked at.
    undecided: BitMap = field(default_factory=BitMap)
    looked_at: int = 0

    def __post_init__(self) -> None:
        self.since = self.started_at

    @classmethod
    def of(cls, row: Any, *, cursor: int, at: datetime) -> Self:  # noqa: ANN401 - a row of run
        before = row.cursor_before if row.cursor_before is not None else cursor
        return cls(
            row.run_id, row.trigger, row.requested_by, tuple(row.segments), row.requested_at, before, at, done=row.done
        )

    def read(self, pks: Iterable[int], done: int, left: int | None) -> None:
        """Take note of a page: what was new in it, how many it had, and how many are still to come."""
        self.see(pks)
        self.done += done
        if left is not None:
            self.expected = self.done + left

    def carry(self, pks: Iterable[int], since: datetime | None) -> None:
        """Count these too, which a run that began then had in hand when its time was over."""
        self.see(pks)
        if since is not None:
            self.since = min(self.since, since)

    def see(self, pks: Iterable[int]) -> None:
        new = BitMap(pks) - self.seen
        self.seen |= new
        self.undecided |= new

    def some_undecided(self, most: int) -> list[int]:
        """In turn: after the highest, the lowest is looked at again."""
        after = self.undecided.rank(self.looked_at)
        return list(self.undecided[after : after + most] or self.undecided[:most])

    def decide(self, pks: Sequence[int], outcomes: Mapping[int, str]) -> None:
        """Count those whose outcome is final; the others are looked at again after all the rest."""
        for pk in pks:
            outcome = outcomes.get(pk, "failed")
            if outcome not in {"failed", "open"}:
                self.undecided.remove(pk)
                self.totals[outcome] += 1
        self.looked_at = max(pks, default=0)

    def cause(self) -> Cause:
        kind = "operator" if self.trigger == "operator" else "system"
        return Cause(actor=Actor(kind=kind, id=self.requested_by), correlation_id=self.run_id)


def count(outcomes: Mapping[str, int]) -> RunCounters:
    """Counters that add up (RunCounters); open sessions are counted apart."""
    totals = {name: outcomes.get(name, 0) for name in ("billed", "already_billed", "held", "ignored", "failed")}
    return RunCounters(seen=sum(totals.values()), still_open=outcomes.get("open", 0), **totals)
