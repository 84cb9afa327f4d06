"""Deletes what nobody asks for any more: with the journal what belongs to it, and logins and devices in their time."""

from datetime import timedelta

from services.preauth.decision import store as journal
from services.preauth.login import store as login
from services.preauth.pairing import browsers, pins
from services.preauth.pairing import store as pairing
from shared.database.engine import Database
from shared.runtime.clock import Clock


class Housekeeping:
    def __init__(
        self, database: Database, *, clock: Clock, journal_days: int, logins_days: int, devices_days: int
    ) -> None:
        self._database, self._clock = database, clock
        self._journal, self._logins = timedelta(days=journal_days), timedelta(days=logins_days)
        self._devices = timedelta(days=devices_days)

    async def forget(self) -> None:
        """One turn. A step of its own for each, so that one that is refused holds up no other for long."""
        now = self._clock()
        steps = (
            # A tap is explained by its pairing, so that goes with it.
            (pairing.forget, self._journal),
            (journal.forget_gaps, self._journal),
            (login.forget, self._logins),
            (login.forget_devices, self._devices),
            (pins.forget, self._devices),
            (browsers.forget, self._devices),
        )
        for forget, kept in steps:
            async with self._database.write() as tx:
                await forget(tx, now - kept)
