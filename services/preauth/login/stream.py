"""Waiting for a pairing to move: at once where this process recorded it, within a moment where another one did."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from uuid import UUID

from services.preauth.login import store
from shared.contracts.problem import Problem
from shared.database.engine import Database

LOOK_EVERY_S: Final = 0.25
MOST_WAITING: Final = 2_000
MOST_PER_PAIRING: Final = 4


class TooManyWaiting(Problem):
    code, status, title = "too_many_waiting", 503, "Too many pages wait"


class Watch:
    """One look at the database for all pages that wait. A job of its own; costs nothing while nobody waits.

    Also a supervised part that lets the pages go at the stop: they come back by themselves, to another replica.
    """

    name = "pages.streams"

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[UUID, set[asyncio.Event]] = {}
        self._states: dict[UUID, tuple[str, int]] = {}
        self._count = 0
        self.ended = False

    async def run(self, stop: asyncio.Event) -> None:
        self.ended = False
        await stop.wait()
        self.ended = True
        for pairing_id in self._waiting:
            self.moved(pairing_id)

    @property
    def waiting(self) -> int:
        """How many pages wait."""
        return self._count

    @contextmanager
    def on(self, pairing_id: UUID) -> Iterator[asyncio.Event]:
        """An event that is set whenever the pairing may have moved.

        :raises TooManyWaiting: when too many wait, altogether or for this pairing.
        """
        here = len(self._waiting.get(pairing_id, ()))
        if self._count >= MOST_WAITING or here >= MOST_PER_PAIRING:
            raise TooManyWaiting("Many pages wait here. Close the others, and try again in a minute.")
        moved = asyncio.Event()
        self._waiting.setdefault(pairing_id, set()).add(moved)
        self._count += 1
        try:
            yield moved
        finally:
            self._count -= 1
            self._waiting[pairing_id].discard(moved)
            if not self._waiting[pairing_id]:
                del self._waiting[pairing_id]
                self._states.pop(pairing_id, None)

    def moved(self, pairing_id: UUID) -> None:
        """Say that the pairing moved, where it is known before the next look."""
        for event in self._waiting.get(pairing_id, ()):
            event.set()

    async def look(self) -> None:
        if not self._waiting:
            return
        async with self._database.read() as tx:
            found = await store.states(tx, list(self._waiting))
        for pairing_id, state in found.items():
            if self._states.get(pairing_id) != state and pairing_id in self._waiting:
                self._states[pairing_id] = state
                self.moved(pairing_id)
