"""When sessions began, by clocks that are wrong and by word that comes late: which tap they followed, and what that
proves of a charger that was told Blocked.
"""

from datetime import datetime, timedelta

import pytest

from services.preauth.decision.projections import session_started, session_stopped
from shared.contracts.events.sync import TransactionStarted
from shared.contracts.identity import IdTag
from tests.integration.services.preauth.happening import CP, happen, intercepted, judge, session_at, stop
from tests.integration.services.preauth.sync_double import SyncDouble
from tests.integration.services.preauth.world import Preauth


@pytest.mark.parametrize(
    "off",
    [
        timedelta(seconds=-20),
        timedelta(minutes=-10),
        timedelta(hours=-1),
        timedelta(hours=-7),
        timedelta(days=-9000),
        timedelta(seconds=20),
        timedelta(hours=7),
    ],
    ids=str,
)
async def test_a_charger_whose_clock_is_wrong_is_found_out(preauth: Preauth, off: timedelta) -> None:
    """However far its clock is off: its sessions stand beside their taps, and Blocked is not ignored unseen."""
    assert await preauth.tap("04A1", CP) is None
    await preauth.until("SELECT FROM tap WHERE told = 'passed'")
    started = await session_at(preauth, 1, "04A1", preauth.clock() + off)
    assert preauth.rows("SELECT session FROM tap") == [{"session": "steve:1"}]
    await stop(preauth, started, energy_wh=10, after_s=1)
    await intercepted(preauth, "04B1")
    started = await session_at(preauth, 2, "04B1", preauth.clock() + off)
    preauth.clock.ahead += timedelta(minutes=30)
    await stop(preauth, started, energy_wh=9000, after_s=1800)
    await judge(preauth)
    assert preauth.rows("SELECT outcome, transaction_id FROM override_outcome") == [
        {"outcome": "ignored", "transaction_id": 2}
    ]
    assert preauth.rows("SELECT honours_override FROM charger") == [{"honours_override": "no"}]
    assert len(preauth.events("scan.interception_ignored")) == 1


async def seen_passing(preauth: Preauth, pk: int, began_at: datetime, *, ran_s: float, seen_for_s: float) -> None:
    """A session of the card that was scanned, as the gateway sees it: by its station's clock, and by ours."""
    async with preauth.service.database.write() as tx:
        await session_started(
            tx,
            charge_box_id=CP,
            transaction_id=pk,
            connector_id=1,
            id_tag=IdTag("04A1"),
            started_at=began_at,
            seen_at=preauth.clock(),
        )
    preauth.clock.ahead += timedelta(seconds=seen_for_s)
    async with preauth.service.database.write() as tx:
        await session_stopped(
            tx,
            charge_box_id=CP,
            transaction_id=pk,
            stopped_at=began_at + timedelta(seconds=ran_s),
            seen_at=preauth.clock(),
            live=True,
        )


@pytest.mark.parametrize("ago", [timedelta(hours=2), timedelta(hours=30)], ids=str)
@pytest.mark.parametrize("via_gateway", [False, True])
# How long it ran, and what passes between its two messages where sync looks there.
@pytest.mark.parametrize("lasts_s", [(3600, None), (3600, 95), (90, None), (90, 2)], ids=str)
async def test_a_session_of_long_ago_that_is_told_of_late_accuses_nobody(
    preauth: Preauth,
    sync: SyncDouble,
    ago: timedelta,
    via_gateway: bool,  # noqa: FBT001
    lasts_s: tuple[float, float | None],
) -> None:
    """A charger that was offline tells what it had done, just after the same card was scanned there: it had ended
    before, so nobody can say that Blocked was ignored, nor that it was honoured. Not even where sync looked just
    between its start and its end, and found it running, be it that it was a short one.
    """
    ran_s, told_for_s = lasts_s
    await intercepted(preauth)
    began_at = preauth.clock() - ago
    if via_gateway:
        await seen_passing(preauth, 1, began_at, ran_s=ran_s, seen_for_s=0.2)
    uploaded = TransactionStarted(
        session="steve:1", charge_box_id=CP, id_tag="04A1", connector_id=1, started_at=began_at, start_wh=1000
    )
    if told_for_s is not None:
        await session_at(preauth, 1, "04A1", began_at)
        # The end of a long one is told of after it would have been open for too long.
        preauth.clock.ahead += timedelta(seconds=told_for_s)
        sync.steve_at = preauth.clock()
        await judge(preauth)
    await stop(preauth, uploaded, energy_wh=9000, after_s=ran_s)
    for minutes in (1, 5):
        preauth.clock.ahead += timedelta(minutes=minutes)
        sync.steve_at = preauth.clock()
        await judge(preauth)
    assert preauth.rows("SELECT outcome FROM override_outcome") == [{"outcome": "explained"}]
    assert preauth.rows("SELECT honours_override FROM charger") == [{"honours_override": "unknown"}]
    assert preauth.events("scan.interception_ignored") == []


async def test_a_session_that_began_offline_and_goes_on_accuses_nobody(preauth: Preauth, sync: SyncDouble) -> None:
    """Begun two hours before the scan, told of just after it, and still running: it is not taken for one that ignored
    its Blocked, for which the watchdog would stop it. One that its station dates to the scan is.
    """
    await intercepted(preauth)
    offline = await session_at(preauth, 1, "04A1", preauth.clock() - timedelta(hours=2))
    await intercepted(preauth, "04B1")
    await session_at(preauth, 2, "04B1", preauth.clock() - timedelta(seconds=20))
    for _ in range(2):
        preauth.clock.ahead += timedelta(minutes=3)
        sync.steve_at = preauth.clock()
        await judge(preauth)
    assert preauth.rows("SELECT transaction_id FROM override_outcome WHERE outcome = 'ignored'") == [
        {"transaction_id": 2}
    ]
    await stop(preauth, offline, energy_wh=9000, after_s=7200 + 360)
    await judge(preauth)
    assert preauth.rows("SELECT outcome FROM override_outcome ORDER BY outcome") == [
        {"outcome": "explained"},
        {"outcome": "ignored"},
    ]
    assert len(preauth.events("scan.interception_ignored")) == 1


async def test_a_session_that_ran_before_the_gateways_eyes_counts_without_sync(preauth: Preauth) -> None:
    """Sync is away, and the station's clock is an hour slow: that the session began after the tap was seen."""
    await intercepted(preauth)
    await seen_passing(preauth, 1, preauth.clock() - timedelta(hours=1), ran_s=90, seen_for_s=91)
    await judge(preauth)
    assert preauth.rows("SELECT outcome FROM override_outcome") == [{"outcome": "ignored"}]


async def test_a_session_that_was_known_a_look_late_counts(preauth: Preauth) -> None:
    """Sync looks every 20 s: that its station, an hour slow, says that it ran for so much longer is no doubt."""
    await intercepted(preauth)
    preauth.clock.ahead += timedelta(seconds=20)
    started = await session_at(preauth, 1, "04A1", preauth.clock() - timedelta(hours=1, seconds=20))
    preauth.clock.ahead += timedelta(seconds=70)
    await stop(preauth, started, energy_wh=9000, after_s=90)
    await judge(preauth)
    assert preauth.rows("SELECT outcome FROM override_outcome") == [{"outcome": "ignored"}]


async def test_a_session_whose_start_came_before_the_tap_accuses_nobody(preauth: Preauth, sync: SyncDouble) -> None:
    """The card charges already, which sync tells only after its next tap was told Blocked: that one began nothing."""
    for start in (False, True):
        assert await preauth.tap("04A1", CP, start=start) is None
    await preauth.until("SELECT FROM tap WHERE told = 'passed' HAVING count(*) = 2")
    began_at = preauth.clock()
    preauth.clock.ahead += timedelta(seconds=60)
    await intercepted(preauth)
    await session_at(preauth, 1, "04A1", began_at)
    preauth.clock.ahead += timedelta(seconds=200)
    sync.steve_at = preauth.clock()
    await judge(preauth)
    assert preauth.rows("SELECT outcome FROM override_outcome") == [{"outcome": "explained"}]
    assert preauth.events("scan.interception_ignored") == []


async def test_the_tap_that_ended_a_session_did_not_begin_it(preauth: Preauth) -> None:
    """A card is tapped, charges, and is tapped again at once: the session stays beside the tap that it followed."""
    assert await preauth.tap("04A1", CP) is None
    await preauth.until("SELECT FROM tap WHERE told = 'passed'")
    preauth.clock.ahead += timedelta(seconds=5)
    started = await session_at(preauth, 1, "04A1", preauth.clock())
    preauth.clock.ahead += timedelta(seconds=20)
    assert await preauth.tap("04A1", CP) is None
    await preauth.until("SELECT FROM tap WHERE told = 'passed' HAVING count(*) = 2")
    await stop(preauth, started, energy_wh=10, after_s=20)
    assert preauth.rows("SELECT session FROM tap ORDER BY received_at") == [{"session": "steve:1"}, {"session": None}]


async def test_the_tap_that_ended_a_session_did_not_begin_it_either_where_sync_saw_only_its_end(
    preauth: Preauth,
) -> None:
    """A card is tapped, charges for a moment, and is tapped again, all before sync first looks."""
    assert await preauth.tap("04A1", CP) is None
    await preauth.until("SELECT FROM tap WHERE told = 'passed'")
    preauth.clock.ahead += timedelta(seconds=5)
    ended = TransactionStarted(
        session="steve:1", charge_box_id=CP, id_tag="04A1", connector_id=1, started_at=preauth.clock(), start_wh=1000
    )
    preauth.clock.ahead += timedelta(seconds=10)
    assert await preauth.tap("04A1", CP) is None
    await preauth.until("SELECT FROM tap WHERE told = 'passed' HAVING count(*) = 2")
    await stop(preauth, ended, energy_wh=10, after_s=10)
    assert preauth.rows("SELECT session FROM tap ORDER BY received_at") == [{"session": "steve:1"}, {"session": None}]


async def test_a_long_session_of_a_slow_clock_stands_beside_the_tap_after_its_beginning(preauth: Preauth) -> None:
    """Sync saw only its end. No tap so soon after its beginning can have ended it, so the tap before began nothing."""
    for passed in (1, 2):
        preauth.clock.ahead += timedelta(seconds=100)
        assert await preauth.tap("04A1", CP) is None
        await preauth.until("SELECT FROM tap WHERE told = 'passed' HAVING count(*) = %s", passed)
    began_at = preauth.clock() - timedelta(seconds=8)
    preauth.clock.ahead += timedelta(hours=2)
    ended = TransactionStarted(
        session="steve:1", charge_box_id=CP, id_tag="04A1", connector_id=1, started_at=began_at, start_wh=1000
    )
    await stop(preauth, ended, energy_wh=9000, after_s=3600)
    assert preauth.rows("SELECT session FROM tap ORDER BY received_at") == [{"session": None}, {"session": "steve:1"}]


@pytest.mark.parametrize(("seen_after_s", "lasts_s"), [(0, 20), (18, 40)])
async def test_the_start_of_a_short_session_that_is_heard_of_late_is_put_right_by_its_end(
    preauth: Preauth, seen_after_s: int, lasts_s: int
) -> None:
    """By then its card was tapped again, which ended it: that tap looked like the one that it followed."""
    assert await preauth.tap("04A1", CP) is None
    await preauth.until("SELECT FROM tap WHERE told = 'passed'")
    preauth.clock.ahead += timedelta(seconds=5)
    began_at = preauth.clock()
    preauth.clock.ahead += timedelta(seconds=lasts_s)
    assert await preauth.tap("04A1", CP) is None
    await preauth.until("SELECT FROM tap WHERE told = 'passed' HAVING count(*) = 2")
    started = TransactionStarted(
        session="steve:1", charge_box_id=CP, id_tag="04A1", connector_id=1, started_at=began_at, start_wh=1000
    )
    await happen(preauth, started, ahead=began_at + timedelta(seconds=seen_after_s) - preauth.clock())
    await stop(preauth, started, energy_wh=10, after_s=lasts_s)
    assert preauth.rows("SELECT session FROM tap ORDER BY received_at") == [{"session": "steve:1"}, {"session": None}]


async def test_a_session_that_sync_found_finished_stands_beside_its_tap(preauth: Preauth) -> None:
    """While sync was away a session began and ended: once told of, it is put beside its tap all the same."""
    assert await preauth.tap("04A1", CP) is None
    await preauth.until("SELECT FROM tap WHERE told = 'passed'")
    began_at = preauth.clock()
    preauth.clock.ahead += timedelta(hours=2)
    ended = TransactionStarted(
        session="steve:1", charge_box_id=CP, id_tag="04A1", connector_id=1, started_at=began_at, start_wh=1000
    )
    await stop(preauth, ended, energy_wh=10, after_s=60)
    assert preauth.rows("SELECT session FROM tap") == [{"session": "steve:1"}]
