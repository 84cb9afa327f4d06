"""Acting on stored webhooks: hints of what to look at again. Polling is the truth, so acting twice does no harm."""

import random
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

from prometheus_client import CollectorRegistry, Gauge

from services.sync.lago.store import forget_freshness
from services.sync.lago.subscriptions import Subscriptions
from services.sync.reconcile import store as reconcile
from services.sync.webhooks import rules, store
from services.sync.webhooks.rules import Hint, UnreadableError
from services.sync.webhooks.store import Claimed
from shared.database.engine import Database, after_commit
from shared.runtime.clock import Clock
from shared.runtime.log import get_logger

log = get_logger(__name__)

BATCH: Final = 50
# Longer than asking Lago about a batch's subscriptions takes: whoever holds a claim past it has died.
LEASE: Final = timedelta(seconds=120)
KEPT: Final = timedelta(days=90)


class Dispatch:
    """`dispatch` may run in any number of tasks and replicas. `settle` and `count` have the work done that a hint
    calls for.
    """

    def __init__(
        self,
        database: Database,
        subscriptions: Subscriptions,
        *,
        clock: Clock,
        settle: Callable[[], None],
        count: Callable[[], None],
        registry: CollectorRegistry,
    ) -> None:
        self._database, self._subscriptions, self._clock = database, subscriptions, clock
        self._settle, self._count = settle, count
        self._waiting = Gauge("webhooks_waiting", "Webhooks that wait to be acted on", registry=registry)
        self._failed = Gauge("webhooks_failed", "Webhooks that were given up", registry=registry)

    async def dispatch(self) -> int:
        """Act on what is due; returns how many webhooks were taken up."""
        taken = 0
        while True:
            async with self._database.write() as tx:
                batch = await store.claim(tx, self._clock(), limit=BATCH, lease=LEASE)
            if not batch:
                return taken
            taken += len(batch)
            await self._act(batch)

    async def measure(self) -> None:
        async with self._database.read() as tx:
            row = await store.standing(tx)
        self._waiting.set(row.waiting)
        self._failed.set(row.failed)

    async def forget(self) -> int:
        """Delete what was dealt with long ago: a webhook has customers' names in it."""
        async with self._database.write() as tx:
            return await store.forget(tx, before=self._clock() - KEPT)

    async def _act(self, batch: Sequence[Claimed]) -> None:
        hints: dict[str, Hint] = {}
        for one in batch:
            try:
                hint = rules.hint(rules.read(one.body))
            except UnreadableError as error:
                await self._give_up(one, error.why)
                continue
            if hint is None:
                await self._finish(one, state="ignored")
            else:
                hints[one.unique_key] = hint
        unanswered = await self._refresh(list(hints.values()))
        for one in batch:
            wanted = hints.get(one.unique_key)
            if wanted is None:
                continue
            unknown = wanted.subscriptions & unanswered
            if unknown:
                await self._try_again(one, f"Lago did not answer about {', '.join(sorted(unknown))}.")
                continue
            try:
                await self._follow(one, wanted)
            except Exception as error:
                # The others of this batch are well; this one waits, and is seen when it never gets well.
                log.exception("Acting on a webhook failed.", action="webhook.failed", unique_key=one.unique_key)
                await self._try_again(one, repr(error)[:500])

    async def _refresh(self, hints: Sequence[Hint]) -> set[str]:
        """Ask Lago about the subscriptions that are named and known here, together; returns those it did not answer
        about. Before it is asked, what was known is no longer believed, so that nothing is decided by it meanwhile.
        """
        named = frozenset[str]().union(*(one.subscriptions for one in hints))
        customers = frozenset[str]().union(*(one.customers for one in hints))
        if not named and not customers:
            return set()
        async with self._database.write() as tx:
            known = await store.known(tx, named)
            theirs = await store.subscriptions_of(tx, customers)
            await forget_freshness(tx, known | theirs, now=self._clock())
        return set(known - await self._subscriptions.refresh(known)) if known else set()

    async def _follow(self, one: Claimed, hint: Hint) -> None:
        now = self._clock()
        async with self._database.write() as tx:
            if not await store.finish(tx, one, state="done", dispatched_at=now, last_error=None):
                return
            known = await store.subscriptions_of(tx, hint.customers)
            if await store.settle_now(tx, hint.subscriptions | known, now):
                after_commit(tx, self._settle)
            if hint.events:
                await reconcile.report_errors(tx, hint.events, now)
                after_commit(tx, self._count)

    async def _finish(self, one: Claimed, *, state: str) -> None:
        async with self._database.write() as tx:
            await store.finish(tx, one, state=state, dispatched_at=self._clock(), last_error=None)

    async def _try_again(self, one: Claimed, why: str) -> None:
        pause = rules.pause_after(one.attempts, random.random())  # noqa: S311 - jitter
        if pause is None:
            await self._give_up(one, why)
            return
        async with self._database.write() as tx:
            await store.finish(tx, one, next_attempt_at=self._clock() + pause, last_error=why)
        log.warning(
            "A webhook waits to be acted on.",
            action="webhook.put_off",
            unique_key=one.unique_key,
            webhook_type=one.webhook_type,
            attempts=one.attempts,
            why=why,
        )

    async def _give_up(self, one: Claimed, why: str) -> None:
        async with self._database.write() as tx:
            await store.finish(tx, one, state="failed", last_error=why)
        log.error(
            "A webhook was given up; what it told is found by polling.",
            action="webhook.given_up",
            unique_key=one.unique_key,
            webhook_type=one.webhook_type,
            attempts=one.attempts,
            why=why,
        )
