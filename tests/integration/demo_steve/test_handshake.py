import asyncio
import base64
from dataclasses import replace

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from deploy.demo.steve.faults import FaultName
from deploy.demo.steve.simulator import SteveSimulator, run_steve
from tests.integration.demo_steve.support import QUICK, exchange, raw_socket


def basic(text: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


@pytest.fixture
def guarded(steve: SteveSimulator) -> SteveSimulator:
    steve.state.add_charger("GUARDED", password="secret")
    steve.state.add_charger("DE*1 Süd%")
    return steve


@pytest.mark.parametrize(
    ("path", "subprotocols", "credentials", "status"),
    [
        ("%20CP-1", ("ocpp1.6",), None, 400),
        ("CP%2F1", (), None, 400),
        ("NOBODY", ("ocpp1.6",), None, 404),
        ("NOBODY", (), None, 404),
        ("cp-1x", ("ocpp1.6",), None, 404),
        ("GUARDED", ("ocpp1.6",), None, 401),
        ("GUARDED", ("ocpp1.6",), "GUARDED:wrong", 401),
        ("GUARDED", (), "GUARDED:wrong", 401),
        ("CP-1", (), None, 400),
        ("CP-1", ("ocpp2.0.1", "ocpp2.1"), None, 404),
    ],
    ids=[
        "malformed",
        "malformed before everything",
        "unknown",
        "unknown before subprotocol",
        "a similar id",
        "no credentials",
        "bad credentials",
        "credentials before subprotocol",
        "no subprotocol",
        "none supported",
    ],
)
async def test_refusals(
    guarded: SteveSimulator,
    path: str,
    subprotocols: tuple[str, ...],
    credentials: str | None,
    status: int,
) -> None:
    """Malformed id, unknown charger, credentials, subprotocol: refused in this order, with these statuses."""
    headers = {} if credentials is None else basic(credentials)
    with pytest.raises(InvalidStatus) as refusal:
        await raw_socket(guarded, path, subprotocols=subprotocols, headers=headers)
    assert refusal.value.response.status_code == status


@pytest.mark.parametrize(
    ("path", "offered", "credentials", "chosen"),
    [
        ("CP-1", ("ocpp1.6",), None, "ocpp1.6"),
        ("CP-1", ("ocpp2.0.1", "ocpp1.5", "ocpp1.6"), None, "ocpp1.5"),
        ("CP-1?model=7", ("ocpp1.2",), None, "ocpp1.2"),
        ("GUARDED", ("ocpp1.6",), "GUARDED:secret", "ocpp1.6"),
        ("DE%2A1%20S%C3%BCd%25", ("ocpp1.6",), None, "ocpp1.6"),
    ],
)
async def test_admissions(
    guarded: SteveSimulator, path: str, offered: tuple[str, ...], credentials: str | None, chosen: str
) -> None:
    """The first supported subprotocol in the station's order is echoed; ids may hold any character."""
    headers = {} if credentials is None else basic(credentials)
    async with raw_socket(guarded, path, subprotocols=offered, headers=headers) as socket:
        assert socket.subprotocol == chosen
        assert (await exchange(socket, 2, "1", "Heartbeat", {}))[:2] == [3, "1"]


@pytest.mark.parametrize(
    ("fault", "error"),
    [("down", InvalidHandshake), ("5xx", InvalidStatus), ("wrong_credentials", InvalidStatus)],
)
async def test_faults_at_the_handshake(steve: SteveSimulator, fault: FaultName, error: type[Exception]) -> None:
    """Faults reach the OCPP endpoint when their path says so, once if they say so."""
    steve.faults.set(fault, path="/steve/websocket", times=1)
    with pytest.raises(error):
        await raw_socket(steve)
    async with raw_socket(steve) as socket:
        assert socket.subprotocol == "ocpp1.6"


async def test_it_pings() -> None:
    """A station that answers pings stays connected longer than the idle timeout."""
    async with run_steve(replace(QUICK, ping_interval_s=0.05, idle_timeout_s=0.8)) as steve:
        steve.state.add_charger("CP-1")
        async with raw_socket(steve) as socket:
            with pytest.raises(TimeoutError):
                await _recv_within(socket, 1.2)
            assert (await exchange(socket, 2, "1", "Heartbeat", {}))[0] == 3


async def test_a_silent_station_is_closed() -> None:
    """Without pings and frames the socket is closed after the idle timeout."""
    async with run_steve(replace(QUICK, ping_interval_s=60, idle_timeout_s=0.1)) as steve:
        steve.state.add_charger("CP-1")
        async with raw_socket(steve) as socket:
            with pytest.raises(ConnectionClosed) as closed:
                await _recv_within(socket, 3)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1001


async def _recv_within(socket: ClientConnection, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        await socket.recv()
