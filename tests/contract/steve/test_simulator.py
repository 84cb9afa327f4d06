"""The simulator answers as SteVe's published API document says."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from jsonschema import ValidationError

from deploy.demo.chargers.charger import Charger
from deploy.demo.steve.model import MeterValue
from deploy.demo.steve.operations import OPERATIONS
from deploy.demo.steve.simulator import SteveSimulator
from tests.contract.steve.document import ApiDocument

V1 = "/api/v1"
NOW = datetime.now(UTC)
# Documented, and not simulated: nothing here uses them.
NOT_SIMULATED = {"/transactions/reports/csv"} | {
    f"/operations/{name}"
    for name in (
        "ClearChargingProfile",
        "DeleteCertificate",
        "ExtendedTriggerMessage",
        "GetCompositeSchedule",
        "GetDiagnostics",
        "GetInstalledCertificateIds",
        "GetLog",
        "InstallCertificate",
        "SetChargingProfile",
        "SignedUpdateFirmware",
        "UpdateFirmware",
    )
}
OPERATION_PARAMS: dict[str, dict[str, Any]] = {
    "RemoteStartTransaction": {"idTag": "FULL", "connectorId": 1},
    "RemoteStopTransaction": {"transactionId": 1},
    "UnlockConnector": {"connectorId": 1},
    "Reset": {"resetType": "Soft"},
    "ChangeAvailability": {"availType": "Operative", "connectorId": 1},
    "ClearCache": {},
    "TriggerMessage": {"triggerMessage": "Heartbeat"},
    "GetConfiguration": {"confKeyList": ["LocalPreAuthorize"], "commaSeparatedCustomConfKeys": "Nope"},
    "ChangeConfiguration": {"keyType": "PREDEFINED", "confKey": "LocalPreAuthorize", "value": "true"},
    "DataTransfer": {"vendorId": "ExpresSync", "data": "x"},
    "GetLocalListVersion": {},
    "SendLocalList": {"listVersion": 1, "updateType": "Full", "sendEmptyListWhenFull": False},
    "ReserveNow": {"connectorId": 1, "idTag": "FULL", "expiry": (NOW + timedelta(hours=1)).isoformat()},
    "CancelReservation": {"reservationId": 1},
}


@pytest.fixture(autouse=True)
def content(steve: SteveSimulator) -> None:
    """One tag with everything, one with nothing; one stopped transaction and one that is open."""
    state = steve.state
    state.add_tag("BARE")
    state.add_tag("FULL", parent_id_tag="BARE", expiry=NOW + timedelta(days=1), limit=3, note="n", user_pk=4)
    stopped = state.add_transaction(
        charge_box_id="CP-1",
        id_tag="FULL",
        start_at=NOW,
        start_wh=1,
        stop_at=NOW,
        stop_wh=2,
        stop_reason="Local",
    )
    state.add_meter_values(stopped.pk, [MeterValue(at=NOW, value="2", unit="Wh", context="Sample.Periodic")])
    state.add_transaction(charge_box_id="CP-1", id_tag="FULL", start_at=NOW, start_wh=2)


async def test_success_answers(document: ApiDocument, rest: httpx.AsyncClient) -> None:
    """Every endpoint of tags and transactions answers in the documented shape."""
    form = {"idTag": "NEW", "note": "x"}
    responses = [
        await rest.get(f"{V1}/ocppTags"),
        await rest.get(f"{V1}/ocppTags/2"),
        await rest.post(f"{V1}/ocppTags", json=form),
        await rest.put(f"{V1}/ocppTags/3", json=form),
        await rest.patch(f"{V1}/ocppTags/3/expire"),
        await rest.delete(f"{V1}/ocppTags/3"),
        await rest.get(f"{V1}/transactions"),
        await rest.get(f"{V1}/transactions/1", params={"energyValuesOnly": "false"}),
        await rest.patch(f"{V1}/transactions/2/stop"),
    ]
    assert [response.status_code for response in responses] == [200, 200, 201, 200, 200, 200, 200, 200, 200]
    checked = {document.check(response) for response in responses}
    wanted = {
        (method, path)
        for method, path in document.operations()
        if "/operations/" not in path and path.removeprefix(V1) not in NOT_SIMULATED
    }
    assert checked == wanted


async def test_all_fields_are_there(document: ApiDocument, rest: httpx.AsyncClient) -> None:
    """Every documented property is present, with null where there is nothing, and no others."""
    details = (await rest.get(f"{V1}/transactions/1")).json()
    shapes = {
        "OcppTagOverview": (await rest.get(f"{V1}/ocppTags/1")).json(),
        "Transaction": details["transaction"],
        "TransactionDetails": details,
        "MeterValues": details["values"][0],
        "ApiErrorResponse": (await rest.get(f"{V1}/ocppTags/99")).json(),
    }
    for schema, body in shapes.items():
        assert set(body) == document.fields(schema), schema


async def test_error_answers(document: ApiDocument, rest: httpx.AsyncClient) -> None:
    """Refusals carry the documented error body, with the documented statuses."""
    responses = [
        await rest.get(f"{V1}/ocppTags", params={"blocked": "maybe"}),
        await rest.get(f"{V1}/ocppTags", auth=("steve", "wrong")),
        await rest.get(f"{V1}/ocppTags/99"),
        await rest.post(f"{V1}/ocppTags", json={"idTag": "FULL"}),
        await rest.post(f"{V1}/ocppTags", json={"idTag": ""}),
        await rest.post(f"{V1}/ocppTags", content=b"{"),
        await rest.put(f"{V1}/ocppTags/99", json={"idTag": "X"}),
        await rest.delete(f"{V1}/ocppTags/1"),
        await rest.patch(f"{V1}/ocppTags/99/expire"),
        await rest.get(f"{V1}/transactions", params={"periodType": "FROM_TO"}),
        await rest.get(f"{V1}/transactions/99"),
        await rest.patch(f"{V1}/transactions/99/stop"),
        await rest.post(f"{V1}/operations/ClearCache", json={"chargeBoxIdList": ["CP-1"]}),
        await rest.post(f"{V1}/operations/ClearCache", content=b"{"),
    ]
    statuses = [response.status_code for response in responses]
    assert statuses == [400, 401, 404, 422, 400, 500, 404, 500, 404, 400, 404, 404, 400, 500]
    for response in responses:
        document.check(response)


@pytest.mark.parametrize("name", sorted(OPERATIONS))
async def test_operations(document: ApiDocument, rest: httpx.AsyncClient, station: Charger, name: str) -> None:
    """Every simulated operation answers a connected station's response in the documented shape."""
    body = {"chargeBoxIdList": ["CP-1"], **OPERATION_PARAMS[name]}
    response = await rest.post(f"{V1}/operations/{name}", json=body)
    assert response.status_code == 200, response.text
    assert len(response.json()["successResponses"]) == 1
    document.check(response)


def test_nothing_documented_is_forgotten(document: ApiDocument) -> None:
    """Each documented operation is simulated, or listed as not simulated."""
    documented = {path.removeprefix(V1) for _, path in document.operations() if "/operations/" in path}
    assert documented == {f"/operations/{name}" for name in OPERATIONS} | {
        path for path in NOT_SIMULATED if "/operations/" in path
    }


async def test_the_check_can_fail(document: ApiDocument, rest: httpx.AsyncClient) -> None:
    """A wrong type in an answer is found."""
    response = await rest.get(f"{V1}/ocppTags/1")
    wrong = httpx.Response(200, json=response.json() | {"blocked": "no"}, request=response.request)
    with pytest.raises(ValidationError):
        document.check(wrong)
