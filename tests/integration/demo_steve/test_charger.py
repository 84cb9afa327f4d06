from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from deploy.demo.chargers.charger import Charger
from deploy.demo.chargers.session import Pace
from deploy.demo.chargers.wire import NoAnswerError
from deploy.demo.steve.simulator import SteveSimulator
from tests.integration.demo_steve.support import charger, settings_of, until


@pytest.fixture(autouse=True)
def card(steve: SteveSimulator) -> None:
    steve.state.add_tag("CARD")


async def test_it_boots_and_reports(steve: SteveSimulator) -> None:
    """On start it connects, boots, and reports every connector."""
    async with charger(steve) as station:
        assert station.registration == "Accepted"
        assert steve.stations.connected() == {"CP-1"}
        assert set(steve.state.chargers["CP-1"].connectors) == {0, 1, 2}
    await until(lambda: steve.stations.connected() == set(), what="the disconnection")


async def test_it_brings_its_credentials(steve: SteveSimulator) -> None:
    """With the right password it is admitted, with a wrong one the refusal is raised; any id goes."""
    steve.state.add_charger("DE*1 Süd", password="secret")
    async with Charger(replace(settings_of(steve, "DE*1 Süd"), password="secret")) as station:
        assert station.online
    with pytest.raises(InvalidStatus):
        await Charger(replace(settings_of(steve, "DE*1 Süd"), password="wrong")).start()


async def test_a_session(steve: SteveSimulator) -> None:
    """Tap, meter values, stop: SteVe has start, readings and end."""
    async with charger(steve) as station:
        told = await station.tap(1, "card")
        assert (told.authorize, told.start, told.charging) == ("Accepted", "Accepted", True)
        await station.meter(1, 4_000)
        await station.stop(1, energy_wh=12_400)
    row = steve.state.transactions[1]
    stop = row.stop
    assert stop is not None
    assert (row.id_tag, row.start_value, stop.value, stop.reason) == ("card", "1000", "13400", "Local")
    assert [one.value for one in steve.state.meter_values[1]] == ["5000"]


async def test_an_hour_in_a_moment(steve: SteveSimulator) -> None:
    """A fast session looks like the hour that just ended, ends by itself, and delivers what was planned."""
    pace = Pace(power_w=12_400, behind=timedelta(hours=1), factor=7_200, energy_wh=12_400, sample_s=0.05)
    async with charger(steve) as station:
        await station.tap(1, "CARD", pace=pace)
        await until(lambda: not steve.state.transactions[1].active, what="the full car")
    row = steve.state.transactions[1]
    stop = row.stop
    assert stop is not None
    assert (int(stop.value) - int(row.start_value), stop.reason) == (12_400, "EVDisconnected")
    assert timedelta(minutes=59) < stop.at - row.start_at < timedelta(minutes=61)
    readings = [int(one.value) for one in steve.state.meter_values[1]]
    assert len(readings) > 2
    assert readings == sorted(readings)


async def test_its_own_card_ends_the_session_unasked(steve: SteveSimulator) -> None:
    """The same card again stops the session, without any Authorize."""
    async with charger(steve) as station:
        await station.tap(1, "CARD")
        asked = steve.state.requests["ocpp:Authorize"]
        told = await station.tap(1, "card")
        assert told.stopped
        assert steve.state.requests["ocpp:Authorize"] == asked
        assert not steve.state.transactions[1].active


async def test_another_card_does_not_end_it(steve: SteveSimulator) -> None:
    """Another card is asked for, and the session goes on."""
    steve.state.add_tag("OTHER")
    async with charger(steve) as station:
        await station.tap(1, "CARD")
        told = await station.tap(1, "OTHER")
        assert (told.authorize, told.stopped) == ("Accepted", False)
        assert steve.state.transactions[1].active


async def test_a_refused_start_is_ended(steve: SteveSimulator) -> None:
    """Plugged in with a blocked card: a transaction without energy, ended as DeAuthorized."""
    steve.state.add_tag("BLOCKED", limit=0)
    async with charger(steve) as station:
        told = await station.tap(1, "BLOCKED", start_only=True)
    assert (told.authorize, told.start, told.charging) == (None, "Blocked", False)
    stop = steve.state.transactions[1].stop
    assert stop is not None
    assert (stop.reason, stop.value) == ("DeAuthorized", "1000")


async def test_the_same_card_at_two_chargers(steve: SteveSimulator) -> None:
    """The second start of a card with a limit of one is told ConcurrentTx, after an Accepted Authorize."""
    async with charger(steve) as station:
        await station.tap(1, "CARD")
        told = await station.tap(2, "CARD")
    assert (told.authorize, told.start, told.charging) == ("Accepted", "ConcurrentTx", False)


async def test_local_pre_authorize_skips_authorize(steve: SteveSimulator) -> None:
    """A known card starts without asking where the configuration says so."""
    settings = replace(
        settings_of(steve),
        configuration={"LocalPreAuthorize": "true", "AuthorizationCacheEnabled": "true"},
    )
    async with Charger(settings) as station:
        await station.tap(1, "CARD")
        await station.stop(1)
        told = await station.tap(1, "CARD")
        assert (told.authorize, told.start) == (None, "Accepted")
    assert steve.state.requests["ocpp:Authorize"] == 1


async def test_offline_sessions_are_uploaded_late(steve: SteveSimulator) -> None:
    """What happened offline arrives in order afterwards, with the times of then, and keys of now."""
    configuration = {"AllowOfflineTxForUnknownId": "true"}
    async with Charger(replace(settings_of(steve), configuration=configuration)) as station:
        await station.tap(1, "CARD")
        await station.go_offline()
        with pytest.raises(NoAnswerError):
            await station.heartbeat()
        await station.stop(1, energy_wh=2_000)
        told = await station.tap(2, "NEW-CARD")
        assert (told.offline, told.charging) == (True, True)
        await station.meter(2, 700)
        await station.stop(2, energy_wh=1_500)
        assert len(steve.state.transactions) == 1
        steve.state.add_transaction(charge_box_id="CP-2", id_tag="X", start_at=steve.state.clock(), start_wh=0)
        await station.go_online()
        assert station.state()["waiting_to_upload"] == 0
    late = steve.state.transactions[3]
    first, stop = steve.state.transactions[1].stop, late.stop
    assert first is not None
    assert stop is not None
    assert (first.value, stop.value) == ("3000", "2500")
    assert late.start_at < steve.state.transactions[2].start_at
    assert [one.value for one in steve.state.meter_values[3]] == ["1700"]


async def test_it_reconnects(steve: SteveSimulator) -> None:
    """After a lost connection it comes back by itself and goes on charging."""
    happenings: list[dict[str, Any]] = []
    async with Charger(replace(settings_of(steve), report=happenings.append)) as station:
        await station.tap(1, "CARD")
        await station.drop_connection()
        await until(lambda: station.online, what="the reconnection")
        await until(lambda: "CP-1" in steve.stations.connected(), what="the connection at SteVe")
        await station.stop(1, energy_wh=10)
    assert [one["what"] for one in happenings].count("connected") == 2
    assert not steve.state.transactions[1].active


async def test_it_keeps_trying_while_steve_is_away(steve: SteveSimulator) -> None:
    """A SteVe that is restarted finds its charger again, and the session that ended meanwhile."""
    async with charger(steve) as station:
        await station.tap(1, "CARD")
        await steve.stop_ocpp()
        await until(lambda: not station.online, what="the loss")
        await station.stop(1, energy_wh=500)
        await steve.start_ocpp()
        await until(lambda: not steve.state.transactions[1].active, what="the late stop", deadline_s=10)


@pytest.mark.parametrize(("limit", "told_late", "charging"), [(2, "Accepted", True), (1, "ConcurrentTx", False)])
async def test_a_lost_start_answer_is_repeated(
    steve: SteveSimulator, limit: int, told_late: str, *, charging: bool
) -> None:
    """The repeated StartTransaction makes no second row; the first one counts against a limit of one."""
    steve.state.add_tag("LIMITED", limit=limit)
    steve.faults.set("drop_after_commit", path="ocpp:StartTransaction", times=1)
    async with charger(steve) as station:
        told = await station.tap(1, "LIMITED")
        session = station.connectors[1].session
        assert (told.start, told.charging) == (None, True)
        assert session is not None
        await until(lambda: session.told is not None, what="the upload")
        assert (session.told, session.transaction_id) == (told_late, 1)
        await until(lambda: steve.state.transactions[1].active == charging, what="the outcome")
    assert len(steve.state.transactions) == 1
    assert steve.state.requests["ocpp:StartTransaction"] == 2


async def test_no_answer_to_authorize_is_no_session(steve: SteveSimulator) -> None:
    """A SteVe that answers Authorize with a CALLERROR leaves the driver standing."""
    steve.faults.set("5xx", path="ocpp:Authorize", times=1)
    async with charger(steve) as station:
        told = await station.tap(1, "CARD")
    assert (told.authorize, told.charging) == ("NoAnswer", False)


async def test_a_kept_refusal_refuses_while_online(steve: SteveSimulator) -> None:
    """A charger that caches a Blocked does not ask again, though SteVe would accept by now, until it forgets."""
    tag = steve.state.add_tag("BLOCKED", limit=0)
    settings = replace(settings_of(steve), refuses_from_cache=True, configuration={"AuthorizationCacheEnabled": "true"})
    async with Charger(settings) as station:
        first = await station.tap(1, "BLOCKED")
        tag.limit = 1
        second = await station.tap(1, "BLOCKED")
        station.cards.clear_cache()
        third = await station.tap(1, "BLOCKED")
    assert [(one.authorize, one.unasked, one.charging) for one in (first, second, third)] == [
        ("Blocked", False, False),
        ("Blocked", True, False),
        ("Accepted", False, True),
    ]
