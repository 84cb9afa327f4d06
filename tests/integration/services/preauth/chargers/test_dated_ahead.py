"""Whatever a clock that was ahead gave a time still to come hides nothing of what comes after."""

from datetime import timedelta
from types import SimpleNamespace
from typing import cast

from services.preauth.chargers.jobs import Newcomers
from services.preauth.decision.projections import Projections
from shared.contracts.event import Envelope
from shared.runtime.clock import utc_now
from tests.databases import TestDatabase
from tests.integration.services.preauth.chargers.support import (
    Socket,
    Sync,
    Writing,
    booted,
    pre_authorize,
    readiness_of,
    reported,
    started_event,
    writing,
)
from tests.waiting import until as waited


async def test_what_a_replica_dated_ahead_hides_nothing(database: TestDatabase) -> None:
    """A replica's clock was an hour ahead, and it died. What passes another one then is known at once, what lived
    there only by its clock is gone, and readiness and liveness do not wait until the hour is over.
    """
    async with writing(database) as ahead, writing(database) as right:
        ahead.clock.ahead = timedelta(hours=1)
        lost, job = Socket("CP-1", seen_at=ahead.clock(), heartbeat_at=ahead.clock()), readiness_of(ahead, Sync())
        for seen in (lost.came(), booted("CP-1", ahead.clock()), reported("CP-1", "Faulted", ahead.clock())):
            ahead.observer.saw(seen)
        await waited(lambda: ahead.rows("SELECT FROM charger_connector WHERE status = 'Faulted'"))
        ahead.observer.alive = lambda: [lost]
        await ahead.observer.check()
        await job.ask()
        here = Socket("CP-1")
        for seen in (here.came(), booted("CP-1", utc_now()), reported("CP-1", "Available", utc_now())):
            right.observer.saw(seen)
        await waited(lambda: right.rows("SELECT FROM charger_connector WHERE status = 'Available'"))
        right.observer.alive = lambda: [here]
        await right.observer.check()
        await waited(lambda: right.rows("SELECT FROM charger_connection HAVING count(*) = 1"))
        asked = Sync(configuration=pre_authorize("false"))
        await readiness_of(right, asked).ask()
        assert len(asked.asked) == 1
        (known,) = await right.rows("SELECT * FROM charger")
        times = ("boot_at", "last_seen_at", "last_heartbeat_at", "ready_asked_at", "ready_checked_at")
        assert all(known[name] <= utc_now() for name in times), known


async def test_a_clock_that_was_set_back_repeats_nothing(one: Writing) -> None:
    """A status that a process told by a clock that was ahead was told nobody knows when: the same one is told again."""
    at = utc_now()
    one.observer.saw(reported("CP-1", "Available", at + timedelta(hours=1)))
    one.observer.saw(reported("CP-1", "Available", at))
    one.observer.saw(reported("CP-1", "Available", at + timedelta(seconds=1)))
    assert len(one.observer._waiting) == 2


async def test_sync_whose_clock_is_ahead_dates_nothing_ahead(one: Writing) -> None:
    """A session that sync saw by a clock that is ahead began, and its charger was heard of, when we were told."""
    event = started_event("CP-1", 1, one.clock())
    envelope = cast("Envelope", SimpleNamespace(time=one.clock() + timedelta(hours=1)))
    async with one.database.write() as tx:
        await Newcomers(one.database, clock=one.clock).session_started(tx, event, envelope)
        await Projections(one.database, clock=one.clock).transaction_started(tx, event, envelope)
    (known,) = await one.rows("SELECT last_seen_at, started_at FROM charger JOIN open_session USING (charge_box_id)")
    assert max(known.values()) <= one.clock()
