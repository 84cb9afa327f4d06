"""Looking for transactions in SteVe so that none is lost (facts: "Polling that loses nothing")."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from services.sync.sessions import store
from services.sync.sessions.identity import AnotherSteveError, Identity
from services.sync.sessions.observe import Answer, Observed, Observer
from services.sync.steve.client import MOST_PKS, SteveClient
from services.sync.steve.models import HIGHEST_PK
from services.sync.upstreams.errors import UpstreamError, not_read
from shared.database.engine import Database
from shared.runtime.clock import Clock
from shared.runtime.log import get_logger

log = get_logger(__name__)

# Ids are given before rows are committed: a hole is asked for again this long.
GAP_KEPT: Final = timedelta(minutes=10)
# What stays open for days, or was stopped by hand, may change at any time, but need not be seen within seconds.
RECENT: Final = timedelta(hours=48)
ALL_WATCHED_EVERY: Final = timedelta(seconds=60)
# A jump of ids past the page that is looked at shows in the transactions that are open now.
JUMP_EVERY: Final = timedelta(seconds=30)
# How long a station's own stop is waited for after one by hand; one that comes later is found by the sweep.
MANUAL_FOR: Final = timedelta(days=7)
MOST_WATCHED: Final = 20_000
# Reading a long past, what happens at the chargers now is looked for this often.
LOOK_BETWEEN_S: Final = 5.0


Progress = Callable[[Iterable[int], int, int | None], Awaitable[None]]
"""Called after each page: the sessions with news, how many transactions were read, and how many ids are still to be
asked for, where that is known.
"""


class Poller:
    def __init__(
        self,
        steve: SteveClient,
        database: Database,
        observer: Observer,
        identity: Identity,
        *,
        steve_id: str,
        page_size: int,
        open_for: timedelta,
        clock: Clock,
        object_to: Callable[[UpstreamError | None], None],
    ) -> None:
        self._steve, self._database, self._observer, self._identity = steve, database, observer, identity
        self._steve_id, self._open_for, self._clock, self._object_to = steve_id, open_for, clock, object_to
        # One by one, a page is not to take minutes.
        self._page_size = page_size if steve.version.takes_lists else min(page_size, 10)
        # How far past the cursor a look reaches: its own transaction is asked for along with them.
        self._ahead = min(self._page_size, MOST_PKS - 1)
        self._all_watched_at: datetime | None = None
        self._jump_at: datetime | None = None
        self._sweep_to: int | None = None
        self._wanted: set[int] = set()
        self._looked_at = 0.0

    def want(self, pk: int) -> None:
        """It has just changed: it is among those that are asked about again next, whatever its age."""
        if 0 < pk <= HIGHEST_PK:
            self._wanted.add(pk)

    async def poll(self) -> None:
        """One look: past the cursor until there is nothing more, then at what may still change.

        :raises UpstreamError: SteVe does not answer, or is another one; what was read before is kept.
        """
        await self.look_for_new(_silent)
        await self.look_at_open(_silent)

    async def look_for_new(self, progress: Progress) -> None:
        """Read what lies past the cursor, until there is nothing more. Errors as in `poll`."""
        self._looked_at = asyncio.get_running_loop().time()
        with self._reading():
            await self._begin(progress)
            while True:
                observed, more = await self._past_cursor()
                await progress(observed.news(), observed.seen, None)
                if not more:
                    break
                await self._look_between(progress)
            await self._look_for_jump(progress)

    async def look_at_open(self, progress: Progress) -> None:
        """Ask again about what may still change. Errors as in `poll`."""
        with self._reading():
            wanted, self._wanted = self._wanted, set()
            try:
                await self.reread([*wanted, *(pk for pk in await self._watched() if pk not in wanted)], progress)
            except BaseException:
                # Nobody knows which of them were asked about.
                self._wanted |= wanted
                raise

    async def sweep(self, progress: Progress, *, until: Callable[[], bool]) -> bool:
        """Read every id there ever was, page by page, going on where the last sweep broke off, until `until()` says so;
        True: it is through. Errors as in `poll`.
        """
        with self._reading():
            async with self._database.read() as tx:
                row = await store.cursor_row(tx, self._steve_id)
            if row is None:
                return True
            if self._sweep_to is None:
                self._sweep_to = await self._steve.highest_pk()
            highest = max(row.cursor, self._sweep_to)
            first = row.sweep_pk + 1
            # Up to here gaps are noted, or none are to be: as in `_walk`, also past the slice before.
            noted = max(row.cursor, highest - self._page_size)
            while first <= highest:
                last = min(first + self._page_size - 1, highest)
                answer = await self._ask(range(first, last + 1))
                observed = Observed()
                if found := [one.pk for one in answer.transactions]:
                    past = [pk for pk in found if pk > row.cursor]
                    observed = await self._observe(answer, asked=[*past, *range(noted + 1, last + 1)])
                    noted = max(noted, found[-1])
                async with self._database.write() as tx:
                    await store.set_cursor(tx, self._steve_id, sweep_pk=last)
                await progress(observed.news(), observed.seen, highest - last)
                first = last + 1
                if first <= highest and until():
                    return False
            self._sweep_to = None
            async with self._database.write() as tx:
                await store.set_cursor(tx, self._steve_id, sweep_pk=0, swept_at=self._clock())
            return True

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Another SteVe, or one that refuses what it is read by, is a fault of configuration."""
        with not_read("transactions", self._object_to):
            try:
                yield
            except AnotherSteveError as error:
                raise self._identity.refused(error) from error

    async def hold_stuck(self) -> int:
        """Have sessions looked at that are open for longer than they should be; returns how many."""
        now = self._clock()
        async with self._database.write() as tx:
            return await store.settle_stuck(tx, self._steve_id, started_before=now - self._open_for, at=now)

    async def reread(self, pks: Sequence[int], progress: Progress | None = None) -> None:
        """Ask SteVe again about these transactions."""
        left = len(pks)
        for some in batched_lists(pks, self._page_size):
            observed = await self._observe(await self._ask(some))
            left -= len(some)
            if progress is not None:
                await progress(observed.news(), observed.seen, left)

    async def _ask(self, pks: Sequence[int]) -> Answer:
        return await self._observer.ask(partial(self._steve.transactions, pks))

    async def _observe(self, answer: Answer, *, asked: Sequence[int] = ()) -> Observed:
        observed = await self._observer.observe(answer, asked=asked)
        self._wanted.update(observed.doubtful)
        return observed

    async def _look_between(self, progress: Progress) -> None:
        """Where there is much to read up to what is new, a session that begins or ends now does not wait for it. The
        cursor stays where the reading is.
        """
        time = asyncio.get_running_loop().time
        if not self._wanted and time() - self._looked_at < LOOK_BETWEEN_S:
            return

        async def news(pks: Iterable[int], _: int, __: int | None) -> None:
            # How far the reading has come, others say.
            await progress(pks, 0, None)

        observed = await self._observe(await self._observer.ask(self._steve.active_transactions))
        await news(observed.news(), 0, None)
        await self.look_at_open(news)
        self._looked_at = time()

    async def _begin(self, progress: Progress) -> None:
        """The first time: ids may begin anywhere, so go by the highest one there is."""
        async with self._database.read() as tx:
            if await store.cursor_row(tx, self._steve_id) is not None:
                return
        highest = await self._steve.highest_pk()
        if highest > self._ahead:
            await self._walk(0, highest, progress)

    async def _past_cursor(self) -> tuple[Observed, bool]:
        """The next page, and whether there may be another one right now."""
        async with self._database.read() as tx:
            row = await store.cursor_row(tx, self._steve_id)
            gaps = await store.gaps(tx, self._steve_id, limit=self._page_size)
        cursor = row.cursor if row is not None else 0
        # The cursor's own transaction comes along: it must still be the one it was.
        checked = [cursor] if cursor else []
        asked = list(range(cursor + 1, cursor + 1 + self._ahead))
        answer = await self._ask([*checked, *asked])
        fresh = [one for one in answer.transactions if one.pk > cursor]
        if len(fresh) < len(answer.transactions):
            observed = await self._observe(answer, asked=asked)
            self._identity.confirmed()
        else:
            # Its own transaction is gone: deleted with its tag (facts 6), or this is another database.
            if cursor:
                await self._identity.check_newest_gone(newer=bool(fresh))
            observed = await self._observe(answer, asked=asked) if fresh else Observed()
        observed.seen = len(fresh)
        if gaps:
            await self._fill(gaps)
        # What was asked for up to the end of the page came back: there may be more behind it.
        return observed, bool(fresh) and fresh[-1].pk > cursor + self._page_size // 2

    async def _fill(self, gaps: Sequence[int]) -> None:
        answer = await self._ask(gaps)
        if answer.transactions:
            await self._observe(answer)
        async with self._database.write() as tx:
            older, found = self._clock() - GAP_KEPT, [one.pk for one in answer.transactions]
            await store.close_gaps(tx, self._steve_id, found, older_than=older)

    async def _watched(self) -> list[int]:
        now = self._clock()
        everything = self._all_watched_at is None or abs(now - self._all_watched_at) >= ALL_WATCHED_EVERY
        async with self._database.read() as tx:
            if not everything:
                return await store.watched_closely(tx, self._steve_id, started_after=now - RECENT, limit=MOST_WATCHED)
            found = await store.watched(tx, self._steve_id, stopped_after=now - MANUAL_FOR, limit=MOST_WATCHED)
        self._all_watched_at = now
        return found

    async def _look_for_jump(self, progress: Progress) -> None:
        """Ids may jump further than a look reaches (a restored or moved database)."""
        now = self._clock()
        if self._jump_at is not None and abs(now - self._jump_at) < JUMP_EVERY:
            return
        self._jump_at = now
        async with self._database.read() as tx:
            row = await store.cursor_row(tx, self._steve_id)
        reach = (row.cursor if row is not None else 0) + self._ahead
        beyond = [one for one in await self._steve.active_transactions() if one.pk > reach]
        if beyond:
            log.warning("Transaction ids jumped.", action="sessions.ids_jumped", reach=reach, first=beyond[-1].pk)
            await self._walk(reach, max(one.pk for one in beyond), progress)

    async def _walk(self, after: int, to: int, progress: Progress) -> None:
        """Read every id in a range, page by page, and move the cursor along. A page is asked for while the one before
        it is written down.

        What is missing among the last ids may be on its way to being committed. What is missing before, in a past of
        years, was deleted.
        """
        pages = batched_lists(range(after + 1, to + 1), self._page_size)
        coming = asyncio.ensure_future(self._ask(pages[0])) if pages else None
        missing: list[int] = []
        try:
            for number, page in enumerate(pages, start=1):
                assert coming is not None  # noqa: S101 - there are pages
                answer = await coming
                more = number < len(pages)
                coming = asyncio.ensure_future(self._ask(pages[number])) if more else None
                missing += [pk for pk in page if pk > to - self._page_size]
                if found := [one.pk for one in answer.transactions]:
                    last = found[-1]
                    observed = await self._observe(answer, asked=[*found, *missing])
                    missing = [pk for pk in missing if pk > last]
                    await progress(observed.news(), observed.seen, max(to - after - number * self._page_size, 0))
                await self._look_between(progress)
        finally:
            if coming is not None:
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)


async def _silent(_: Iterable[int], __: int, ___: int | None) -> None:
    """Nobody wants to know."""


def batched_lists(pks: Sequence[int], size: int) -> list[list[int]]:
    return [list(pks[start : start + size]) for start in range(0, len(pks), size)]
