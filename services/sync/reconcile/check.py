"""Comparing one subscription's period: Lago's total first, its events one by one only where that differs."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final

from services.sync.lago.client import LagoClient
from services.sync.lago.models import StoredEvent, Usage
from services.sync.lago.rules import Life, to_the_end
from services.sync.reconcile import rules, store
from services.sync.reconcile.rules import Elsewhere, Entry, EntryState, Findings, Scope, Session, Span, Stored
from services.sync.sessions.identity import AnotherSteveError
from services.sync.upstreams.errors import UpstreamError
from shared.contracts.identity import session_id
from shared.database.engine import Database
from shared.runtime.clock import Clock
from shared.runtime.log import get_logger

log = get_logger(__name__)

# Lago assigns and adds up in the background: what was delivered since is not missed yet.
FRESH: Final = timedelta(minutes=2)
# What is not delivered for longer is stuck, however often it is tried.
STUCK_AFTER: Final = timedelta(hours=1)
# Events that are asked for one by one because they are not where they should be.
MOST_LOOKED_FOR: Final = 200
# Sessions that SteVe is asked about again where a person asks.
MOST_REREAD: Final = 500
# Whoever asked does not wait for long, and Lago is still to be asked.
REREAD_WITHIN_S: Final = 4.0

Reread = Callable[[Sequence[int]], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of comparing a span. `equal` is None where it could not be told, and `problem` says why."""

    external_subscription_id: str
    external_customer_id: str
    span: Span
    findings: Findings
    equal: bool | None
    checked_at: datetime
    problem: str | None = None
    ended: bool = False
    # Usage events that Lago once objected to, and that its total has.
    repaired: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Local:
    """What this house has for a span."""

    entries: list[Entry]
    sessions: list[Session]
    pks: list[int]
    codes: frozenset[str]
    # Whom each entry bills, by its usage event: the subscription's id may have gone to another customer since.
    owners: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Period:
    span: Span
    usage: Usage | None
    ended: bool = False
    # Another one follows it: what came after its end is in no invoice.
    closed: bool = False


class Check:
    """`reread` asks SteVe again about transactions of `steve_id`."""

    def __init__(
        self,
        lago: LagoClient,
        database: Database,
        *,
        steve_id: str,
        metric_code: str,
        metric_property: str,
        reread: Reread,
        clock: Clock,
    ) -> None:
        self._lago, self._database, self._steve_id = lago, database, steve_id
        self._code, self._property = metric_code, metric_property
        self._reread, self._clock = reread, clock

    async def current(self, subscription: str, *, ask_steve: bool = False) -> Checked | None:
        """Compare a subscription's current period, or its last one. None: nothing was ever billed to it.

        Lago's silence is an answer of its own: `equal` is None then, and nothing differs.
        """
        async with self._database.read() as tx:
            customer = await store.customer_of(tx, subscription)
        if customer is None:
            return None
        try:
            period = await self._period(subscription, customer)
        except UpstreamError as error:
            return await self._unanswered(subscription, customer, await self._last_span(subscription), error)
        return await self._compare(subscription, customer, period, ask_steve=ask_steve)

    async def closed(self, subscription: str, span: Span) -> Checked | None:
        """Compare a period that is over, event by event: Lago's total is about the current one only."""
        async with self._database.read() as tx:
            customer = await store.customer_of(tx, subscription, until=span.end)
        return (
            await self._compare(subscription, customer, _Period(span, None, closed=True))
            if customer is not None
            else None
        )

    async def _period(self, subscription: str, customer: str) -> _Period:
        usage = await self._lago.current_usage(customer, subscription)
        if usage is not None:
            return _Period(Span(usage.from_datetime, to_the_end(usage.to_datetime)), usage)
        found = await self._lago.subscription(subscription)
        if found is not None and found.current_billing_period_started_at and found.current_billing_period_ending_at:
            # Its customer's id cannot be asked for, or the customer is another one by now.
            start, end = found.current_billing_period_started_at, found.current_billing_period_ending_at
            return _Period(Span(start, to_the_end(end)), None)
        ended = await self._lago.subscription(subscription, status="terminated")
        last = await self._last_span(subscription)
        if ended is None or ended.terminated_at is None:
            return _Period(last, None, ended=True)
        start = max(last.start, ended.started_at or last.start)
        return _Period(Span(min(start, ended.terminated_at), ended.terminated_at), None, ended=True)

    async def _last_span(self, subscription: str) -> Span:
        """The last period that Lago told of, else all of the time that was billed."""
        async with self._database.read() as tx:
            believed = await store.believed(tx, subscription)
            stamped = await store.stamped(tx, subscription)
        now = self._clock()
        first, last = stamped or (now, now)
        if believed is not None and believed.period_from is not None:
            return Span(believed.period_from, to_the_end(believed.period_to or max(last, believed.period_from)))
        return Span(first, last)

    async def _compare(self, subscription: str, customer: str, period: _Period, *, ask_steve: bool = False) -> Checked:
        span, now = period.span, self._clock()
        local = await self._local(subscription, span, now)
        problem = None
        if ask_steve and local.pks:
            problem = await self._ask_steve(local.pks)
            local = await self._local(subscription, span, now)
        try:
            findings, unsure, repaired = await self._with_lago(subscription, customer, period, local, now)
        except UpstreamError as error:
            return await self._unanswered(subscription, customer, span, error)
        equal = None if unsure else findings.equal
        return Checked(subscription, customer, span, findings, equal, now, unsure or problem, period.ended, repaired)

    async def _with_lago(
        self, subscription: str, customer: str, period: _Period, local: _Local, now: datetime
    ) -> tuple[Findings, str | None, frozenset[str]]:
        """What differs, why that is not for sure yet, and what Lago once objected to and counts."""
        reported = frozenset(one.usage_event_id for one in local.entries if one.reported and one.state == "sent")
        if period.usage is not None:
            usage_wh, count = self._total(period.usage)
            seen = rules.at_a_glance(local.sessions, local.entries, usage_wh=usage_wh, usage_events=count)
            if seen is not None:
                return seen, None, reported
        events = await self._stored(subscription, period.span, local)
        # What was sent or retried while Lago was asked is on its way, and neither held nor stuck.
        local = await self._local(subscription, period.span, now)
        customers = sorted({customer, *local.owners.values()})
        lives = [life for one in customers for life in await self._lago.lives(subscription, one)]
        async with self._database.read() as tx:
            periods = await store.periods(tx, {one.transaction_id for one in events})
        stored = [self._read(one, local, period, lives, periods.get(one.transaction_id)) for one in events]
        entries, known = await self._place(subscription, period.span, local, stored)
        scope = Scope(subscription, self._code, period.span)
        findings = rules.one_by_one(local.sessions, entries, stored, scope, known=known)
        if period.usage is None:
            return findings, None, frozenset()
        shown = rules.shown_wh(entries, stored, scope)
        # Asked once more, because the first total is older than the events.
        usage = await self._lago.current_usage(customer, subscription)
        if usage is None or usage.from_datetime != period.usage.from_datetime:
            return findings, "Its billing period changed just now. Compare it again.", frozenset()
        usage_wh, _ = self._total(usage)
        whole = rules.with_total(findings, usage_wh=usage_wh, shown=shown)
        if whole is not findings and any(one.reported for one in entries):
            # What Lago once objected to may have been repaired since: its total knows.
            entries = [replace(one, reported=None) for one in entries]
            repaired = rules.one_by_one(local.sessions, entries, stored, scope, known=known)
            shown = rules.shown_wh(entries, stored, scope)
            if rules.with_total(repaired, usage_wh=usage_wh, shown=shown) is repaired:
                return repaired, None, reported
        if whole is not findings and any(one.state == "waiting" for one in entries):
            return (
                findings,
                "Events are on their way, and Lago has not added up all of them. Compare again in a minute.",
                frozenset(),
            )
        return whole, None, frozenset()

    async def _local(self, subscription: str, span: Span, now: datetime) -> _Local:
        async with self._database.read() as tx:
            rows = await store.entries_in(tx, subscription, span)
            keys = {(row.steve_id, row.transaction_pk) for row in rows}
            sessions = await store.sessions_in(tx, subscription, span, keys)
        return _Local(
            entries=[_entry(row, now) for row in rows],
            sessions=[_session(row, now) for row in sessions],
            pks=[row.transaction_pk for row in sessions if row.steve_id == self._steve_id],
            codes=frozenset({row.code for row in rows}),
            owners={row.usage_event_id: row.external_customer_id for row in rows},
        )

    async def _ask_steve(self, pks: Sequence[int]) -> str | None:
        """Have SteVe's record read again; what changed is settled first. Returns what prevented it."""
        try:
            async with asyncio.timeout(REREAD_WITHIN_S):
                await self._reread(pks[-MOST_REREAD:])
        except UpstreamError as error:
            return f"SteVe's record is as it was read last: it {error.explanation}."
        except AnotherSteveError as error:
            return f"SteVe's record is as it was read last: it {error}."
        except TimeoutError:
            return f"SteVe's record is as it was read last: it did not answer within {REREAD_WITHIN_S:g} s."
        return None

    async def _stored(self, subscription: str, span: Span, local: _Local) -> list[StoredEvent]:
        """Lago's events of the span, and what it has under the ids that are missing among them."""
        found: list[StoredEvent] = []
        for code in sorted(local.codes | {self._code}):
            page: int | None = 1
            while page is not None:
                # The end is pinned: what is stored meanwhile moves events to later pages, and none past us.
                answer = await self._lago.stored_events(subscription, code, span.start, span.end, page=page)
                found += answer.events
                page = answer.meta.next_page
        there = {one.transaction_id for one in found}
        missing = [one for one in local.entries if one.state in ("sent", "stuck") and one.usage_event_id not in there]
        for entry in missing[:MOST_LOOKED_FOR]:
            one = await self._lago.stored_event(entry.usage_event_id)
            if one is not None:
                found.append(one)
        return found

    async def _place(
        self, subscription: str, span: Span, local: _Local, stored: Sequence[Stored]
    ) -> tuple[list[Entry], dict[str, Elsewhere]]:
        """The entries, with those that were made meanwhile, and where the ledger has the other events."""
        strange = {one.usage_event_id for one in stored} - {one.usage_event_id for one in local.entries}
        if not strange:
            return local.entries, {}
        async with self._database.read() as tx:
            rows = await store.elsewhere(tx, strange)
        entries, known = list(local.entries), {}
        for row in rows:
            session = session_id(row.steve_id, row.transaction_pk)
            if row.external_subscription_id == subscription and row.timestamp in span:
                entries.append(Entry(row.usage_event_id, session, row.wh, row.timestamp, row.code, "waiting"))
            else:
                known[row.usage_event_id] = Elsewhere(session, row.external_subscription_id, row.timestamp)
        return entries, known

    def _total(self, usage: Usage) -> tuple[int | None, int]:
        """Lago's own total in Wh, None without a charge on the metric, and of how many events."""
        charges = [one for one in usage.charges_usage if one.billable_metric.code == self._code]
        if not charges:
            return None, 0
        # Each of them bills each event: where one has fewer, those are what is missing.
        least = min(charges, key=lambda one: (one.events_count, one.units))
        return _wh(least.units), least.events_count

    def _read(
        self, one: StoredEvent, local: _Local, period: _Period, lives: Sequence[Life], period_to: datetime | None
    ) -> Stored:
        value, owner = one.number(self._property), local.owners.get(one.transaction_id)
        in_time = not period.closed or (one.created_at is not None and one.created_at <= period.span.end)
        return Stored(
            usage_event_id=one.transaction_id,
            subscription=one.external_subscription_id,
            code=one.code,
            timestamp=one.timestamp,
            wh=_wh(value) if value is not None else None,
            counted=in_time
            and any(
                # What is no entry here is billed to whoever had the subscription then.
                life.counts(one.timestamp, one.created_at, owner or life.external_customer_id, period_to)
                for life in lives
            ),
        )

    async def _unanswered(self, subscription: str, customer: str, span: Span, error: UpstreamError) -> Checked:
        now = self._clock()
        local = await self._local(subscription, span, now)
        findings = Findings(rules.sums(local.sessions, local.entries), None)
        what = f"Lago did not answer: it {error.explanation}. Nothing can be told about what it counts."
        return Checked(subscription, customer, span, findings, None, now, what)


def _wh(kwh: Decimal) -> int:
    """Whole Wh: what others send may be finer."""
    return int((kwh * 1000).to_integral_value(ROUND_HALF_EVEN))


def _entry(row: Any, now: datetime) -> Entry:  # noqa: ANN401 - a row of entries_in
    """`now`: when comparing began. What was sent since may be missing in what Lago told before, also where it counts it
    by now.
    """
    state: EntryState = "sent"
    if row.state == "held":
        state = "held"
    elif row.state in ("pending", "sending"):
        state = "stuck" if now - row.created_at > STUCK_AFTER else "waiting"
    elif row.problem is None and now - row.delivered_at < (FRESH if row.state == "delivered" else timedelta()):
        state = "waiting"
    session = session_id(row.steve_id, row.transaction_pk)
    return Entry(row.usage_event_id, session, row.wh, row.timestamp, row.code, state, row.problem)


def _session(row: Any, now: datetime) -> Session:  # noqa: ANN401 - a row of sessions_in
    """SteVe's record counts where nothing about the session is to be decided any more."""
    readable = row.start_wh is not None and row.stop_wh is not None
    decided = (
        row.stopped_at is not None
        and row.billing in ("pending", "synced", "counted")
        and row.settle_at is None
        and now - row.changed_at >= FRESH
    )
    kept_back = int(row.held_entries_wh)
    if readable:
        kept_back += row.stop_wh - (row.billed_wh if row.billed_wh is not None else row.start_wh)
    return Session(
        session=session_id(row.steve_id, row.transaction_pk),
        steve_wh=row.stop_wh - row.start_wh if readable and decided else None,
        # What is held is not billed: it is missing where its session is not held with it.
        ledger_wh=int(row.ledger_wh - row.held_entries_wh),
        held_wh=kept_back if row.billing == "held" else 0,
        ignored_wh=kept_back if row.billing == "ignored" else 0,
    )
