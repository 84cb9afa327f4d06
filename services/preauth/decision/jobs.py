"""What happens to taps after their answer: matches recorded, forgotten rows closed, the spool replayed, months kept."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from prometheus_client import CollectorRegistry, Counter, Gauge
from sqlalchemy.exc import DBAPIError

from services.preauth.clocks import Clocks
from services.preauth.decision import store
from services.preauth.decision.group import GroupCommit
from services.preauth.decision.spool import Gap, Spool, Spooled
from services.preauth.decision.tap import MatchAnswered
from shared.bus.outbox import Outbox
from shared.contracts.events.preauth import PairingCancelled, ScanIntercepted
from shared.contracts.identity import Actor, Cause
from shared.database.engine import Database, Write, after_commit, is_busy, is_unavailable
from shared.runtime.clock import Clock, NewId
from shared.runtime.log import get_logger

log = get_logger(__name__)

CLOSE_AFTER: Final = timedelta(seconds=5)
REPLAY_AT_ONCE: Final = 500
MONTHS_AHEAD: Final = 2
RETRY_S: Final = 0.2


class Matches:
    """Records, in order, what was told about taps that matched. Only here does a scan become a fact."""

    name = "matches"

    def __init__(self, database: Database, outbox: Outbox, *, clock: Clock, new_id: NewId) -> None:
        self._database, self._outbox, self._clock, self._new_id = database, outbox, clock, new_id
        self._waiting: deque[MatchAnswered] = deque()
        self._wanted = asyncio.Event()
        self.recorded: Callable[[MatchAnswered], None] = lambda _: None

    def add(self, answered: MatchAnswered) -> None:
        self._waiting.append(answered)
        self._wanted.set()

    def pending(self) -> dict[UUID, datetime]:
        return {answered.decision.tap_id: answered.decision.received_at for answered in self._waiting}

    async def run(self, stop: asyncio.Event) -> None:
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: self._wanted.set())
        try:
            while not (stop.is_set() and not self._waiting):
                if self._waiting:
                    await self._record_first()
                else:
                    self._wanted.clear()
                    await self._wanted.wait()
        finally:
            stopping.cancel()

    async def _record_first(self) -> None:
        answered = self._waiting[0]
        try:
            await self._record(answered)
        except Exception as error:
            if is_unavailable(error) or is_busy(error):
                # Known and not written: it stays first, and the sweeper leaves it alone.
                await asyncio.sleep(RETRY_S)
                return
            log.exception("A match was not recorded.", action="tap.match_lost", tap_id=str(answered.decision.tap_id))
        self._waiting.popleft()
        self.recorded(answered)

    async def _record(self, answered: MatchAnswered) -> None:
        async with self._database.write() as tx:
            closed, pairing = await store.close_match(tx, answered)
            if closed is None:
                log.warning(
                    "What was told came after the tap had been closed.",
                    action="tap.closed_before",
                    tap_id=str(answered.decision.tap_id),
                )
                return
            await store.tell_decided(tx, [closed], new_id=self._new_id, at=self._clock())
            if pairing is not None and pairing.state == "void":
                await _tell_void(self._outbox, tx, [pairing])
            elif pairing is not None:
                await self._outbox.add(
                    tx,
                    ScanIntercepted(
                        charge_box_id=closed.charge_box_id,
                        connector_id=closed.connector_id,
                        id_tag=closed.id_tag,
                        pairing_id=pairing.pairing_id,
                        purpose=pairing.purpose,
                        tap_id=closed.tap_id,
                        told_at=answered.told_at,
                        via=closed.via,
                    ),
                    Cause(actor=Actor(kind="charger", id=closed.charge_box_id), correlation_id=pairing.correlation_id),
                )
            after_commit(tx, self._outbox.wake)


class Sweeper:
    """Closes rows whose answer was never recorded: told unknown, pairing void, nobody logged in."""

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        group: GroupCommit,
        matches: Matches,
        clocks: Clocks,
        *,
        clock: Clock,
        new_id: NewId,
    ) -> None:
        self._database, self._outbox, self._group, self._matches = database, outbox, group, matches
        self._clocks, self._clock, self._new_id = clocks, clock, new_id

    async def sweep(self) -> int:
        """One turn; returns how many taps were closed."""
        # After an outage every replica first gets as long to write down what it told.
        if self._group.healthy_for_s() < CLOSE_AFTER.total_seconds():
            return 0
        at = self._clock()
        async with self._database.write() as tx:
            since = await store.swept_until(tx)
            if since is None:
                return 0
            until = await self._clocks.past(tx) - CLOSE_AFTER
            if since >= until:
                # A replica came whose clock is further behind than any before: its taps are still to come.
                await store.sweep_from(tx, until)
                return 0
            closed, voided = await store.close_unanswered(
                tx,
                since=since,
                until=until,
                but=self._group.pending() | self._matches.pending(),
                at=at,
            )
            await store.tell_decided(tx, closed, new_id=self._new_id, at=at)
            await _tell_void(self._outbox, tx, voided)
            after_commit(tx, self._outbox.wake)
        if closed or voided:
            log.warning(
                "Taps were closed whose answer was never recorded.",
                action="tap.closed_unknown",
                taps=len(closed),
                pairings=len(voided),
            )
        return len(closed)


class Replay:
    """Brings the spool into the journal as soon as the database is back. `written` takes the rows further, with them in
    one transaction.
    """

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        group: GroupCommit,
        spool: Spool,
        *,
        clock: Clock,
        new_id: NewId,
        registry: CollectorRegistry,
    ) -> None:
        self._database, self._outbox, self._group, self._spool = database, outbox, group, spool
        self._clock, self._new_id = clock, new_id
        self._bytes = Gauge("tap_spool_bytes", "Taps that wait for the database", registry=registry)
        gaps = Counter("tap_gap_taps_total", "Taps that are in no journal", registry=registry)
        self.written: Callable[[Write, Sequence[store.Row]], Awaitable[None]] | None = None
        # At once: while the database is away, nothing else tells of them.
        spool.on_miss = gaps.inc

    async def replay(self) -> int:
        """Write what waits; returns how many taps were written."""
        self._spool.prepare()
        self._bytes.set(len(self._spool))
        if not self._group.available:
            return 0
        self._adopt()
        written = 0
        while self._group.available:
            spooled = self._spool.read(REPLAY_AT_ONCE)
            refused = await self._write(spooled) if spooled else []
            for one in refused:
                self._spool.miss(one.received_at, 1)
            if not self._spool.forget():
                break
            written += len(spooled)
        while (gap := self._spool.gap) is not None:
            await self._write_gap(gap)
        if written:
            log.info("Taps that the database had missed were written.", action="spool.replayed", taps=written)
        self._bytes.set(len(self._spool))
        return written

    def _adopt(self) -> None:
        try:
            adopted = self._spool.adopt()
        except OSError as error:
            log.warning("A spool file could not be opened.", action="spool.not_adopted", error=repr(error))
            return
        if adopted:
            log.info("Taps of an earlier process are written.", action="spool.adopted", files=adopted)

    async def _write(self, spooled: list[Spooled]) -> list[Spooled]:
        """Returns those that the database will never have.

        :raises DBAPIError: when they are to be written again, all of them: twice is harmless.
        """
        try:
            async with self._database.write() as tx:
                # First of all, because it updates taps, for which those wait that it waits for here.
                await store.in_turn_with_sessions(tx)
                rows, voided = await store.replay(tx, spooled)
                await store.tell_decided(tx, rows, new_id=self._new_id, at=self._clock())
                await _tell_void(self._outbox, tx, voided)
                if rows and self.written is not None:
                    await self.written(tx, rows)
                after_commit(tx, self._outbox.wake)
        except DBAPIError as error:
            if is_unavailable(error) or is_busy(error):
                raise
            if len(spooled) == 1:
                log.error("The database refused a spooled tap.", action="spool.refused", tap_id=str(spooled[0].tap_id))  # noqa: TRY400 - its text would carry the row
                return spooled
            # One row spoils the rest: find it, or they would all wait for ever.
            return [refused for one in spooled for refused in await self._write([one])]
        return []

    async def _write_gap(self, gap: Gap) -> None:
        async with self._database.write() as tx:
            await store.add_gap(tx, gap, why="The spool was full, or a tap in it could not be written or read.")
        self._spool.forget_gap(gap)
        log.error("Taps are in no journal.", action="spool.gap", taps=gap.taps)


class Months:
    """Keeps the journal's partitions."""

    def __init__(self, database: Database, *, clock: Clock, keep_days: int) -> None:
        self._database, self._clock, self._keep_days = database, clock, keep_days

    async def keep(self) -> None:
        async with self._database.write() as tx:
            changes = await store.keep_partitions(tx, now=self._clock(), ahead=MONTHS_AHEAD, keep_days=self._keep_days)
        for month, done in changes:
            log.info("A month of the journal was kept.", action="journal.partition", partition=month, done=done)


async def _tell_void(outbox: Outbox, tx: Write, pairings: Sequence[store.Row]) -> None:
    """These scans matched a card, and took none: nobody need wait for them any more."""
    for row in pairings:
        event = PairingCancelled(
            pairing_id=row.pairing_id, charge_box_id=row.charge_box_id, purpose=row.purpose, why="void"
        )
        cause = Cause(actor=Actor(kind="system", id="preauth"), correlation_id=row.correlation_id)
        await outbox.add(tx, event, cause)
