from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from deploy.demo.steve.model import MeterValue
from deploy.demo.steve.settings import SteveVersion
from deploy.demo.steve.simulator import SteveSimulator, run_steve
from tests.integration.demo_steve.support import QUICK, rest_client

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def history(steve: SteveSimulator) -> SteveSimulator:
    """1: stopped on CP-1. 2: open on CP-2, connector 2. 3: a late upload, stopped, long ago."""
    steve.state.add_tag("A", user_pk=4)
    add = steve.state.add_transaction
    add(
        charge_box_id="CP-1",
        id_tag="a",
        start_at=NOON,
        start_wh=1000,
        stop_at=NOON + timedelta(hours=1),
        stop_wh=13_400,
        stop_reason="Local",
    )
    add(charge_box_id="CP-2", id_tag="B", connector_id=2, start_at=NOON + timedelta(hours=2), start_wh=5)
    add(
        charge_box_id="CP-1",
        id_tag="B",
        start_at=NOON - timedelta(days=3),
        start_wh=0,
        stop_at=NOON - timedelta(days=2),
        stop_wh=70,
    )
    return steve


async def keys(rest: httpx.AsyncClient, params: Sequence[tuple[str, str]] = ()) -> list[int]:
    response = await rest.get("/transactions", params=httpx.QueryParams(tuple(params)))
    assert response.status_code == 200, response.text
    return [one["id"] for one in response.json()]


async def test_a_transaction_shows_every_field(history: SteveSimulator, rest: httpx.AsyncClient) -> None:
    """Values are strings in Wh, times have milliseconds, the tag is as the station sent it."""
    response = await rest.get("/transactions", params={"transactionPk": 1})
    assert response.json() == [
        {
            "id": 1,
            "connectorId": 1,
            "chargeBoxPk": 1,
            "ocppTagPk": 1,
            "userId": 4,
            "chargeBoxId": "CP-1",
            "ocppIdTag": "a",
            "startValue": "1000",
            "startTimestamp": "2026-05-01T12:00:00.000Z",
            "stopValue": "13400",
            "stopTimestamp": "2026-05-01T13:00:00.000Z",
            "stopReason": "Local",
            "stopEventActor": "station",
        }
    ]


async def test_an_open_transaction_has_null_stops(history: SteveSimulator, rest: httpx.AsyncClient) -> None:
    """All stop fields are there and null while it is open."""
    one = (await rest.get("/transactions", params={"transactionPk": 2})).json()[0]
    assert [one[name] for name in ("stopValue", "stopTimestamp", "stopReason", "stopEventActor")] == [None] * 4


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ([], [3, 2, 1]),
        ([("transactionPk", "1"), ("transactionPk", "3"), ("transactionPk", "99")], [3, 1]),
        ([("transactionPk", "1,2")], [2, 1]),
        ([("connectorId", "2")], [2]),
        ([("chargeBoxId", "CP-2")], [2]),
        ([("chargeBoxId", "CP-2"), ("chargeBoxId", "CP-1")], [3, 2, 1]),
        ([("ocppIdTag", "b")], [3, 2]),
        ([("userId", "4")], [1]),
        ([("type", "ACTIVE")], [2]),
        ([("type", "STOPPED")], [3, 1]),
        ([("from", "2026-05-01T00:00:00.000Z"), ("to", "2026-05-01T12:30:00.000Z")], [3, 2, 1]),
        (
            [
                ("periodType", "FROM_TO"),
                ("from", "2026-05-01T00:00:00.000Z"),
                ("to", "2026-05-01T12:30:00.000Z"),
            ],
            [1],
        ),
    ],
)
async def test_filters(
    history: SteveSimulator, rest: httpx.AsyncClient, params: list[tuple[str, str]], found: list[int]
) -> None:
    """Primary key descending; `from` and `to` act only with FROM_TO, on the start the station told."""
    assert await keys(rest, params) == found


@pytest.mark.parametrize(
    "params",
    [
        {"periodType": "FROM_TO"},
        {"periodType": "FROM_TO", "from": "2026-05-02T00:00:00Z", "to": "2026-05-01T00:00:00Z"},
        {"periodType": "FROM_TO", "from": "yesterday", "to": "2026-05-01T00:00:00Z"},
        {"periodType": "LAST_YEAR"},
        {"type": "OPEN"},
        {"transactionPk": "one"},
        {"userId": "0"},
    ],
)
async def test_what_a_query_refuses(rest: httpx.AsyncClient, params: dict[str, str]) -> None:
    """A query that cannot be understood is 400."""
    assert (await rest.get("/transactions", params=params)).status_code == 400


async def test_periods_count_from_today() -> None:
    """TODAY and LAST_10 look at the day of the start."""
    async with run_steve(replace(QUICK, clock=lambda: NOON)) as steve, rest_client(steve) as rest:
        for days in (0, 9, 11, 40):
            start_at = NOON - timedelta(days=days)
            steve.state.add_transaction(charge_box_id="CP-1", id_tag="A", start_at=start_at, start_wh=0)
        assert await keys(rest, [("periodType", "TODAY")]) == [1]
        assert await keys(rest, [("periodType", "LAST_10")]) == [2, 1]
        assert await keys(rest, [("periodType", "LAST_30")]) == [3, 2, 1]


async def test_before_3_11_there_are_no_lists() -> None:
    """An older SteVe looks at the first value of a repeated parameter only, and has no details."""
    async with run_steve(replace(QUICK, version=SteveVersion(3, 10))) as steve, rest_client(steve) as rest:
        for _ in range(3):
            steve.state.add_transaction(charge_box_id="CP-1", id_tag="A", start_at=NOON, start_wh=0)
        assert await keys(rest, [("transactionPk", "2"), ("transactionPk", "3")]) == [2]
        assert (await rest.get("/transactions/2")).status_code == 404


async def test_details_show_readings(history: SteveSimulator, rest: httpx.AsyncClient) -> None:
    """Energy readings by default, all on request, equal ones once."""
    history.state.add_meter_values(
        1,
        [
            MeterValue(at=NOON, value="1000", unit="Wh", measurand="Energy.Active.Import.Register"),
            MeterValue(at=NOON + timedelta(minutes=1), value="16", unit="A", measurand="Current.Import"),
            MeterValue(at=NOON + timedelta(minutes=2), value="2000", unit="Wh"),
            MeterValue(at=NOON + timedelta(minutes=3), value="2000", unit="Wh"),
        ],
    )
    energy = (await rest.get("/transactions/1", params={"energyValuesOnly": "true"})).json()
    everything = (await rest.get("/transactions/1", params={"energyValuesOnly": "false"})).json()
    assert energy["transaction"]["id"] == 1
    assert [one["value"] for one in energy["values"]] == ["1000", "2000"]
    assert [one["value"] for one in everything["values"]] == ["1000", "16", "2000"]
    assert energy["values"][1] == {
        "valueTimestamp": "2026-05-01T12:02:00.000Z",
        "value": "2000",
        "readingContext": None,
        "format": None,
        "measurand": None,
        "location": None,
        "unit": "Wh",
        "phase": None,
    }


async def test_a_manual_stop(history: SteveSimulator, rest: httpx.AsyncClient) -> None:
    """PATCH /stop marks the transaction as stopped by hand; an unknown one is 404."""
    assert (await rest.patch("/transactions/2/stop")).status_code == 200
    one = (await rest.get("/transactions", params={"transactionPk": 2})).json()[0]
    assert (one["stopEventActor"], one["stopValue"]) == ("manual", "5")
    assert (await rest.patch("/transactions/77/stop")).status_code == 404


async def test_the_list_is_unpaged(steve: SteveSimulator, rest: httpx.AsyncClient) -> None:
    """However many there are, they come in one answer."""
    for number in range(5_000):
        steve.state.add_transaction(
            charge_box_id="CP-1", id_tag="A", start_at=NOON + timedelta(seconds=number), start_wh=0
        )
    found = await keys(rest)
    assert found == list(range(5_000, 0, -1))
