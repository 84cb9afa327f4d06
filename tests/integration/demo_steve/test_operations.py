import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from deploy.demo.chargers.charger import Charger
from deploy.demo.steve.settings import SteveVersion
from deploy.demo.steve.simulator import SteveSimulator, run_steve
from tests.integration.demo_steve.support import QUICK, charger, raw_socket, rest_client, until

BOX: dict[str, Any] = {"chargeBoxIdList": ["CP-1"]}


LIST: dict[str, Any] = {"listVersion": 1, "updateType": "Full", "sendEmptyListWhenFull": False}


MINUTE = timedelta(minutes=1)


def soon(after: timedelta = MINUTE) -> str:
    return (datetime.now(UTC) + after).isoformat()


@pytest.fixture
async def station(steve: SteveSimulator) -> AsyncIterator[Charger]:
    steve.state.add_tag("CARD")
    async with charger(steve) as connected:
        yield connected


async def operate(rest: httpx.AsyncClient, name: str, **params: object) -> Any:  # noqa: ANN401 - a status or an object
    """The station's response, of an operation that it answered."""
    response = await rest.post(f"/operations/{name}", json=BOX | params)
    assert response.status_code == 200, response.text
    body = response.json()
    assert (body["taskFinished"], body["errorResponses"], body["exceptions"]) == (True, [], [])
    [answer] = body["successResponses"]
    assert answer["chargeBoxId"] == "CP-1"
    return answer["response"]


async def test_remote_start_and_stop(steve: SteveSimulator, station: Charger, rest: httpx.AsyncClient) -> None:
    """A remote start authorizes and charges, a remote stop ends it with its reason."""
    assert await operate(rest, "RemoteStartTransaction", idTag="CARD", connectorId=2) == "Accepted"
    await until(lambda: len(steve.state.transactions) == 1, what="the session")
    assert steve.state.requests["ocpp:Authorize"] == 1
    assert steve.state.transactions[1].connector_id == 2
    await until(lambda: station.connectors[2].status == "Charging", what="charging")
    assert await operate(rest, "RemoteStopTransaction", transactionId=1) == "Accepted"
    await until(lambda: not steve.state.transactions[1].active, what="the stop")
    stop = steve.state.transactions[1].stop
    assert stop is not None
    assert stop.reason == "Remote"


async def test_a_rejection_is_a_success_of_the_operation(station: Charger, rest: httpx.AsyncClient) -> None:
    """200 does not mean accepted: the station's Rejected comes as a success response."""
    assert await operate(rest, "RemoteStopTransaction", transactionId=99) == "Rejected"


async def test_configuration(station: Charger, rest: httpx.AsyncClient) -> None:
    """Keys are read and changed; unknown ones are listed apart."""
    read = await operate(
        rest,
        "GetConfiguration",
        confKeyList=["LocalPreAuthorize", "AuthorizeRemoteTxRequests"],
        commaSeparatedCustomConfKeys="Wifi, Colour",
    )
    assert read == {
        "configurationKeys": [
            {"key": "LocalPreAuthorize", "value": "false", "readonly": False},
            {"key": "AuthorizeRemoteTxRequests", "value": "true", "readonly": True},
        ],
        "unknownKeys": ["Wifi", "Colour"],
    }
    change = {"keyType": "PREDEFINED", "confKey": "LocalPreAuthorize", "value": "true"}
    assert await operate(rest, "ChangeConfiguration", **change) == "Accepted"
    assert station.configuration.is_on("LocalPreAuthorize")
    custom = {"keyType": "CUSTOM", "customConfKey": "Colour", "value": "red"}
    assert await operate(rest, "ChangeConfiguration", **custom) == "NotSupported"
    assert len((await operate(rest, "GetConfiguration"))["configurationKeys"]) > 10


async def test_clearing_the_cache(station: Charger, rest: httpx.AsyncClient) -> None:
    """A charger with a cache forgets; one without rejects."""
    assert await operate(rest, "ClearCache") == "Rejected"
    station.configuration.change("AuthorizationCacheEnabled", "true")
    await station.authorize("CARD")
    assert station.cards.known("CARD") == "Accepted"
    assert await operate(rest, "ClearCache") == "Accepted"
    assert station.cards.known("CARD") is None


async def test_unlocking_ends_the_session(steve: SteveSimulator, station: Charger, rest: httpx.AsyncClient) -> None:
    """UnlockConnector stops what charges there; a connector that does not exist is not supported."""
    await station.tap(1, "CARD")
    assert await operate(rest, "UnlockConnector", connectorId=1) == "Unlocked"
    await until(lambda: not steve.state.transactions[1].active, what="the stop")
    assert await operate(rest, "UnlockConnector", connectorId=9) == "NotSupported"


async def test_availability(steve: SteveSimulator, station: Charger, rest: httpx.AsyncClient) -> None:
    """An inoperative connector reports it and takes no card; a busy one is scheduled."""
    assert await operate(rest, "ChangeAvailability", connectorId=1, availType="Inoperative") == "Accepted"
    await until(lambda: steve.state.chargers["CP-1"].connectors[1].status == "Unavailable", what="the status")
    assert not (await station.tap(1, "CARD")).charging
    await station.tap(2, "CARD")
    assert await operate(rest, "ChangeAvailability", availType="Inoperative") == "Scheduled"


async def test_a_reset_comes_back(steve: SteveSimulator, station: Charger, rest: httpx.AsyncClient) -> None:
    """A reset ends the session with its reason, reconnects and boots again."""
    await station.tap(1, "CARD")
    assert await operate(rest, "Reset", resetType="Soft") == "Accepted"
    await until(lambda: steve.state.requests["ocpp:BootNotification"] == 2, what="the second boot")
    stop = steve.state.transactions[1].stop
    assert stop is not None
    assert stop.reason == "SoftReset"


@pytest.mark.parametrize(
    "message",
    [
        "BootNotification",
        "Heartbeat",
        "StatusNotification",
        "MeterValues",
        "FirmwareStatusNotification",
        "DiagnosticsStatusNotification",
    ],
)
async def test_triggers(steve: SteveSimulator, station: Charger, rest: httpx.AsyncClient, message: str) -> None:
    """A triggered message is sent after the answer."""
    before = steve.state.requests[f"ocpp:{message}"]
    assert await operate(rest, "TriggerMessage", triggerMessage=message) == "Accepted"
    await until(lambda: steve.state.requests[f"ocpp:{message}"] > before, what=message)


async def test_more_operations(station: Charger, rest: httpx.AsyncClient) -> None:
    """DataTransfer shows status and data, GetLocalListVersion a number."""
    assert await operate(rest, "DataTransfer", vendorId="ExpresSync") == {"status": "Accepted", "data": None}
    assert await operate(rest, "GetLocalListVersion") == -1


async def test_the_local_list(steve: SteveSimulator, station: Charger, rest: httpx.AsyncClient) -> None:
    """A full list holds every tag as SteVe stands to it, a differential one changes some; versions only grow."""
    steve.state.add_tag("BLOCKED", limit=0)
    assert await operate(rest, "SendLocalList", **LIST) == "NotSupported"
    station.configuration.change("LocalAuthListEnabled", "true")
    assert await operate(rest, "SendLocalList", **LIST | {"listVersion": 4}) == "Accepted"
    assert await operate(rest, "GetLocalListVersion") == 4
    assert (station.cards.known("card"), station.cards.known("BLOCKED")) == ("Accepted", "Blocked")
    steve.state.add_tag("NEW", parent_id_tag="CARD")
    change = LIST | {"updateType": "Differential", "addUpdateList": ["new", "NOBODY"], "deleteList": ["BLOCKED"]}
    assert await operate(rest, "SendLocalList", **change | {"listVersion": 4}) == "VersionMismatch"
    assert await operate(rest, "SendLocalList", **change | {"listVersion": 5}) == "Accepted"
    known = {id_tag: station.cards.known(id_tag) for id_tag in ("CARD", "NEW", "NOBODY", "BLOCKED")}
    assert known == {"CARD": "Accepted", "NEW": "Accepted", "NOBODY": None, "BLOCKED": None}
    assert station.cards.parent("NEW") == "CARD"
    for number in range(100):
        steve.state.add_tag(f"MORE-{number}")
    assert await operate(rest, "SendLocalList", **LIST | {"listVersion": 6}) == "Failed"
    assert (
        await operate(rest, "SendLocalList", **LIST | {"listVersion": 6, "sendEmptyListWhenFull": True}) == "Accepted"
    )
    assert station.cards.known("CARD") is None


async def test_a_reserved_connector_waits_for_its_card(
    steve: SteveSimulator, station: Charger, rest: httpx.AsyncClient
) -> None:
    """Others are turned away there, at a tap and from remote; a card of its parent charges, and uses it up."""
    steve.state.add_tag("OTHER")
    steve.state.add_tag("COUSIN", parent_id_tag="OTHER")
    steve.state.add_tag("CHILD", parent_id_tag="OTHER")

    def shown() -> str:
        return steve.state.chargers["CP-1"].connectors[1].status

    wanted = {"connectorId": 1, "idTag": "CHILD", "expiry": soon()}
    assert await operate(rest, "ReserveNow", **wanted) == "Accepted"
    await until(lambda: shown() == "Reserved", what="the reservation")
    assert await operate(rest, "ReserveNow", **wanted) == "Occupied"
    told = await station.tap(1, "CARD")
    assert (told.authorize, told.charging) == ("Accepted", False)
    assert await operate(rest, "RemoteStartTransaction", idTag="CARD", connectorId=1) == "Rejected"
    assert (await station.tap(2, "CARD")).charging
    assert await operate(rest, "ReserveNow", **wanted | {"connectorId": 2}) == "Occupied"
    assert (await station.tap(1, "COUSIN")).charging
    await until(lambda: shown() == "Charging", what="charging")
    assert await operate(rest, "CancelReservation", reservationId=1) == "Rejected"


async def test_a_reservation_ends_with_its_time_or_is_cancelled(
    steve: SteveSimulator, station: Charger, rest: httpx.AsyncClient
) -> None:
    """Either way the connector is available again for everybody."""
    for connector_id, expiry in ((1, soon(MINUTE / 120)), (2, soon())):
        wanted = {"connectorId": connector_id, "idTag": "CARD", "expiry": expiry}
        assert await operate(rest, "ReserveNow", **wanted) == "Accepted"
    connectors = steve.state.chargers["CP-1"].connectors
    await until(lambda: connectors[2].status == "Reserved", what="the reservation")
    assert await operate(rest, "CancelReservation", reservationId=2) == "Accepted"
    for connector_id in (1, 2):
        await until(lambda: connectors[connector_id].status == "Available", what="the end")  # noqa: B023
    steve.state.add_tag("OTHER")
    assert (await station.tap(1, "OTHER")).charging


async def test_what_cannot_be_reserved(steve: SteveSimulator, station: Charger, rest: httpx.AsyncClient) -> None:
    """Any connector (0), one that is out of order, and one that is switched off."""
    wanted = {"idTag": "CARD", "expiry": soon()}
    assert await operate(rest, "ReserveNow", connectorId=0, **wanted) == "Rejected"
    await station.set_status(1, "Faulted", "GroundFailure")
    assert await operate(rest, "ReserveNow", connectorId=1, **wanted) == "Faulted"
    await operate(rest, "ChangeAvailability", connectorId=2, availType="Inoperative")
    assert await operate(rest, "ReserveNow", connectorId=2, **wanted) == "Unavailable"
    assert steve.state.chargers["CP-1"].connectors[1].status == "Faulted"


async def test_a_station_that_is_not_connected_is_400(steve: SteveSimulator, rest: httpx.AsyncClient) -> None:
    """Known or not: without a connection the operation is refused."""
    for box in ("CP-1", "NOBODY"):
        response = await rest.post("/operations/ClearCache", json={"chargeBoxIdList": [box]})
        assert response.status_code == 400
        assert box in response.json()["message"]


@pytest.mark.parametrize(
    ("name", "params", "status"),
    [
        ("RemoteStartTransaction", {}, 400),
        ("RemoteStartTransaction", {"idTag": "A", "chargeBoxIdList": ["CP-1", "CP-2"]}, 400),
        ("RemoteStartTransaction", {"idTag": "A", "chargeBoxIdList": []}, 400),
        ("Reset", {"resetType": "Warm"}, 400),
        ("ChangeConfiguration", {"keyType": "PREDEFINED"}, 400),
        ("SendLocalList", LIST | {"updateType": "Differential"}, 400),
        ("SendLocalList", LIST | {"addUpdateList": ["A"], "deleteList": ["A"]}, 400),
        ("SendLocalList", {"listVersion": 1}, 400),
        ("ReserveNow", {"connectorId": 1, "idTag": "CARD", "expiry": -MINUTE}, 400),
        ("ReserveNow", {"connectorId": 9, "idTag": "CARD", "expiry": MINUTE}, 500),
        ("ReserveNow", {"connectorId": 1, "idTag": "NOBODY", "expiry": MINUTE}, 500),
        ("CancelReservation", {"reservationId": -1}, 400),
        ("Teleport", {}, 404),
    ],
)
async def test_what_an_operation_refuses(
    station: Charger, rest: httpx.AsyncClient, name: str, params: dict[str, Any], status: int
) -> None:
    """Forms that do not fit are 400, unknown operations 404. A time is given from now on."""
    form = BOX | {key: soon(value) if isinstance(value, timedelta) else value for key, value in params.items()}
    assert (await rest.post(f"/operations/{name}", json=form)).status_code == status


async def test_operations_came_with_3_11() -> None:
    """3.10 has no operations."""
    async with run_steve(replace(QUICK, version=SteveVersion(3, 10))) as steve, rest_client(steve) as rest:
        assert (await rest.post("/operations/ClearCache", json=BOX)).status_code == 404


async def test_a_callerror_is_an_error_response(steve: SteveSimulator, rest: httpx.AsyncClient) -> None:
    """A station's CALLERROR is shown with code, description and details."""
    async with raw_socket(steve) as socket:
        asked = asyncio.create_task(rest.post("/operations/ClearCache", json=BOX))
        _, message_id, action, payload = json.loads(await socket.recv())
        assert (action, payload) == ("ClearCache", {})
        await socket.send(json.dumps([4, message_id, "NotSupported", "no cache", {"a": 1}]))
        body = (await asked).json()
    assert body["successResponses"] == body["exceptions"] == []
    assert body["errorResponses"] == [
        {
            "chargeBoxId": "CP-1",
            "errorCode": "NotSupported",
            "errorDescription": "no cache",
            "errorDetails": '{"a": 1}',
        }
    ]


async def test_a_connection_lost_meanwhile_is_an_exception(steve: SteveSimulator, rest: httpx.AsyncClient) -> None:
    """The station hangs up before it answers."""
    async with raw_socket(steve) as socket:
        asked = asyncio.create_task(rest.post("/operations/ClearCache", json=BOX))
        await socket.recv()
    body = (await asked).json()
    assert [one["chargeBoxId"] for one in body["exceptions"]] == ["CP-1"]
    assert body["taskFinished"] is True


async def test_a_late_answer_ends_the_connection() -> None:
    """Without an answer in time the task is unfinished; the answer that comes later closes with 1011."""
    async with run_steve(replace(QUICK, operation_timeout_s=0.1)) as steve, rest_client(steve) as rest:
        steve.state.add_charger("CP-1")
        async with raw_socket(steve) as socket:
            asked = asyncio.create_task(rest.post("/operations/ClearCache", json=BOX))
            _, message_id, *_ = json.loads(await socket.recv())
            body = (await asked).json()
            assert (body["taskFinished"], body["successResponses"]) == (False, [])
            await socket.send(json.dumps([3, message_id, {"status": "Accepted"}]))
            async with asyncio.timeout(5):
                await socket.wait_closed()
            assert socket.close_code == 1011


async def test_calls_cross(steve: SteveSimulator, rest: httpx.AsyncClient) -> None:
    """While SteVe waits for a station it still answers that station."""
    async with raw_socket(steve) as socket:
        asked = asyncio.create_task(rest.post("/operations/ClearCache", json=BOX))
        _, message_id, *_ = json.loads(await socket.recv())
        await socket.send(json.dumps([2, "own", "Heartbeat", {}]))
        assert json.loads(await socket.recv())[:2] == [3, "own"]
        await socket.send(json.dumps([3, message_id, {"status": "Accepted"}]))
        assert (await asked).json()["successResponses"][0]["response"] == "Accepted"
