"""How SteVe and Lago stand: noted at each call, kept in the database, told as events when it changes."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Final, get_args

from services.sync.upstreams import rules, store
from services.sync.upstreams.errors import NAMES, UpstreamError
from services.sync.upstreams.rules import Standing
from shared.bus.outbox import Outbox
from shared.contracts.events.sync import Upstream, UpstreamLost, UpstreamRecovered
from shared.contracts.identity import Actor, Cause
from shared.contracts.requests.sync import GetUpstreams, UpstreamList, UpstreamView
from shared.database.engine import Database, Write
from shared.runtime.clock import Clock, NewId
from shared.runtime.log import get_logger

log = get_logger(__name__)

Probe = Callable[[], Awaitable[object]]

UPSTREAMS: Final[tuple[Upstream, ...]] = get_args(Upstream)
WRITE_EVERY: Final = timedelta(seconds=5)
PROBE_AFTER: Final = timedelta(seconds=10)


class Health:
    """A supervised part. `note` is called by the clients and does no I/O."""

    name = "upstreams"

    def __init__(self, database: Database, outbox: Outbox, *, clock: Clock, new_id: NewId) -> None:
        self._database, self._outbox, self._clock, self._new_id = database, outbox, clock, new_id
        self._me = new_id()
        self._standings = {name: Standing("unknown", clock()) for name in UPSTREAMS}
        self._written: dict[Upstream, tuple[Standing, datetime]] = {}
        self._objections: dict[Upstream, dict[str, UpstreamError]] = {name: {} for name in UPSTREAMS}
        self._changed = asyncio.Event()
        self.probes: Mapping[Upstream, Probe] = {}

    def standing(self, upstream: Upstream) -> Standing:
        return self._standings[upstream]

    def note(self, upstream: Upstream, error: UpstreamError | None) -> None:
        """Take note of one call's outcome."""
        before = self._standings[upstream]
        objection = next(iter(self._objections[upstream].values()), None)
        now = rules.after(before, error or objection, self._clock())
        self._standings[upstream] = now
        if (now.state, now.reason) != (before.state, before.reason):
            self._changed.set()

    def object_to(self, upstream: Upstream, about: str, error: UpstreamError | None) -> None:
        """It answers, and still cannot be worked with, and why; until None is given about the same."""
        if error is not None:
            self._objections[upstream][about] = error
            self.note(upstream, error)
        elif self._objections[upstream].pop(about, None) is not None:
            self.note(upstream, None)

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self._probe()
            self._changed.clear()
            for upstream in UPSTREAMS:
                await self._write(upstream)
            waits = [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(self._changed.wait())]
            try:
                await asyncio.wait(waits, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()

    async def _probe(self) -> None:
        """Ask those whom nobody has asked for a while."""
        for upstream, probe in self.probes.items():
            checked = self._standings[upstream].checked_at
            if checked is None or self._clock() - checked >= PROBE_AFTER:
                try:
                    await probe()
                except UpstreamError as error:
                    # The client has noted it already.
                    log.debug("A probe failed.", action="upstream.probe_failed", upstream=upstream, error=str(error))

    async def _write(self, upstream: Upstream) -> None:
        standing, now = self._standings[upstream], self._clock()
        if standing.state == "unknown" or standing.checked_at is None:
            return
        if written := self._written.get(upstream):
            before, at = written
            # A loss is told again also while nobody asks: other replicas leave it alone for as long as that.
            if (before.state, before.reason) == (standing.state, standing.reason) and now - at < WRITE_EVERY:
                return
        async with self._database.write() as tx:
            await self._tell(tx, upstream, standing, first=written is None)
        self._written[upstream] = standing, now

    async def _tell(self, tx: Write, upstream: Upstream, standing: Standing, *, first: bool) -> None:
        """Write the standing; the event goes out where the house's state changes, not only this replica's."""
        assert standing.checked_at is not None  # noqa: S101 - see _write
        row = await store.locked(tx, upstream, self._me)
        if row is not None and row.anothers and row.state == "lost" and row.reason != standing.reason:
            # What this replica has not noticed, or calls by another name, is for the one to end that tells of it.
            return
        before = row.state if row is not None else "ok"
        since = row.since if row is not None and row.state == standing.state else standing.since
        await store.put(
            tx,
            upstream,
            state=standing.state,
            since=since,
            checked_at=standing.checked_at,
            reason=standing.reason,
            explanation=standing.explanation,
            by=self._me,
        )
        cause = Cause(actor=Actor(kind="upstream", id=upstream), correlation_id=self._new_id())
        changed = standing.state != before or (
            standing.state == "lost" and row is not None and row.reason != standing.reason
        )
        if standing.state == "lost" and changed:
            assert standing.reason is not None  # noqa: S101 - a loss has its reason (rules.after)
            assert standing.explanation is not None  # noqa: S101
            log.error(
                "An upstream is lost; its work waits.",
                action="upstream.lost",
                upstream=upstream,
                reason=standing.reason,
                explanation=standing.explanation,
            )
            await self._outbox.add(
                tx,
                UpstreamLost(upstream=upstream, since=since, reason=standing.reason, explanation=standing.explanation),
                cause,
            )
        elif changed and row is not None:
            log.info("An upstream is back.", action="upstream.recovered", upstream=upstream, first=first)
            await self._outbox.add(
                tx, UpstreamRecovered(upstream=upstream, since=standing.since, lost_since=row.since), cause
            )

    async def get_upstreams(self, _: GetUpstreams, __: Cause) -> UpstreamList:
        async with self._database.read() as tx:
            rows = {row.upstream: row for row in await store.all_rows(tx)}
        views = []
        for name in UPSTREAMS:
            row = rows.get(name)
            if row is None:
                since = self._standings[name].since
                words = f"{NAMES[name]} has not been asked yet."
                views.append(
                    UpstreamView(upstream=name, state="unknown", since=since, checked_at=None, explanation=words)
                )
            else:
                views.append(
                    UpstreamView(
                        upstream=name,
                        state=row.state,
                        since=row.since,
                        checked_at=row.checked_at,
                        reason=row.reason,
                        explanation=row.explanation,
                    )
                )
        return UpstreamList(upstreams=views)
