"""Is this still the SteVe that `steve_id` names? Asked before anything is believed of it or written to it."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from services.sync.sessions import store
from services.sync.steve.client import SteveClient
from services.sync.steve.models import Transaction
from services.sync.upstreams.errors import MisconfiguredError, UpstreamError
from shared.database.engine import Database
from shared.runtime.clock import Clock

BELIEVED_FOR: Final = timedelta(seconds=60)
# The same where asking is costly: SteVe lists all transactions to tell the highest id.
COSTLY_BELIEVED_FOR: Final = timedelta(minutes=10)
# The newest transactions of so many cards are compared: deleting a tag in SteVe deletes its transactions (facts 6).
CARDS_COMPARED: Final = 5
# That all of them are gone at once is believed of so few cards, and no more.
CARDS_THAT_MAY_GO: Final = 2


class AnotherSteveError(Exception):
    """The same id names another transaction: this is not the database that `steve_id` was given to."""

    def __init__(self, steve_id: str, explanation: str) -> None:
        super().__init__(
            f"is not the SteVe database called {steve_id}: {explanation}. Point to the right one, or give this one"
            " a name of its own (EXPRESSYNC_SYNC_STEVE_ID). Nothing was read from it or written to it"
        )


def compare(steve_id: str, row: Any, one: Transaction) -> None:  # noqa: ANN401 - a row of session
    """What never changes in SteVe. Another database fills the same ids with other transactions.

    :raises AnotherSteveError:
    """
    if (row.charge_box_id, row.started_at) != (one.charge_box_id, one.start_timestamp):
        raise AnotherSteveError(
            steve_id,
            f"its transaction {one.pk} began at {one.start_timestamp:%Y-%m-%d %H:%M:%S} UTC on {one.charge_box_id},"
            f" and the one known by that id at {row.started_at:%Y-%m-%d %H:%M:%S} UTC on {row.charge_box_id}",
        )


class Identity:
    """`object_to` makes a fault of configuration of it, which stays until the right SteVe answers."""

    def __init__(
        self,
        steve: SteveClient,
        database: Database,
        *,
        steve_id: str,
        clock: Clock,
        object_to: Callable[[UpstreamError | None], None],
    ) -> None:
        self._steve, self._database, self._steve_id = steve, database, steve_id
        self._clock, self._object_to = clock, object_to
        self._confirmed_until = self._gone_until = clock()
        self._urgent: asyncio.Task[UpstreamError | None] | None = None

    async def close(self) -> None:
        if self._urgent is not None:
            self._urgent.cancel()
            await asyncio.wait([self._urgent])

    async def check_newest_gone(self, *, newer: bool) -> None:
        """The newest transaction that is known is not there: compare others, unless that was done a moment ago and
        there are no newer ones. Errors as in `check`.
        """
        if newer or self._clock() >= self._gone_until:
            await self.check(again=True)

    async def check(self, *, urgent: bool = False, again: bool = False) -> None:
        """Compare, unless it was found to be the same a moment ago; `again`: even then. `urgent`: somebody waits, and
        may give up. It goes on all the same, for whoever comes next: what SteVe needs long for would never be done.

        :raises MisconfiguredError: it is another one.
        :raises UpstreamError: it does not answer.
        """
        if not again and self._clock() < self._confirmed_until:
            return
        if not urgent:
            await self._check(urgent=False)
            return
        if self._urgent is None or self._urgent.done():
            self._urgent = asyncio.create_task(self._checked())
        asked = self._urgent
        await asyncio.wait([asked])
        if (error := asked.result()) is not None:
            raise error

    async def _checked(self) -> UpstreamError | None:
        """Returns what there is to raise: perhaps nobody waits for it any more."""
        try:
            await self._check(urgent=True)
        except UpstreamError as error:
            return error
        return None

    async def _check(self, *, urgent: bool) -> None:
        try:
            believed_for = await self._compare(urgent=urgent)
        except AnotherSteveError as error:
            raise self.refused(error) from error
        if believed_for > BELIEVED_FOR:
            self._gone_until = self._clock() + believed_for
        self.confirmed(believed_for)

    def confirmed(self, believed_for: timedelta = BELIEVED_FOR) -> None:
        """It has just shown a transaction that only the right one has."""
        self._confirmed_until = self._clock() + believed_for
        self._object_to(None)

    def refused(self, error: AnotherSteveError) -> MisconfiguredError:
        """It has just shown one that the right one does not have; returns what is to be raised."""
        self._confirmed_until = self._gone_until = self._clock()
        fault = MisconfiguredError("steve", "another_steve", str(error))
        self._object_to(fault)
        return fault

    async def _compare(self, *, urgent: bool) -> timedelta:
        async with self._database.read() as tx:
            row = await store.cursor_row(tx, self._steve_id)
            known = {one.transaction_pk: one for one in await store.newest_of_cards(tx, self._steve_id, CARDS_COMPARED)}
        if row is None or not known:
            return BELIEVED_FOR
        found = await self._steve.transactions(sorted(known), urgent=urgent)
        for one in found:
            compare(self._steve_id, known[one.pk], one)
        if any(one.pk == row.cursor for one in found):
            return BELIEVED_FOR
        # The newest one is gone: deleted with its tag, or this is another database, or an older state of the right one.
        highest = await self._steve.highest_pk()
        if highest < row.cursor:
            what = f"its highest transaction is {highest}, and {row.cursor} has been seen"
            raise AnotherSteveError(self._steve_id, what)
        if not found and len(known) > CARDS_THAT_MAY_GO:
            raise AnotherSteveError(self._steve_id, f"it has none of the {len(known)} transactions that were compared")
        return COSTLY_BELIEVED_FOR
