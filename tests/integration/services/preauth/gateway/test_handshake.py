"""Who is let in is SteVe's to say; the charger hears it in SteVe's words."""

import asyncio
import base64
import contextlib
import ipaddress
import ssl
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import InvalidStatus
from websockets.http11 import Request

from deploy.demo.steve.simulator import SteveSimulator
from tests.integration.services.preauth.gateway.support import (
    DEADLINE_S,
    Running,
    charger_socket,
    exchange,
    peer,
    running_gateway,
    self_signed,
    until,
)

BOOT = {"chargePointVendor": "V", "chargePointModel": "M"}


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


async def refusal(url: str, path: str = "CP-1", **options: Any) -> InvalidStatus:  # noqa: ANN401 - what websockets takes
    with pytest.raises(InvalidStatus) as caught:
        async with charger_socket(url, path, **options):
            pass
    return caught.value


@pytest.mark.parametrize(
    ("path", "subprotocols", "status"),
    [
        pytest.param("UNKNOWN", ("ocpp1.6",), 404, id="unknown charger"),
        pytest.param("CP(1)", ("ocpp1.6",), 400, id="malformed id"),
        pytest.param("CP-1%", ("ocpp1.6",), 400, id="broken escape"),
        pytest.param("CP-1", (), 400, id="no subprotocol"),
        pytest.param("CP-1", ("ocpp2.0.1",), 404, id="no supported subprotocol"),
    ],
)
async def test_refusal_is_steves(
    steve: SteveSimulator, gateway: Running, path: str, subprotocols: tuple[str, ...], status: int
) -> None:
    """A charger that SteVe refuses gets the same status through the gateway as from SteVe itself."""
    through = await refusal(gateway.url, path, subprotocols=subprotocols)
    direct = await refusal(steve.ocpp_url, path, subprotocols=subprotocols)
    assert through.response.status_code == direct.response.status_code == status


async def test_bad_credentials_are_refused_by_steve(steve: SteveSimulator, gateway: Running) -> None:
    """Wrong or missing Basic credentials are 401 with SteVe's challenge, the right ones pass."""
    steve.state.add_charger("SAFE", password="s3cret")
    for headers in ({}, basic("SAFE", "wrong")):
        refused = await refusal(gateway.url, "SAFE", additional_headers=headers)
        assert refused.response.status_code == 401
        assert refused.response.headers["WWW-Authenticate"] == 'Basic realm="SteVe"'
    async with charger_socket(gateway.url, "SAFE", additional_headers=basic("SAFE", "s3cret")) as socket:
        assert (await exchange(socket, 2, "1", "BootNotification", BOOT))[2]["status"] == "Accepted"


@pytest.mark.parametrize("charge_box_id", ["CP 1", "Säule#7", "a%b", "x?y", "100%25", "ID&x-1", "a:b_%"])
async def test_any_charger_id_reaches_steve_as_it_was_encoded(
    steve: SteveSimulator, gateway: Running, charge_box_id: str
) -> None:
    """A percent-encoded id arrives at SteVe as the same charger, whatever characters it has."""
    steve.state.add_charger(charge_box_id)
    async with charger_socket(gateway.url, quote(charge_box_id, safe="")) as socket:
        assert (await exchange(socket, 2, "1", "BootNotification", BOOT))[2]["status"] == "Accepted"
        assert steve.stations.connected() == {charge_box_id}


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (("ocpp1.6",), "ocpp1.6"),
        (("ocpp2.0.1", "ocpp1.5", "ocpp1.6"), "ocpp1.5"),
        (("ocpp1.2", "ocpp1.6"), "ocpp1.2"),
    ],
)
async def test_subprotocol_is_the_one_steve_chose(gateway: Running, offered: tuple[str, ...], chosen: str) -> None:
    """The offered subprotocols reach SteVe in order, and its choice is the charger's."""
    async with charger_socket(gateway.url, subprotocols=offered) as socket:
        assert socket.subprotocol == chosen


async def test_request_reaches_steve_with_query_and_credentials() -> None:
    """The raw id, the query string, Authorization and the subprotocols arrive unchanged."""
    asked: list[Request] = []

    async def handler(connection: ServerConnection) -> None:
        assert connection.request is not None
        asked.append(connection.request)
        await connection.wait_closed()

    async with peer(handler) as url, running_gateway(url) as gateway:
        headers = basic("u", "p") | {"X-Forwarded-For": "203.0.113.9", "Cookie": "a=b"}
        async with charger_socket(
            gateway.url, "A%2dB%20c?x=%2F&y", subprotocols=("foo", "ocpp1.6"), additional_headers=headers
        ):
            pass
    request = asked[0]
    assert request.path == "/steve/websocket/CentralSystemService/A%2dB%20c?x=%2F&y"
    assert request.headers["Authorization"] == headers["Authorization"]
    assert request.headers["Sec-WebSocket-Protocol"] == "foo, ocpp1.6"
    # Nobody but a configured proxy is believed about where a charger is.
    assert request.headers["X-Forwarded-For"] == "127.0.0.1"
    assert "Cookie" not in request.headers


@pytest.mark.parametrize("path", ["", ".", "..", "%2e%2e", "a/b", "../manager/html", "a%00b"])
async def test_path_cannot_leave_the_endpoint(path: str) -> None:
    """An id that would lead elsewhere on SteVe's server is refused without asking it."""
    asked: list[ServerConnection] = []

    async def handler(connection: ServerConnection) -> None:
        asked.append(connection)

    async with peer(handler) as url, running_gateway(url) as gateway:
        assert (await refusal(gateway.url, path)).response.status_code == 400
    assert asked == []


async def test_unreachable_steve_is_a_bad_gateway(steve: SteveSimulator, gateway: Running) -> None:
    """A charger is not let in while SteVe is away: 502, and again as soon as it is back."""
    await steve.stop_ocpp()
    assert (await refusal(gateway.url)).response.status_code == 502
    await steve.start_ocpp()
    async with charger_socket(gateway.url) as socket:
        assert (await exchange(socket, 2, "1", "Heartbeat", {}))[0] == 3


async def test_silent_steve_is_a_timeout() -> None:
    """A SteVe that accepts the connection and says nothing is 504 after the connect timeout."""

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with running_gateway(f"ws://127.0.0.1:{port}/x", connect_timeout_s=0.2) as gateway:
            assert (await refusal(gateway.url)).response.status_code == 504


async def test_no_room_is_said_so(steve: SteveSimulator) -> None:
    """A gateway that is full answers 503 and keeps those it has."""
    async with (
        running_gateway(steve.ocpp_url, max_chargers=1) as gateway,
        charger_socket(gateway.url) as socket,
    ):
        assert (await refusal(gateway.url)).response.status_code == 503
        assert (await exchange(socket, 2, "1", "Heartbeat", {}))[0] == 3


async def test_who_is_being_let_in_takes_room_too() -> None:
    """While SteVe has not answered about one charger, there is no room for a second one where there is only for one."""
    held = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.set()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(slow, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, running_gateway(f"ws://127.0.0.1:{port}/steve", max_chargers=1) as gateway:
        first = asyncio.create_task(refusal(gateway.url))
        async with asyncio.timeout(DEADLINE_S):
            await held.wait()
        assert (await refusal(gateway.url, "CP-2")).response.status_code == 503
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)


async def test_who_says_nothing_keeps_no_charger_out(steve: SteveSimulator) -> None:
    """Connections without a word take no charger's place. There is room for some: a crowd of them pushes itself out."""
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(running_gateway(steve.ocpp_url, max_chargers=2, max_unasked=8))

        async def idle(source: str) -> asyncio.StreamReader:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", gateway.gateway.port, local_addr=(source, 0), limit=64
            )
            stack.callback(writer.close)
            return reader

        inside = await stack.enter_async_context(charger_socket(gateway.url))
        quiet = [await idle("127.0.0.2"), await idle("127.0.0.3")]
        crowd = [await idle("127.0.0.1") for _ in range(20)]
        await until(lambda: sum(one.at_eof() for one in crowd) == 16, what="half of the room left to the crowd")
        assert all(one.at_eof() for one in crowd[:16]), "the oldest give way"
        assert not any(one.at_eof() for one in quiet), "others have their place"
        late = await stack.enter_async_context(charger_socket(gateway.url))
        for socket in (inside, late):
            assert (await exchange(socket, 2, "1", "Heartbeat", {}))[0] == 3
        # Also from many addresses.
        more = [await idle(f"127.0.1.{n}") for n in range(20)]
        await until(lambda: sum(one.at_eof() for one in [*quiet, *crowd, *more]) == 42 - 8)
        assert not any(one.at_eof() for one in more[-4:])
        assert (await exchange(late, 2, "2", "Heartbeat", {}))[0] == 3


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        pytest.param(b"GET /ocpp/CP-1 HTTP/1.1\r\nHost: x\r\n\r\n", b"426", id="no upgrade"),
        pytest.param(b"POST /ocpp/CP-1 HTTP/1.1\r\nHost: x\r\n\r\n", b"405", id="other method"),
        pytest.param(b"GET /elsewhere HTTP/1.1\r\nHost: x\r\n\r\n", b"404", id="other path"),
        pytest.param(b"GET /ocpp/" + b"A" * 20_000 + b" HTTP/1.1\r\n\r\n", b"414", id="endless path"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", b"", id="TLS to a plain port"),
        pytest.param(b"GET /ocpp/CP\xff HTTP/1.1\r\nHost: x\r\n\r\n", b"", id="not ASCII"),
    ],
)
async def test_what_is_no_charger_is_let_go(gateway: Running, request_bytes: bytes, status: bytes) -> None:
    """Anything but a WebSocket handshake is answered in HTTP, or just closed when it is no HTTP either."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.gateway.port)
    writer.write(request_bytes)
    async with asyncio.timeout(DEADLINE_S):
        answer = await reader.read()
    assert answer.split(b" ")[1:2] == ([status] if status else [])
    writer.close()
    await writer.wait_closed()


async def test_proxies_are_believed_about_the_client() -> None:
    """Behind a configured proxy the client's address is the one that it names, and no further."""
    asked: list[Request] = []

    async def handler(connection: ServerConnection) -> None:
        assert connection.request is not None
        asked.append(connection.request)
        await connection.wait_closed()

    proxies = (ipaddress.ip_network("127.0.0.0/8"),)
    async with peer(handler) as url, running_gateway(url, proxies=proxies) as gateway:
        headers = {"X-Forwarded-For": "198.51.100.1, 203.0.113.9"}
        async with charger_socket(gateway.url, additional_headers=headers):
            pass
    assert asked[0].headers["X-Forwarded-For"] == "203.0.113.9"


async def test_tls_is_served_directly(steve: SteveSimulator, tmp_path: Path) -> None:
    """With a certificate the gateway speaks wss itself."""
    certificate, key = self_signed(tmp_path)
    client = ssl.create_default_context(cafile=str(certificate))
    async with running_gateway(steve.ocpp_url, certificate=certificate, key=key) as gateway:
        url = gateway.url.replace("ws://127.0.0.1", "wss://localhost")
        async with charger_socket(url, ssl=client) as socket:
            assert (await exchange(socket, 2, "1", "Heartbeat", {}))[0] == 3
            await socket.close(1000)


async def test_what_never_spoke_tls_takes_no_room(steve: SteveSimulator, tmp_path: Path) -> None:
    """A health check that connects to the TLS port and goes leaves its place to a charger, and holds up no stop."""
    certificate, key = self_signed(tmp_path)
    client = ssl.create_default_context(cafile=str(certificate))
    async with running_gateway(steve.ocpp_url, certificate=certificate, key=key, max_chargers=1) as gateway:
        for said in (b"", b"GET / HTTP/1.1\r\n\r\n"):
            _, writer = await asyncio.open_connection("127.0.0.1", gateway.gateway.port)
            writer.write(said)
            writer.close()
            await writer.wait_closed()
        async with charger_socket(gateway.url.replace("ws://127.0.0.1", "wss://localhost"), ssl=client) as socket:
            assert (await exchange(socket, 2, "1", "Heartbeat", {}))[0] == 3
        started = time.monotonic()
        await gateway.stop()
        assert time.monotonic() - started < 1
