"""Deciding within a deadline, and recording what was told: the port that hook and gateway use."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from prometheus_client import CollectorRegistry, Counter, Histogram

from services.preauth.decision.group import GroupCommit
from services.preauth.decision.rules import Reason
from services.preauth.decision.spool import Spool, Spooled
from services.preauth.decision.statement import Answered, Decided, Waiting
from services.preauth.decision.tap import Decision, MatchAnswered, Tap
from shared.contracts.events.preauth import Told, Via
from shared.runtime.clock import Clock, NewId
from shared.runtime.log import get_logger

log = get_logger(__name__)

LONGEST_US: Final = 2**31 - 1

# A tap whose answer is not written down by then never will be: the sweeper has closed its row, or is about to.
OPEN_FOR_S: Final = 10.0

_Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class _Open:
    tap_id: UUID
    since: float
    closed: asyncio.Future[None]


class TapDecider:
    """Decides with the journal's database; see `Decider` for how it is used."""

    def __init__(
        self,
        group: GroupCommit,
        spool: Spool,
        *,
        clock: Clock,
        new_id: NewId,
        decide_within_s: float,
        answer_within_s: float,
        fresh_s: float,
        on_match_answered: Callable[[MatchAnswered], None],
        on_blocked: Callable[[str], None],
        on_recorded: Callable[[], None],
        registry: CollectorRegistry,
    ) -> None:
        self._group, self._spool, self._clock, self._new_id = group, spool, clock, new_id
        self._decide_within_s, self._answer_within_s = decide_within_s, answer_within_s
        self._fresh = timedelta(seconds=fresh_s)
        self._on_match_answered, self._on_recorded = on_match_answered, on_recorded
        self._on_blocked = on_blocked
        # Taps whose answer is not written down yet: the same tap through another call waits for it, so that it is
        # found in the journal, and is told the same.
        self._open: dict[_Key, _Open] = {}
        self._open_by_id: dict[UUID, _Key] = {}
        group.on_written, group.on_given_up = self._written, self._close_all
        self._decided = Counter("taps_total", "Taps decided", labelnames=("via", "reason", "told"), registry=registry)
        self._counters: dict[tuple[Via, str, Told], tuple[Counter, Histogram]] = {}
        self._seconds = Histogram(
            "tap_seconds",
            "From the call to the answer",
            labelnames=("via",),
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 1),
            registry=registry,
        )

    async def decide(self, tap: Tap) -> Decision:
        """Decide within the deadline. Never raises; passes the tap where it cannot decide."""
        tap_id, received_at = tap.tap_id or self._new_id(), self._clock()
        reason = Reason.NOT_DECIDED
        try:
            if not self._group.available:
                reason = Reason.DATABASE_AWAY
            else:
                reason = Reason.DATABASE_SLOW
                decided = await self._ask(tap, tap_id, received_at)
                if decided is not None:
                    return _decision(tap, tap_id, received_at, decided)
        except Exception:
            log.exception("A tap could not be decided; it passes.", action="tap.not_decided", tap_id=str(tap_id))
            reason = Reason.NOT_DECIDED
        self._put_aside(tap, tap_id, received_at, reason)
        return Decision(tap, tap_id, received_at, block=False, reason=reason, journalled=False)

    def may_block(self, decision: Decision) -> bool:
        return decision.block and time.monotonic() - decision.tap.arrived <= self._answer_within_s

    def told(self, decision: Decision, told: Told, at: datetime | None = None) -> None:
        """Record what was answered. Neither waits nor raises."""
        tap = decision.tap
        duration_s = max(0.0, time.monotonic() - tap.arrived)
        self._count(tap.via, decision.reason.value, told, duration_s)
        if told == "blocked":
            # A repeated one too: the charger may keep each.
            self._on_blocked(tap.charge_box_id)
        if decision.repeat:
            return
        try:
            if decision.journalled:
                self._record(decision, told, at or self._clock(), duration_s)
            else:
                # In the spool it passed in time.
                as_added = told == "passed" and duration_s <= self._answer_within_s
                given = (tap, decision.tap_id, decision.received_at, decision.reason, told)
                self._spool.answered(decision.tap_id, None if as_added else self._spooled(*given))
        except Exception:
            # The sweeper closes the row as unknown; nobody is logged in by it.
            log.exception("An answer was not recorded.", action="tap.not_recorded", tap_id=str(decision.tap_id))
            self._close(decision.tap_id)

    def _count(self, via: Via, reason: str, told: Told, duration_s: float) -> None:
        # Looking a label up costs more than counting it, and there are few.
        key = (via, reason, told)
        if (counted := self._counters.get(key)) is None:
            counted = self._counters[key] = (self._decided.labels(*key), self._seconds.labels(via))
        counted[0].inc()
        counted[1].observe(duration_s)

    def recorded(self, tap_id: UUID) -> None:
        """The answer of a tap that matched a pairing is written down."""
        self._close(tap_id)

    def _record(self, decision: Decision, told: Told, at: datetime, duration_s: float) -> None:
        in_time = told != "unknown" and duration_s <= self._answer_within_s and decision.block == (told == "blocked")
        duration_us = min(int(duration_s * 1e6), LONGEST_US)
        if decision.reason is Reason.MATCHED:
            self._on_match_answered(MatchAnswered(decision, told, at, in_time, duration_us))
            return
        event_id, correlation_id = self._new_id(), decision.correlation_id
        self._group.record(
            Answered(decision.tap_id, decision.received_at, told, at, in_time, duration_us, event_id, correlation_id)
        )

    async def _ask(self, tap: Tap, tap_id: UUID, received_at: datetime) -> Decided | None:
        """The decision, or None when the deadline came first."""
        key: _Key = (tap.charge_box_id, tap.id_tag, tap.kind)
        loop = asyncio.get_running_loop()
        remaining = self._decide_within_s - (time.monotonic() - tap.arrived)
        if remaining <= 0:
            return None
        while (before := self._open.get(key)) is not None:
            if time.monotonic() - before.since > OPEN_FOR_S:
                log.error("A tap's answer was never told.", action="tap.never_told", tap_id=str(before.tap_id))
                self._close(before.tap_id)
                break
            try:
                async with asyncio.timeout(self._decide_within_s - (time.monotonic() - tap.arrived)):
                    await asyncio.shield(before.closed)
            except TimeoutError:
                return None
        self._open[key] = _Open(tap_id, tap.arrived, loop.create_future())
        self._open_by_id[tap_id] = key
        stale = any(at is not None and abs(at - received_at) > self._fresh for at in (tap.sent_at, tap.signed_at))
        answer: asyncio.Future[Decided | None] = loop.create_future()
        remaining = self._decide_within_s - (time.monotonic() - tap.arrived)
        expiry = loop.call_later(max(remaining, 0), _expire, answer)
        self._group.submit(Waiting(tap, tap_id, received_at, stale), answer)
        decided = None
        try:
            decided = await answer
        finally:
            expiry.cancel()
            if decided is None or decided.earlier_tap_id is not None:
                self._close(tap_id)
        return decided

    def _written(self, answers: list[Answered]) -> None:
        self._on_recorded()
        self._close_all(answers)

    def _close_all(self, answers: list[Answered]) -> None:
        for row in answers:
            self._close(row.tap_id)

    def _close(self, tap_id: UUID) -> None:
        key = self._open_by_id.pop(tap_id, None)
        if key is not None and (open_ := self._open.pop(key, None)) is not None and not open_.closed.done():
            open_.closed.set_result(None)

    def _put_aside(self, tap: Tap, tap_id: UUID, received_at: datetime, reason: Reason) -> None:
        # Before its answer, so that a killed process leaves it behind.
        self._spool.add(self._spooled(tap, tap_id, received_at, reason, "passed"), open_for_s=OPEN_FOR_S)

    def _spooled(self, tap: Tap, tap_id: UUID, received_at: datetime, reason: Reason, told: Told) -> Spooled:
        duration_s = max(0.0, time.monotonic() - tap.arrived)
        return Spooled(
            tap_id=tap_id,
            received_at=received_at,
            told_at=self._clock(),
            duration_us=min(int(duration_s * 1e6), LONGEST_US),
            charge_box_id=tap.charge_box_id,
            id_tag=tap.id_tag,
            kind=tap.kind,
            via=tap.via,
            reason=reason.value,
            connector_id=tap.connector_id,
            id_tag_as_sent=tap.id_tag_as_sent if tap.id_tag_as_sent != tap.id_tag else None,
            sent_at=tap.sent_at,
            message_id=tap.message_id,
            told=told,
            in_time=told != "unknown" and duration_s <= self._answer_within_s,
        )


def _expire(answer: asyncio.Future[Decided | None]) -> None:
    if not answer.done():
        answer.set_result(None)


def _decision(tap: Tap, tap_id: UUID, received_at: datetime, row: Decided) -> Decision:
    """A decision of its own, or the answer that the same tap was told before."""
    if row.earlier_tap_id is not None:
        return Decision(
            tap,
            row.earlier_tap_id,
            received_at,
            block=row.earlier_told == "blocked",
            reason=Reason(row.earlier_reason or Reason.NOT_DECIDED),
            pairing_id=row.pairing_id,
            repeat=True,
        )
    reason = Reason(row.reason)
    matched = reason in {Reason.MATCHED, Reason.REPEATED}
    return Decision(
        tap,
        tap_id,
        received_at,
        block=matched,
        reason=reason,
        pairing_id=row.pairing_id,
        correlation_id=row.correlation_id,
    )
