"""Group commit: whatever waits goes in one statement, and the next one leaves as soon as it is back.

One connection of its own, apart from the service's pool, so that no page and no export ever delays a tap.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import psycopg
from prometheus_client import CollectorRegistry, Gauge, Histogram

from services.preauth.decision import statement
from services.preauth.decision.statement import Answered, Decided, Waiting, Windows
from shared.database.engine import conninfo, is_busy, is_unavailable
from shared.runtime.log import get_logger

log = get_logger(__name__)

MOST_TAPS: Final = 256
MOST_ANSWERS: Final = 512
PING_S: Final = 1.0
# What was told waits for this long at most in a database that stumbles; the sweeper leaves it more than that.
OUTAGE_S: Final = 2.5
CONNECT_TIMEOUT_S: Final = 3
# Taps that depend on another's answer go again after this: without it they would spin.
AGAIN_AFTER_S: Final = 0.002
KEPT_ANSWERS: Final = 100_000

# The server gives up long after the deadline of each tap, and long before it would hold everybody up for good. The plan
# is made once (a generic one: the arrays' sizes say nothing), and never a sequential one: the tables are empty when it
# is made, and are not when it is used.
OPTIONS: Final = (
    "-c application_name=expressync-preauth-taps -c TimeZone=UTC -c search_path=preauth -c statement_timeout=2000"
    " -c lock_timeout=500 -c idle_in_transaction_session_timeout=5000 -c plan_cache_mode=force_generic_plan"
    " -c enable_seqscan=off -c jit=off"
)

Answer = asyncio.Future[Decided | None]


class GroupCommit:
    """Takes taps and answers, and writes them. A supervised part; `available` says whether waiting makes sense."""

    name = "taps"

    def __init__(self, database_url: str, *, windows: Windows, silent_s: float, registry: CollectorRegistry) -> None:
        self._conninfo = conninfo(database_url)
        self._sql = statement.flush_sql(windows)
        self._silent_s = silent_s
        self._taps: deque[tuple[Waiting, Answer]] = deque()
        self._answers: deque[Answered] = deque()
        self._wanted = asyncio.Event()
        self._connected = False
        self._asked_at: float | None = None
        self._written_at: float | None = None
        self._healthy_since = time.monotonic()
        self.on_written: Callable[[list[Answered]], None] = lambda _: None
        # Answers that will never be written: refused, or too many. The sweeper closes their rows as unknown.
        self.on_given_up: Callable[[list[Answered]], None] = lambda _: None
        self._size = Histogram(
            "tap_group_size", "Taps in one statement", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256), registry=registry
        )
        self._seconds = Histogram(
            "tap_group_seconds",
            "Duration of one statement",
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2),
            registry=registry,
        )
        self._waiting = Gauge("tap_answers_pending", "Answers not recorded yet", registry=registry)

    @property
    def available(self) -> bool:
        """Whether the database is there and not silent for too long: else taps pass without waiting for it."""
        silent = self._asked_at is not None and time.monotonic() - self._asked_at > self._silent_s
        return self._connected and not silent

    def healthy_for_s(self) -> float:
        """Seconds since when groups are written without an outage; 0 while the database does not answer."""
        return time.monotonic() - self._healthy_since if self.available else 0.0

    def submit(self, waiting: Waiting, answer: Answer) -> None:
        """Have a tap decided. `answer` gets the decision, or None where there is none; whoever waits may settle it."""
        self._taps.append((waiting, answer))
        self._wanted.set()

    def record(self, answered: Answered) -> None:
        """Have an answer recorded with the next group."""
        if len(self._answers) >= KEPT_ANSWERS:
            self.on_given_up([self._answers.popleft()])
        self._answers.append(answered)
        self._wanted.set()

    def pending(self) -> dict[UUID, datetime]:
        """Taps whose answer is known here and not written yet, and when they came."""
        return {row.tap_id: row.received_at for row in self._answers}

    async def run(self, stop: asyncio.Event) -> None:
        """Write groups until `stop`, and then what is left."""
        connection = await psycopg.AsyncConnection.connect(
            self._conninfo,
            autocommit=True,
            connect_timeout=CONNECT_TIMEOUT_S,
            options=OPTIONS,
            tcp_user_timeout=5000,
            keepalives_idle=5,
        )
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: self._wanted.set())
        try:
            # The first statement is planned now, not while a tap waits.
            await statement.flush(connection, self._sql, [], [])
            self._connected = True
            self._note_written()
            while not (stop.is_set() and not self._taps and not self._answers):
                await self._wait()
                await self._write_group(connection)
        finally:
            self._connected, self._asked_at = False, None
            stopping.cancel()
            while self._taps:
                _settle(self._taps.popleft()[1], None)
            with suppress(psycopg.Error):
                await connection.close()

    async def _wait(self) -> None:
        if self._taps or self._answers:
            return
        self._wanted.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(PING_S):
                await self._wanted.wait()

    async def _write_group(self, connection: psycopg.AsyncConnection[Any]) -> None:
        group = self._next_taps()
        answers = [self._answers[i] for i in range(min(len(self._answers), MOST_ANSWERS))]
        # With neither, this is the sign of life: a database that is frozen is noticed before a tap is.
        started = self._asked_at = time.monotonic()
        try:
            decided = await statement.flush(connection, self._sql, [one for one, _ in group], answers)
        except psycopg.Error as error:
            if is_unavailable(error) or connection.broken or is_busy(error):
                for _, answer in group:
                    _settle(answer, None)
                if is_busy(error) and not connection.broken:
                    self._asked_at = None
                    log.warning("The database gave a group of taps up.", action="tap.group_late", error=str(error))
                    return
                raise ConnectionError(f"the database left: {error}") from error
            self._asked_at = None
            await self._write_singly(connection, group, answers, error)
            return
        self._asked_at = None
        self._note_written()
        self._finish(group, decided, answers)
        if group:
            self._size.observe(len(group))
            self._seconds.observe(time.monotonic() - started)
        # Those who were answered now record what they told: their answers go with the next group.
        await asyncio.sleep(0)

    def _note_written(self) -> None:
        now = time.monotonic()
        if self._written_at is None or now - self._written_at > OUTAGE_S:
            self._healthy_since = now
        self._written_at = now

    def _next_taps(self) -> list[tuple[Waiting, Answer]]:
        group: list[tuple[Waiting, Answer]] = []
        while self._taps and len(group) < MOST_TAPS:
            one = self._taps.popleft()
            if not one[1].done():
                group.append(one)
        return group

    def _finish(self, group: list[tuple[Waiting, Answer]], decided: list[Decided], answers: list[Answered]) -> None:
        for row in decided:
            waiting, answer = group[row.place]
            if row.again:
                asyncio.get_running_loop().call_later(AGAIN_AFTER_S, self.submit, waiting, answer)
            else:
                _settle(answer, row)
        for _ in answers:
            self._answers.popleft()
        self._waiting.set(len(self._answers))
        if answers:
            self.on_written(answers)

    async def _write_singly(
        self,
        connection: psycopg.AsyncConnection[Any],
        group: list[tuple[Waiting, Answer]],
        answers: list[Answered],
        error: psycopg.Error,
    ) -> None:
        """One row spoiled the group: find it, so that the others do not suffer for it."""
        log.error("A group of taps was refused; each is written alone.", action="tap.group_refused", error=str(error))
        parts: list[tuple[list[tuple[Waiting, Answer]], list[Answered]]] = [([one], []) for one in group]
        parts += [([], [one]) for one in answers]
        for taps, told in parts:
            self._asked_at = time.monotonic()
            try:
                decided = await statement.flush(connection, self._sql, [one for one, _ in taps], told)
            except psycopg.Error as alone:
                if is_unavailable(alone) or connection.broken:
                    raise ConnectionError(f"the database left: {alone}") from alone
                if is_busy(alone):
                    # No row's fault. What was told is still first among the answers, and goes with a later group.
                    for _, answer in group:
                        _settle(answer, None)
                    log.warning("The database gave a group of taps up.", action="tap.group_late", error=str(alone))
                    return
                # A traceback would keep those who wait waiting, and says no more than the error.
                log.error(  # noqa: TRY400
                    "The database refused a tap.",
                    action="tap.refused",
                    tap_ids=[str(one.tap_id) for one, _ in taps] + [str(one.tap_id) for one in told],
                    error=str(alone),
                )
                for _, answer in taps:
                    _settle(answer, None)
                for _ in told:
                    self._answers.popleft()
                self.on_given_up(told)
            else:
                self._finish(taps, decided, told)
            finally:
                self._asked_at = None


def _settle(answer: Answer, row: Decided | None) -> None:
    if not answer.done():
        answer.set_result(row)
