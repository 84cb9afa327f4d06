import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from deploy.demo.steve.simulator import SteveSimulator
from tests.integration.demo_steve.support import exchange, raw_socket, until

NOW = datetime.now(UTC).replace(microsecond=0)


def wire(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def start(id_tag: str = "CARD", meter: int = 1000, at: datetime = NOW) -> dict[str, Any]:
    return {"connectorId": 1, "idTag": id_tag, "meterStart": meter, "timestamp": wire(at)}


def stop(pk: int, meter: int, at: datetime) -> dict[str, Any]:
    return {"transactionId": pk, "meterStop": meter, "timestamp": wire(at), "reason": "Local"}


def metered(**sample: str) -> dict[str, Any]:
    return {"connectorId": 1, "meterValue": [{"timestamp": wire(NOW), "sampledValue": [{"value": "1"} | sample]}]}


async def closed_with(socket: ClientConnection) -> int:
    with pytest.raises(ConnectionClosed) as closed:
        async with asyncio.timeout(5):
            await socket.recv()
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


@pytest.mark.parametrize(
    ("action", "payload", "answered"),
    [
        (
            "BootNotification",
            {"chargePointVendor": "V", "chargePointModel": "M"},
            {"status", "currentTime", "interval"},
        ),
        ("Heartbeat", {}, {"currentTime"}),
        ("StatusNotification", {"connectorId": 1, "errorCode": "NoError", "status": "Available"}, set()),
        ("Authorize", {"idTag": "CARD"}, {"idTagInfo"}),
        ("StartTransaction", start(), {"transactionId", "idTagInfo"}),
        ("StopTransaction", stop(1, 2, NOW), set()),
        ("MeterValues", {"connectorId": 1, "meterValue": []}, set()),
        ("DataTransfer", {"vendorId": "V", "data": "x"}, {"status"}),
        ("DiagnosticsStatusNotification", {"status": "Idle"}, set()),
        ("FirmwareStatusNotification", {"status": "Installed"}, set()),
    ],
)
async def test_every_core_message_is_answered(
    steve: SteveSimulator, action: str, payload: dict[str, Any], answered: set[str]
) -> None:
    """All messages a 1.6 station may start get a CALLRESULT, and are counted."""
    async with raw_socket(steve) as socket:
        answer = await exchange(socket, 2, "m1", action, payload)
    assert answer[:2] == [3, "m1"]
    assert set(answer[2]) == answered
    assert steve.state.requests[f"ocpp:{action}"] == 1


async def test_what_a_station_reports_is_kept(steve: SteveSimulator) -> None:
    """Boot, status, firmware and diagnostics are found in the state afterwards."""
    async with raw_socket(steve) as socket:
        boot = {"chargePointVendor": "V", "chargePointModel": "M", "firmwareVersion": "1.2"}
        await exchange(socket, 2, "1", "BootNotification", boot)
        status = {"connectorId": 2, "errorCode": "GroundFailure", "status": "Faulted"}
        await exchange(socket, 2, "2", "StatusNotification", status)
        await exchange(socket, 2, "3", "FirmwareStatusNotification", {"status": "Installed"})
        await exchange(socket, 2, "4", "DiagnosticsStatusNotification", {"status": "Uploaded"})
    charger = steve.state.chargers["CP-1"]
    assert (charger.vendor, charger.model, charger.firmware) == ("V", "M", "1.2")
    assert (charger.connectors[2].status, charger.connectors[2].error_code) == ("Faulted", "GroundFailure")
    assert (charger.firmware_status, charger.diagnostics_status) == ("Installed", "Uploaded")
    assert charger.last_heartbeat_at is not None


async def test_the_registration_status_is_told_at_boot(steve: SteveSimulator) -> None:
    """A charger that is not accepted in SteVe connects, and is told so at boot."""
    steve.state.add_charger("CP-1", registration="Pending")
    async with raw_socket(steve) as socket:
        answer = await exchange(socket, 2, "1", "BootNotification", {"chargePointVendor": "V", "chargePointModel": "M"})
    assert answer[2]["status"] == "Pending"


async def test_the_info_of_a_card(steve: SteveSimulator) -> None:
    """Without an expiry now plus an hour is told; the parent is told, too; unknown cards get a status only."""
    steve.state.add_tag("PARENT", limit=0)
    steve.state.add_tag("CARD", parent_id_tag="PARENT")
    steve.state.add_tag("DATED", expiry=NOW + timedelta(days=3))
    async with raw_socket(steve) as socket:
        card = (await exchange(socket, 2, "1", "Authorize", {"idTag": "card"}))[2]["idTagInfo"]
        dated = (await exchange(socket, 2, "2", "Authorize", {"idTag": "DATED"}))[2]["idTagInfo"]
        unknown = (await exchange(socket, 2, "3", "Authorize", {"idTag": "NOBODY"}))[2]["idTagInfo"]
    told = datetime.fromisoformat(card["expiryDate"]) - datetime.now(UTC)
    assert (card["status"], card["parentIdTag"]) == ("Accepted", "PARENT")
    assert timedelta(minutes=59) < told <= timedelta(hours=1)
    assert datetime.fromisoformat(dated["expiryDate"]) == NOW + timedelta(days=3)
    assert unknown == {"status": "Invalid"}
    assert steve.state.tag("NOBODY") is None


@pytest.mark.parametrize(
    ("id_tag", "status"),
    [
        ("FREE", "Accepted"),
        ("BLOCKED", "Blocked"),
        ("EXPIRED", "Expired"),
        ("NOBODY", "Invalid"),
        ("BUSY", "ConcurrentTx"),
    ],
)
async def test_a_start_always_makes_a_transaction(steve: SteveSimulator, id_tag: str, status: str) -> None:
    """Whatever the verdict, the row is there, open, with the tag as the station sent it."""
    steve.state.add_tag("FREE")
    steve.state.add_tag("BLOCKED", limit=0)
    steve.state.add_tag("EXPIRED", expiry=NOW - timedelta(days=1))
    steve.state.add_transaction(charge_box_id="CP-2", id_tag="X", start_at=NOW, start_wh=0)
    steve.state.add_tag("BUSY")
    steve.state.add_transaction(charge_box_id="CP-2", id_tag="BUSY", start_at=NOW, start_wh=0)
    async with raw_socket(steve) as socket:
        answer = (await exchange(socket, 2, "1", "StartTransaction", start(id_tag.lower())))[2]
    assert answer["idTagInfo"]["status"] == status
    row = steve.state.transactions[answer["transactionId"]]
    assert (row.id_tag, row.active, row.start_value) == (id_tag.lower(), True, "1000")
    tag = steve.state.tag(id_tag)
    assert tag is not None
    assert tag.blocked == (id_tag in {"BLOCKED", "NOBODY"})


async def test_an_internal_error_is_invalid_whatever_the_record_says(steve: SteveSimulator) -> None:
    """The last row of SteVe's table: a card that is fine is told Invalid, its start has a row all the same, its stop is
    answered without a word on the card, and the next tap is Accepted again.
    """
    tag = steve.state.add_tag("CARD", expiry=NOW + timedelta(days=3))
    steve.faults.set("internal_error", path="ocpp:", times=3)
    async with raw_socket(steve) as socket:
        authorized = (await exchange(socket, 2, "1", "Authorize", {"idTag": "CARD"}))[2]
        started = (await exchange(socket, 2, "2", "StartTransaction", start()))[2]
        message = stop(started["transactionId"], 1000, NOW) | {"idTag": "CARD"}
        stopped = await exchange(socket, 2, "3", "StopTransaction", message)
        again = (await exchange(socket, 2, "4", "Authorize", {"idTag": "CARD"}))[2]
    assert authorized["idTagInfo"] == started["idTagInfo"] == {"status": "Invalid"}
    row = steve.state.transactions[started["transactionId"]]
    assert (row.tag_pk, row.active, tag.blocked) == (tag.pk, False, False)
    assert stopped[::2] == [3, {}]
    assert again["idTagInfo"]["status"] == "Accepted"


@pytest.mark.parametrize(("meter", "minutes", "applied"), [(2000, 30, True), (999, 30, False), (2000, -1, False)])
async def test_a_failed_stop_is_answered_like_any_other(
    steve: SteveSimulator, meter: int, minutes: int, *, applied: bool
) -> None:
    """The station never learns that its stop was not applied; the transaction stays open."""
    steve.state.add_tag("CARD")
    began = NOW - timedelta(hours=1)
    async with raw_socket(steve) as socket:
        pk = (await exchange(socket, 2, "1", "StartTransaction", start(at=began)))[2]["transactionId"]
        message = stop(pk, meter, began + timedelta(minutes=minutes)) | {"idTag": "CARD"}
        answer = await exchange(socket, 2, "2", "StopTransaction", message)
    assert answer[0] == 3
    assert answer[2]["idTagInfo"]["status"] == "Accepted"
    assert steve.state.transactions[pk].active != applied
    assert len(steve.state.failed_stops) == (0 if applied else 1)


async def test_a_repeated_start_is_one_transaction(steve: SteveSimulator) -> None:
    """The same StartTransaction under another message id answers the same transaction."""
    async with raw_socket(steve) as socket:
        first = await exchange(socket, 2, "1", "StartTransaction", start())
        again = await exchange(socket, 2, "2", "StartTransaction", start())
    assert first[2]["transactionId"] == again[2]["transactionId"]


@pytest.mark.parametrize(
    ("action", "payload", "code"),
    [
        ("Teleport", {}, "NotImplemented"),
        ("Authorize", {}, "FormationViolation"),
        ("Authorize", {"idTag": "x" * 21}, "FormationViolation"),
        ("StartTransaction", {"connectorId": "one"}, "FormationViolation"),
        (
            "StatusNotification",
            {"connectorId": 1, "errorCode": "NoError", "status": "Occupied"},
            "FormationViolation",
        ),
        (
            "StatusNotification",
            {"connectorId": 1, "errorCode": "Broken", "status": "Faulted"},
            "FormationViolation",
        ),
        ("StopTransaction", stop(1, 2, NOW) | {"reason": "Bored"}, "FormationViolation"),
        ("MeterValues", metered(unit="kwh"), "FormationViolation"),
        ("MeterValues", metered(measurand="Energy"), "FormationViolation"),
        ("MeterValues", metered(context="Sample"), "FormationViolation"),
        ("MeterValues", metered(format="Text"), "FormationViolation"),
        ("MeterValues", metered(phase="L4"), "FormationViolation"),
        ("MeterValues", metered(location="Roof"), "FormationViolation"),
        ("DiagnosticsStatusNotification", {"status": "Done"}, "FormationViolation"),
        ("FirmwareStatusNotification", {"status": "Done"}, "FormationViolation"),
    ],
)
async def test_bad_calls_get_a_callerror(
    steve: SteveSimulator, action: str, payload: dict[str, Any], code: str
) -> None:
    """Unknown actions, payloads that do not fit and values of no closed set are CALLERRORs; the socket stays open."""
    async with raw_socket(steve) as socket:
        answer = await exchange(socket, 2, "1", action, payload)
        assert answer[:3] == [4, "1", code]
        assert (await exchange(socket, 2, "2", "Heartbeat", {}))[0] == 3


async def test_a_message_id_counts_once_a_socket(steve: SteveSimulator) -> None:
    """A second CALL with the same id is a ProtocolError; a new socket may use it again."""
    async with raw_socket(steve) as socket:
        await exchange(socket, 2, "1", "Heartbeat", {})
        assert (await exchange(socket, 2, "1", "Heartbeat", {}))[:3] == [4, "1", "ProtocolError"]
    async with raw_socket(steve) as socket:
        assert (await exchange(socket, 2, "1", "Heartbeat", {}))[0] == 3


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b'[2,"1","Heartbeat",{}]', 1003),
        (json.dumps([3, "never-sent", {}]), 1011),
        (json.dumps([4, "never-sent", "GenericError", "", {}]), 1011),
        ("not json", 1011),
        ("{}", 1011),
        ("[9]", 1011),
    ],
    ids=["binary", "unknown result", "unknown error", "no json", "no array", "no message"],
)
async def test_frames_that_end_the_connection(steve: SteveSimulator, frame: str | bytes, code: int) -> None:
    """Each of these closes the socket, with its own code."""
    async with raw_socket(steve) as socket:
        await socket.send(frame)
        assert await closed_with(socket) == code


def data_transfer(length: int) -> str:
    """A frame of exactly so many bytes."""
    empty = json.dumps([2, "1", "DataTransfer", {"vendorId": "V", "data": ""}])
    return empty.replace('""', '"' + "x" * (length - len(empty)) + '"')


async def test_eight_mebibytes_are_the_limit(steve: SteveSimulator) -> None:
    """A text of 8 MiB is answered; one byte more ends the connection unanswered."""
    async with raw_socket(steve) as socket:
        await socket.send(data_transfer(8 * 1024 * 1024))
        assert json.loads(await socket.recv())[:2] == [3, "1"]
    # Not closed by the test: the server resets the connection while the frame is still being sent.
    socket = await raw_socket(steve)
    with pytest.raises(ConnectionClosed):
        await asyncio.gather(socket.send(data_transfer(8 * 1024 * 1024 + 1)), socket.recv())
    assert steve.state.requests["ocpp:DataTransfer"] == 1


async def test_an_empty_frame_is_ignored(steve: SteveSimulator) -> None:
    """An empty text is neither answered nor fatal."""
    async with raw_socket(steve) as socket:
        await socket.send("")
        assert (await exchange(socket, 2, "1", "Heartbeat", {}))[0] == 3


async def test_a_lost_answer_after_the_commit(steve: SteveSimulator) -> None:
    """The start is in the database, the station never learns its id."""
    steve.faults.set("drop_after_commit", path="ocpp:StartTransaction", times=1)
    async with raw_socket(steve) as socket:
        await socket.send(json.dumps([2, "1", "StartTransaction", start()]))
        with pytest.raises(ConnectionClosed):
            await socket.recv()
    assert len(steve.state.transactions) == 1


async def test_stations_can_be_disconnected(steve: SteveSimulator) -> None:
    """All sockets of a charger are closed at once, and it counts as not connected."""
    async with raw_socket(steve) as first, raw_socket(steve) as second:
        await until(lambda: steve.stations.connected() == {"CP-1"}, what="the connection")
        assert await steve.stations.disconnect("CP-1") == 2
        assert [await closed_with(one) for one in (first, second)] == [1001, 1001]
    await until(lambda: steve.stations.connected() == set(), what="the disconnection")
