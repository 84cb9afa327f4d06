"""Takes what passes the gateway off its hands at once, and writes it down in batches beside the relay."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

from services.preauth.chargers import store
from services.preauth.chargers.seen import (
    Connected,
    Disconnected,
    RemoteStartPassed,
    RemoteStartRefused,
    Seen,
    SessionStarted,
    SessionStopped,
    StatusReported,
)
from services.preauth.decision.projections import (
    remote_start_asked,
    remote_start_refused,
    session_started,
    session_stopped,
)
from shared.bus.outbox import Outbox
from shared.contracts.event import Event
from shared.contracts.identity import Actor, Cause, id_tag_key
from shared.database.engine import Database, Write, is_busy, is_unavailable
from shared.runtime.clock import Clock, NewId
from shared.runtime.log import get_logger

log = get_logger(__name__)

# About a minute of a thousand chargers that all start at once, and some tens of megabytes at most.
MOST_WAITING: Final = 20_000
AT_ONCE: Final = 200
MOST_STATUSES: Final = 50_000
# The same status again within this time is not worth a write.
REPEATED_WITHIN: Final = timedelta(seconds=60)
# Waiting this long before a write lets what belongs together go together: a write costs the relay's loop more than
# what is written.
GATHER_S: Final = 0.1
RETRY_S: Final = (0.2, 0.5, 1.0, 2.0)
FINISH_WITHIN_S: Final = 1.5
# A replica that has not said so for this long is not alive any more.
DEAD_AFTER: Final = timedelta(seconds=60)
SESSIONS_KEPT: Final = timedelta(days=90)

_ACCEPTED: Final = "Accepted"


class Alive(Protocol):
    """A charger's socket, as the gateway knows it."""

    @property
    def charge_box_id(self) -> str: ...

    @property
    def connection_id(self) -> UUID: ...

    @property
    def subprotocol(self) -> str: ...

    @property
    def seen_at(self) -> datetime: ...

    @property
    def heartbeat_at(self) -> datetime | None: ...


class Observer:
    """A `Watcher`, and the supervised part that writes. `instance` is this process's name among the replicas.

    While the database is away what passes waits, up to a bound; beyond it the newest is dropped and counted. What a
    drop may have left wrong about connections `check` puts right, and SteVe's own record of sessions is sync's.
    """

    name = "chargers.observer"

    def __init__(self, database: Database, outbox: Outbox, *, instance: UUID, clock: Clock, new_id: NewId) -> None:
        self._database, self._outbox, self._instance = database, outbox, instance
        self._clock, self._new_id = clock, new_id
        self._waiting: deque[Seen] = deque()
        self._wake = asyncio.Event()
        self._came: dict[str, tuple[UUID, datetime]] = {}
        self._statuses: dict[tuple[str, int], tuple[datetime, tuple[str | None, ...]]] = {}
        self.dropped: Counter[str] = Counter()
        self.alive: Callable[[], Iterable[Alive]] = tuple

    def saw(self, seen: Seen) -> None:
        match seen:
            case StatusReported() if self._is_repeated(seen):
                return
            case Connected():
                self._came[seen.charge_box_id] = (seen.connection_id, seen.at)
            case Disconnected() if self._came.get(seen.charge_box_id, (None,))[0] == seen.connection_id:
                del self._came[seen.charge_box_id]
        if len(self._waiting) >= MOST_WAITING:
            if not self.dropped:
                log.error("What passed the gateway is not recorded: too much waits.", action="chargers.overflow")
            self.dropped[type(seen).__name__] += 1
            return
        self._waiting.append(seen)
        self._wake.set()

    def _is_repeated(self, seen: StatusReported) -> bool:
        """Some chargers report what nobody asked for, every few seconds.

        One that just came may have been elsewhere meanwhile, and have told another replica another status. Of what was
        told before this process's clock was set back nobody knows how long ago it was.
        """
        key = (seen.charge_box_id, seen.connector_id)
        state = (seen.status, seen.error_code, seen.vendor_error_code, seen.info)
        before = self._statuses.get(key)
        since = seen.at - REPEATED_WITHIN
        if (came := self._came.get(seen.charge_box_id)) is not None:
            since = max(since, came[1])
        if before is not None and before[1] == state and since < before[0] <= seen.at:
            return True
        if len(self._statuses) >= MOST_STATUSES:
            self._statuses.clear()
        self._statuses[key] = (seen.at, state)
        return False

    async def run(self, stop: asyncio.Event) -> None:
        """Write until `stop`, then what is left, as far as that takes no long time."""
        stopping = asyncio.ensure_future(stop.wait())
        failures = 0
        try:
            while not stop.is_set():
                waking = asyncio.ensure_future(self._wake.wait())
                await asyncio.wait({waking, stopping}, return_when=asyncio.FIRST_COMPLETED)
                waking.cancel()
                await _pause(stop, GATHER_S)
                failures = 0 if await self._write_some() else failures + 1
                if failures:
                    await _pause(stop, RETRY_S[min(failures, len(RETRY_S)) - 1])
            await self._finish()
        finally:
            stopping.cancel()

    async def check(self) -> None:
        """Say who is alive here, and close what a dead replica or a lost word left open. For every few seconds."""
        now = self._clock()
        tunnels = tuple(self.alive())
        async with self._database.write() as tx:
            await store.keep_alive(
                tx, self._instance, now, [(one.charge_box_id, one.seen_at, one.heartbeat_at) for one in tunnels]
            )
            known = await store.connections_of(tx, self._instance)
            gone = await store.orphans(tx, self._instance, [one.connection_id for one in tunnels], now, DEAD_AFTER)
            await store.bury(tx, now, DEAD_AFTER)
        for vanished in gone:
            self.saw(vanished)
        if not self._waiting:
            for one in tunnels:
                if one.connection_id not in known:
                    self.saw(
                        Connected(
                            charge_box_id=one.charge_box_id,
                            at=now,
                            connection_id=one.connection_id,
                            subprotocol=one.subprotocol,
                        )
                    )

    async def forget(self) -> None:
        """Delete sessions that nobody asks about any more. SteVe has them all."""
        async with self._database.write() as tx:
            await store.forget_sessions(tx, self._clock() - SESSIONS_KEPT)

    async def _finish(self) -> None:
        try:
            async with asyncio.timeout(FINISH_WITHIN_S):
                while self._waiting and await self._write_some():
                    pass
                async with self._database.write() as tx:
                    await store.leave(tx, self._instance)
        except Exception as error:  # noqa: BLE001 - the process ends; the next check of a replica cleans up
            log.warning("The last of what passed was not recorded.", action="chargers.unfinished", error=repr(error))

    async def _write_some(self) -> bool:
        """Write what has waited longest. False when it has to be tried again."""
        some = [self._waiting.popleft() for _ in range(min(len(self._waiting), AT_ONCE))]
        if not self._waiting:
            self._wake.clear()
        if not some:
            return True
        try:
            await self._write(some)
        except Exception as error:  # noqa: BLE001 - whatever it is, frames go on
            if _may_pass(error):
                self._write_later(some, error)
                return False
            return await self._write_one_by_one(some)
        except BaseException:
            self._waiting.extendleft(reversed(some))
            raise
        return True

    def _write_later(self, some: Sequence[Seen], error: Exception) -> None:
        self._waiting.extendleft(reversed(some))
        self._wake.set()
        log.warning("What passed waits for the database.", action="chargers.waiting", error=repr(error))

    async def _write_one_by_one(self, some: Sequence[Seen]) -> bool:
        """One of them cannot be written, whatever we do: it must not take the others with it."""
        for number, seen in enumerate(some):
            try:
                await self._write([seen])
            except Exception as error:  # noqa: BLE001 - said, counted, and left
                if _may_pass(error):
                    self._write_later(some[number:], error)
                    return False
                kind = type(seen).__name__
                self.dropped[kind] += 1
                log.error(  # noqa: TRY400 - the error is one of the database's, its trace says nothing
                    "What passed could not be recorded.", action="chargers.lost", kind=kind, error=repr(error)
                )
        return True

    async def _write(self, some: Sequence[Seen]) -> None:
        first_seen: dict[str, datetime] = {}
        transactions: set[tuple[str, int]] = set()
        for seen in some:
            first_seen.setdefault(seen.charge_box_id, seen.at)
            if isinstance(seen, SessionStarted | SessionStopped):
                transactions.add((seen.charge_box_id, seen.transaction_id))
        async with self._database.write() as tx:
            chargers = await store.lock(tx, first_seen, transactions)
            now = self._clock()
            events: list[tuple[Event, Cause]] = []
            for seen in some:
                actor = Actor(kind="charger", id=seen.charge_box_id)
                cause = Cause(actor=actor, correlation_id=self._new_id())
                events += [(event, cause) for event in chargers[seen.charge_box_id].apply(seen, now)]
                await self._tell_decision(tx, seen)
            await store.save(tx, chargers.values(), self._instance)
            await self._outbox.add_each(tx, events)

    async def _tell_decision(self, tx: Write, seen: Seen) -> None:
        """What a later tap's decision has to know."""
        match seen:
            case RemoteStartPassed():
                await remote_start_asked(
                    tx,
                    charge_box_id=seen.charge_box_id,
                    id_tag=id_tag_key(seen.id_tag),
                    at=seen.at,
                    remote_start_id=self._new_id(),
                )
            case RemoteStartRefused():
                await remote_start_refused(
                    tx, charge_box_id=seen.charge_box_id, id_tag=id_tag_key(seen.id_tag), at=seen.at
                )
            case SessionStarted() if seen.verdict == _ACCEPTED:
                # A refused start has its row in SteVe as well, but no session that a tap could stop.
                await session_started(
                    tx,
                    charge_box_id=seen.charge_box_id,
                    transaction_id=seen.transaction_id,
                    connector_id=seen.connector_id,
                    id_tag=id_tag_key(seen.id_tag),
                    started_at=seen.started_at,
                    seen_at=seen.at,
                )
            case SessionStopped():
                await session_stopped(
                    tx,
                    charge_box_id=seen.charge_box_id,
                    transaction_id=seen.transaction_id,
                    stopped_at=seen.stopped_at,
                    seen_at=seen.at,
                    live=True,
                )


def _may_pass(error: Exception) -> bool:
    return is_unavailable(error) or is_busy(error)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
