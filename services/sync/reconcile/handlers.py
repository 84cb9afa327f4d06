"""Proving it on request and in turns; what came of it is kept, and told once where it differs."""

import asyncio
import hashlib
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final

from prometheus_client import CollectorRegistry, Gauge

from services.sync.reconcile import rules, store
from services.sync.reconcile.check import Check, Checked
from services.sync.reconcile.rules import Difference, Span
from services.sync.reconcile.store import Claimed
from shared.bus.outbox import Outbox
from shared.contracts.events.sync import ReconcileMismatchFound
from shared.contracts.identity import Actor, Cause
from shared.contracts.problem import Invalid, NotFound
from shared.contracts.requests.sync_work import Reconcile, ReconcileDifference, ReconcileResult, ReconcileRow
from shared.database.engine import Database
from shared.runtime.clock import Clock, NewId
from shared.runtime.log import get_logger
from shared.runtime.together import together

log = get_logger(__name__)

AT_ONCE: Final = 3
BATCH: Final = 10
# Longer than paging through a batch's events takes: whoever holds a claim past it has died.
LEASE: Final = timedelta(minutes=15)
FIND_EVERY: Final = timedelta(minutes=5)
# Where Lago did not answer: after a minute, doubling up to an hour.
FIRST_PAUSE: Final = timedelta(minutes=1)
LONGEST_PAUSE: Final = timedelta(hours=1)
ENDED_EVERY: Final = timedelta(days=7)
# Periods that are over and differed, which a turn compares again: the others have the next ones.
MOST_AGAIN: Final = 3
MOST_SESSIONS: Final = 50
MOMENT: Final = timedelta(microseconds=1)
# A reply has room for so many: one subscription's, and each of many.
MOST_DIFFERENCES: Final = 50
# Of the time that whoever asks has, the rest is for the current period.
AGAIN_WITHIN_S: Final = 20.0
FEW_DIFFERENCES: Final = 5
MOST_KEPT: Final = 500
# An event that is larger than a broker takes helps nobody.
MOST_WORDS: Final = 1000


class NothingBilled(NotFound):
    code, title = "nothing_billed", "Nothing was billed to this subscription"

    def __init__(self, subscription: str) -> None:
        super().__init__(
            f"No session was ever billed to subscription {subscription}; there is nothing to compare."
            " Check how it is spelled, or link a card to it.",
            external_subscription_id=subscription,
        )


class Reconciler:
    def __init__(
        self,
        check: Check,
        database: Database,
        outbox: Outbox,
        *,
        every: timedelta,
        clock: Clock,
        new_id: NewId,
        registry: CollectorRegistry,
    ) -> None:
        self._check, self._database, self._outbox = check, database, outbox
        self._every, self._clock, self._new_id = every, clock, new_id
        self._found_at: datetime | None = None
        self._differing = Gauge(
            "reconcile_differing_periods",
            "Subscriptions' periods in which SteVe, ledger and Lago differ",
            registry=registry,
        )

    async def reconcile(self, request: Reconcile, cause: Cause) -> ReconcileResult:
        """:raises NothingBilled: to the one subscription that was asked about."""
        now = self._clock()
        if request.stored:
            return await self._stored(request, now)
        one = request.external_subscription_id
        if one is not None:
            checked = await self._check.current(one, ask_steve=True)
            if checked is None:
                raise NothingBilled(one)
            await self._keep(checked, cause)
            over = (
                await self._again(one, checked.span.start, cause, AGAIN_WITHIN_S) if checked.equal is not None else []
            )
            return ReconcileResult(rows=[_row(checked, MOST_DIFFERENCES), *over], checked_at=now)
        async with self._database.write() as tx:
            await store.find_subjects(tx, now + self._every)
            subjects = await store.subjects(tx, after=request.cursor or "", limit=request.limit)
        free = asyncio.Semaphore(AT_ONCE)

        async def compare(subscription: str) -> Checked | None:
            async with free:
                checked = await self._check.current(subscription)
                if checked is not None:
                    await self._keep(checked, cause)
                return checked

        found = await together(map(compare, subjects))
        return ReconcileResult(
            rows=[_row(checked, FEW_DIFFERENCES) for checked in found if checked is not None],
            checked_at=now,
            next_cursor=subjects[-1] if len(subjects) == request.limit else None,
        )

    async def run_due(self) -> int:
        """Compare the subscriptions whose time has come, in any replica; returns how many."""
        await self._find()
        done = 0
        while True:
            async with self._database.write() as tx:
                batch = await store.claim(tx, self._clock(), limit=BATCH, lease=LEASE)
            for one in batch:
                try:
                    await self._turn(one)
                except Exception:
                    # The others can be compared all the same.
                    log.exception(
                        "Comparing a subscription failed.",
                        action="reconcile.failed",
                        external_subscription_id=one.external_subscription_id,
                    )
                    await self._put_off(one)
            done += len(batch)
            if len(batch) < BATCH:
                break
        async with self._database.read() as tx:
            self._differing.set(await store.differing(tx))
        return done

    async def _find(self) -> None:
        now = self._clock()
        if self._found_at is None or abs(now - self._found_at) >= FIND_EVERY:
            async with self._database.write() as tx:
                await store.find_subjects(tx, now)
            self._found_at = now

    async def _turn(self, one: Claimed) -> None:
        cause = Cause(actor=Actor(kind="system", id="sync"), correlation_id=self._new_id())
        checked = await self._check.current(one.external_subscription_id)
        told = checked is not None and checked.equal is not None
        for span in await self._over(one, checked.span) if checked is not None and told else []:
            last = await self._check.closed(one.external_subscription_id, span)
            if last is not None and last.equal is None:
                # Without it, what is over counts as not compared yet.
                told = False
            elif last is not None:
                await self._keep(last, cause)
        if checked is None or not told:
            await self._put_off(one)
            return
        await self._keep(checked, cause)
        # What is over since the last turn was compared just now.
        before = min(one.period_from or checked.span.start, checked.span.start)
        await self._again(one.external_subscription_id, before, cause)
        every = ENDED_EVERY if checked.ended else self._every
        async with self._database.write() as tx:
            span = checked.span
            await store.finish(
                tx, one, due_at=self._clock() + every, attempts=0, period_from=span.start, period_to=span.end
            )

    async def _over(self, one: Claimed, now: Span) -> list[Span]:
        """What is over since the last comparison: the last events of its period came after it, and all that is stamped
        between that period and this one was never compared.
        """
        last = _closed(one, now)
        if last is None and one.period_from is not None:
            return []
        async with self._database.read() as tx:
            since = last.end if last is not None else None
            stamped = await store.stamped(tx, one.external_subscription_id, since=since, before=now.start)
        never = [Span(stamped[0], now.start - MOMENT)] if stamped is not None else []
        return [last, *never] if last is not None else never

    async def _again(
        self, subscription: str, before: datetime, cause: Cause, within_s: float | None = None
    ) -> list[ReconcileRow]:
        """Compare periods that began `before` and differed: they may be repaired by now. Those first that were not
        looked at for longest, and without an answer what is kept of them stays. `within_s`: whoever asks waits for it,
        and is told what is kept of those that take longer.
        """
        async with self._database.read() as tx:
            rows = await store.differing_before(tx, subscription, before, limit=MOST_AGAIN)
        found: list[ReconcileRow] = []
        rest = deque(rows)
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                for row in rows:
                    # It may have been cut short since, by an upgrade.
                    span = Span(row.period_from, min(row.period_to, before - MOMENT))
                    checked = await self._check.closed(subscription, span)
                    if checked is not None:
                        await self._keep(checked, cause)
                        found.append(_row(checked, FEW_DIFFERENCES))
                    rest.popleft()
        return [*found, *(_kept(row, FEW_DIFFERENCES) for row in rest)]

    async def _put_off(self, one: Claimed) -> None:
        pause = min(FIRST_PAUSE * 2 ** min(one.attempts, 10), LONGEST_PAUSE)
        async with self._database.write() as tx:
            await store.finish(tx, one, due_at=self._clock() + pause, attempts=one.attempts + 1)

    async def _keep(self, checked: Checked, cause: Cause) -> None:
        """Keep what was proven; silence proves nothing and leaves what was proven before."""
        counted_wh = checked.findings.counted_wh
        if checked.equal is None or counted_wh is None:
            return
        findings, sums = checked.findings, checked.findings.sums
        largest = sorted(findings.differences, key=lambda one: -abs(one.wh))[:MOST_KEPT]
        async with self._database.write() as tx:
            if checked.repaired:
                await store.forget_errors(tx, checked.repaired, before=checked.checked_at)
            news = await store.keep(
                tx,
                {
                    "external_subscription_id": checked.external_subscription_id,
                    "period_from": checked.span.start,
                    "period_to": checked.span.end,
                    "external_customer_id": checked.external_customer_id,
                    "checked_at": checked.checked_at,
                    "steve_wh": sums.steve_wh,
                    "ledger_wh": sums.ledger_wh,
                    "sent_wh": sums.sent_wh,
                    "counted_wh": counted_wh,
                    "held_wh": sums.held_wh,
                    "ignored_wh": sums.ignored_wh,
                    "waiting_wh": sums.waiting_wh,
                    "equal": checked.equal,
                    "problem": checked.problem,
                    "differences": [_difference(one).model_dump(mode="json") for one in largest],
                    "told": fingerprint(findings.differences),
                },
                self._clock(),
            )
            if news:
                await self._outbox.add(tx, _mismatch(checked), cause)
        if news:
            log.error(
                "SteVe and Lago differ.",
                action="reconcile.mismatch",
                external_subscription_id=checked.external_subscription_id,
                differences=len(findings.differences),
                wh=counted_wh - sums.steve_wh,
                why=findings.differences[0].explanation,
            )

    async def _stored(self, request: Reconcile, now: datetime) -> ReconcileResult:
        after = _read_cursor(request.cursor) if request.cursor else None
        one = request.external_subscription_id
        async with self._database.read() as tx:
            rows = await store.results(
                tx, subscription_id=one, differing=request.differing, after=after, limit=request.limit
            )
        last = rows[-1] if len(rows) == request.limit else None
        most = FEW_DIFFERENCES if len(rows) > 1 else MOST_DIFFERENCES
        return ReconcileResult(
            rows=[_kept(row, most) for row in rows],
            checked_at=now,
            next_cursor=f"{last.period_from.isoformat()}/{last.external_subscription_id}" if last is not None else None,
        )


def _closed(one: Claimed, now: Span) -> Span | None:
    """The period that was compared last, where another one has begun since: an upgrade cuts it short."""
    if one.period_from is None or one.period_to is None or now.start <= one.period_from:
        return None
    return Span(one.period_from, min(one.period_to, now.start - MOMENT))


def fingerprint(differences: Sequence[Difference]) -> str | None:
    """The same text for the same differences, in whatever order they were found; None for none."""
    if not differences:
        return None
    lines = sorted(f"{one.kind} {one.wh} {one.session} {one.usage_event_id}" for one in differences)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _read_cursor(cursor: str) -> tuple[str, datetime]:
    moment, _, subscription = cursor.partition("/")
    try:
        return subscription, datetime.fromisoformat(moment)
    except ValueError as error:
        raise Invalid(f"The cursor {cursor!r} is none of ours; start again without one.") from error


def _mismatch(checked: Checked) -> ReconcileMismatchFound:
    findings = checked.findings
    return ReconcileMismatchFound(
        external_subscription_id=checked.external_subscription_id,
        period_from=checked.span.start,
        period_to=checked.span.end,
        steve_wh=findings.sums.steve_wh,
        ledger_wh=findings.sums.ledger_wh,
        sent_wh=findings.sums.sent_wh,
        counted_wh=findings.counted_wh,
        sessions=findings.sessions()[:MOST_SESSIONS],
        explanation=rules.summary(findings.differences)[:MOST_WORDS],
    )


def _difference(one: Difference) -> ReconcileDifference:
    return ReconcileDifference(
        kind=one.kind,
        wh=one.wh,
        explanation=one.explanation,
        proposal=one.proposal,
        session=one.session,
        usage_event_id=one.usage_event_id,
    )


def _row(checked: Checked, most: int) -> ReconcileRow:
    findings, sums = checked.findings, checked.findings.sums
    differences = [_difference(one) for one in findings.differences]
    return ReconcileRow(
        external_subscription_id=checked.external_subscription_id,
        external_customer_id=checked.external_customer_id,
        period_from=checked.span.start,
        period_to=checked.span.end,
        steve_wh=sums.steve_wh,
        ledger_wh=sums.ledger_wh,
        sent_wh=sums.sent_wh,
        counted_wh=findings.counted_wh,
        held_wh=sums.held_wh,
        ignored_wh=sums.ignored_wh,
        waiting_wh=sums.waiting_wh,
        equal=checked.equal,
        problem=checked.problem,
        checked_at=checked.checked_at,
        **_behind(differences, most),
    )


def _kept(row: Any, most: int) -> ReconcileRow:  # noqa: ANN401 - a row of results
    differences = [ReconcileDifference.model_validate(one) for one in row.differences]
    values = {name: value for name, value in row._asdict().items() if name not in ("differences", "told")}
    return ReconcileRow(**values, **_behind(differences, most))


def _behind(differences: Sequence[ReconcileDifference], most: int) -> dict[str, Any]:
    """The sessions and the proposals, the largest difference first, and as many differences as there is room for."""
    ordered = sorted(differences, key=lambda one: -abs(one.wh))
    return {
        "sessions": list(dict.fromkeys(one.session for one in ordered if one.session is not None))[:MOST_SESSIONS],
        "proposals": list(dict.fromkeys(one.proposal for one in ordered)),
        "differences": ordered[:most],
        "difference_count": len(ordered),
    }
