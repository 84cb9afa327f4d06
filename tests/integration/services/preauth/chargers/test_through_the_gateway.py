"""What is known of a charger that comes through the gateway, from its first socket to its last."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from deploy.demo.chargers.charger import Charger
from deploy.demo.chargers.settings import ChargerSettings
from deploy.demo.steve.settings import SteveSettings
from deploy.demo.steve.simulator import SteveSimulator, run_steve
from services.preauth.gateway.server import Gateway
from shared.contracts.requests.preauth import ArmPairing, GetCharger, ListChargers
from tests.databases import TestDatabase
from tests.integration.services.preauth.gateway.support import charger_socket, exchange
from tests.integration.services.preauth.world import Preauth, running


@pytest.fixture
async def steve() -> AsyncIterator[SteveSimulator]:
    async with run_steve(SteveSettings(auth_delay_ms=0)) as simulator:
        for name in ("CP-1", "CP-2"):
            simulator.state.add_charger(name)
        simulator.state.add_tag("CARD")
        simulator.state.add_tag("OTHER")
        yield simulator


@pytest.fixture
async def house(database: TestDatabase, tmp_path: Path, steve: SteveSimulator) -> AsyncIterator[Preauth]:
    """A preauth whose gateway stands in front of that SteVe."""
    async with running(database, tmp_path, steve_ocpp_url=steve.ocpp_url, ocpp_port=0, ocpp_deadline_ms=3500) as one:
        yield one


def gateway_of(house: Preauth) -> Gateway:
    return next(part for part in house.service.parts if isinstance(part, Gateway))


def url_of(house: Preauth) -> str:
    return f"ws://127.0.0.1:{gateway_of(house).port}/ocpp"


def charger_at(house: Preauth, charge_box_id: str = "CP-1", **more: Any) -> Charger:  # noqa: ANN401 - its settings
    return Charger(
        ChargerSettings(
            ocpp_url=url_of(house), charge_box_id=charge_box_id, answer_timeout_s=5, reconnect=False, **more
        )
    )


async def test_charger_is_known_from_its_first_connection(house: Preauth) -> None:
    """A charger that connects and boots is listed with its model, firmware, connectors and connection."""
    async with charger_at(house, model="M-1", vendor="V", firmware="9.9"):
        await house.until("SELECT FROM charger_connector WHERE connector_id = 2")
        known = await house.done(GetCharger(charge_box_id="CP-1"))
        assert known["connected"] is True
        assert known["via_gateway"] is True
        assert known["subprotocol"] == "ocpp1.6"
        assert (known["vendor"], known["model"], known["firmware_version"]) == ("V", "M-1", "9.9")
        assert known["registration"] == "Accepted"
        states = {one["connector_id"]: one["state"]["status"] for one in known["connectors"]}
        assert states[1] == states[2] == "Available"
        assert known["readiness"]["ready"] == "unknown"
    await house.until("SELECT FROM charger WHERE disconnected_at IS NOT NULL")
    known = await house.done(GetCharger(charge_box_id="CP-1"))
    assert known["connected"] is False
    (connected,) = house.events("charger.connected")
    (gone,) = house.events("charger.disconnected")
    assert connected["subject"] == gone["subject"] == "charger/CP-1"
    assert connected["data"]["connection_id"] == gone["data"]["connection_id"]
    assert (connected["actorkind"], connected["actorid"]) == ("charger", "CP-1")
    assert gone["subjectversion"] > connected["subjectversion"]


async def test_session_is_told_when_steves_answers_passed(house: Preauth, steve: SteveSimulator) -> None:
    """A session's start and stop are events with SteVe's transaction id; a stop only counts when it was answered."""
    async with charger_at(house) as charger:
        tap = await charger.tap(1, "CARD")
        assert tap.charging
        await house.until("SELECT FROM charger_session WHERE stopped_at IS NULL")
        known = await house.done(GetCharger(charge_box_id="CP-1"))
        (session,) = known["open_sessions"]
        assert session["transaction_id"] == tap.transaction_id
        assert session["id_tag"] == "CARD"
        steve.faults.set("slow", 300, path="ocpp:StopTransaction", times=1)
        stopping = asyncio.create_task(charger.tap(1, "CARD"))
        await asyncio.sleep(0.15)
        assert house.events("charger.session_stopped") == []
        assert (await stopping).stopped
        await house.until("SELECT FROM outbox WHERE routing_key = 'charger.session_stopped'")
    (started,) = house.events("charger.session_started")
    (stopped,) = house.events("charger.session_stopped")
    transaction = steve.state.transactions[int(tap.transaction_id or 0)]
    assert started["data"]["transaction_id"] == stopped["data"]["transaction_id"] == transaction.pk
    assert started["data"]["verdict"] == "Accepted"
    assert str(started["data"]["meter_start_wh"]) == transaction.start_value
    assert transaction.stop is not None
    assert str(stopped["data"]["meter_stop_wh"]) == transaction.stop.value
    assert stopped["data"]["id_tag"] == "CARD"
    assert stopped["data"]["connector_id"] == 1
    assert (await house.done(GetCharger(charge_box_id="CP-1")))["open_sessions"] == []


async def test_status_is_told_only_when_it_changes(house: Preauth) -> None:
    """The same status twice is one event; a change carries what was before and what is now."""
    async with charger_socket(url_of(house)) as socket:
        for number, status in enumerate(("Available", "Available", "Faulted")):
            report = {"connectorId": 1, "status": status, "errorCode": "NoError", "timestamp": "2026-05-01T10:00:00"}
            await exchange(socket, 2, str(number), "StatusNotification", report)
        await house.until("SELECT FROM charger_connector WHERE status = 'Faulted'")
    first, second = house.events("charger.status_changed")
    assert first["data"]["before"] is None
    assert second["data"]["before"]["status"] == "Available"
    assert second["data"]["after"]["status"] == "Faulted"
    # Without an offset a charger means UTC.
    assert datetime.fromisoformat(second["data"]["reported_at"]) == datetime(2026, 5, 1, 10, tzinfo=UTC)


async def test_hostile_texts_are_kept_without_harm(house: Preauth) -> None:
    """NUL characters and endless texts neither break the record nor the charger's connection."""
    async with charger_socket(url_of(house)) as socket:
        nasty = {"connectorId": 1, "status": "A\x00" * 5000, "errorCode": "NoError"}
        await exchange(socket, 2, "1", "StatusNotification", nasty)
        boot = {"chargePointVendor": "v\x00" * 10, "chargePointModel": "\x00", "firmwareVersion": "Ω"}
        assert (await exchange(socket, 2, "2", "BootNotification", boot))[0] == 3
        start = {"connectorId": 1, "idTag": "A\x00B", "meterStart": 2**62, "timestamp": "2040-12-31T23:59:59-14:00"}
        await exchange(socket, 2, "3", "StartTransaction", start)
        await house.until("SELECT FROM charger WHERE firmware_version = 'Ω'")
        assert (await exchange(socket, 2, "4", "Heartbeat", {}))[0] == 3


async def test_two_replicas_see_one_charger(database: TestDatabase, tmp_path: Path, steve: SteveSimulator) -> None:
    """A charger that moves from one replica to the other was never away."""
    more: dict[str, Any] = {"steve_ocpp_url": steve.ocpp_url, "ocpp_port": 0}
    async with (
        running(database, tmp_path / "a", **more) as one,
        running(database, tmp_path / "b", **more) as two,
    ):
        async with charger_socket(url_of(one)):
            await one.until("SELECT FROM charger_connection")
            async with charger_socket(url_of(two)) as moved:
                await one.until("SELECT FROM charger_connection HAVING count(*) = 2")
                assert len(one.events("charger.connected")) == 1
                await moved.close()
            await one.until("SELECT FROM charger_connection HAVING count(*) = 1")
            assert one.events("charger.disconnected") == []
            assert (await two.done(GetCharger(charge_box_id="CP-1")))["connected"] is True
        await one.until("SELECT FROM outbox WHERE routing_key = 'charger.disconnected'")
        assert (await two.done(GetCharger(charge_box_id="CP-1")))["connected"] is False


async def test_chargers_are_listed_in_pages(house: Preauth, steve: SteveSimulator) -> None:
    """The list is ordered, filtered by text, connection and readiness, and goes on from its cursor."""
    names = ["A%1", "a_2", "B 3"]
    sockets = []
    for name in names:
        steve.state.add_charger(name)
        sockets.append(await charger_socket(url_of(house), name.replace("%", "%25").replace(" ", "%20")))
    await house.until("SELECT FROM charger_connection HAVING count(*) = 3")
    await sockets[1].close()
    await house.until("SELECT FROM charger_connection HAVING count(*) = 2")

    async def listed(**query: Any) -> list[str]:  # noqa: ANN401 - fields of ListChargers
        page = await house.done(ListChargers(**query))
        return [one["charge_box_id"] for one in page["chargers"]]

    assert await listed() == ["A%1", "B 3", "a_2"]
    assert await listed(text="%") == ["A%1"]
    assert await listed(text="a_") == ["a_2"]
    assert await listed(connected=True) == ["A%1", "B 3"]
    assert await listed(connected=False) == ["a_2"]
    assert await listed(ready="yes") == []
    first = await house.done(ListChargers(limit=2))
    assert first["next_cursor"] == "B 3"
    assert await listed(limit=2, cursor="B 3") == ["a_2"]
    for socket in sockets:
        await socket.close()


async def test_unknown_charger_is_said_so(house: Preauth) -> None:
    """Asking for a charger that nobody saw is refused with a sentence that names it."""
    reply = await house.ask(GetCharger(charge_box_id="NOBODY"))
    assert reply.problem is not None
    assert reply.problem.code == "charger_unknown"
    assert "NOBODY" in reply.problem.detail


async def test_scan_through_the_gateway(house: Preauth, steve: SteveSimulator) -> None:
    """Armed, tapped, told Blocked through the gateway: the scan is told, and another card charges meanwhile."""
    async with charger_at(house) as charger:
        pairing = await house.done(ArmPairing(charge_box_id="CP-1", purpose="find_card"))
        told = await charger.tap(1, "CARD")
        assert (told.authorize, told.charging) == ("Blocked", False)
        assert not steve.state.transactions
        await house.until("SELECT FROM outbox WHERE routing_key = 'scan.intercepted'")
        (scan,) = house.events("scan.intercepted")
        assert scan["data"]["via"] == "gateway"
        assert scan["data"]["pairing_id"] == pairing["pairing_id"]
        assert (await charger.tap(2, "OTHER")).charging
    (tap,) = house.rows("SELECT * FROM tap WHERE id_tag = 'CARD' AND told = 'blocked'")
    assert (tap["via"], tap["in_time"]) == ("gateway", True)
    await house.until("SELECT FROM tap WHERE id_tag = 'OTHER' AND kind = 'authorize' AND steve_answer = 'Accepted'")
