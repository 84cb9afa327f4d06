"""Frames and bytes that nobody sends on purpose."""

import asyncio
import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from deploy.demo.steve.simulator import SteveSimulator
from tests.integration.services.preauth.gateway.support import (
    DEADLINE_S,
    Notes,
    Running,
    charger_socket,
    exchange,
    peer,
    running_gateway,
)

ids = st.text(max_size=5)
frames = st.one_of(
    st.text(max_size=200),
    st.builds("[2,{!r},{!r},{}]".format, ids, ids, ids),
    st.sampled_from(
        [
            '[2,"1","Authorize",{"idTag":"A"}]',
            '[2,"1","Authorize",{"idTag":["A"]}]',
            '[2,"2","StartTransaction",{"connectorId":1,"idTag":"A","meterStart":0,"timestamp":"2026-05-01T10:00:00Z"}]',
            '[2,"3","StatusNotification",{"connectorId":-1}]',
            '[2,"4","RemoteStartTransaction",{"idTag":"A"}]',
            '[3,"1",{"idTagInfo":{"status":"Accepted"}}]',
            '[3,"2",{"transactionId":1,"idTagInfo":{"status":"Accepted"}}]',
            '[4,"1","InternalError","",{}]',
            "[[[[[[",
            "[2]",
            "",
        ]
    ),
)


@settings(max_examples=40, deadline=None)
@given(
    up=st.lists(frames, max_size=30),
    down=st.lists(frames, max_size=30),
    subprotocol=st.sampled_from(["ocpp1.6", "ocpp1.5"]),
)
def test_any_text_passes_unchanged_in_both_directions(up: list[str], down: list[str], subprotocol: str) -> None:
    """Whatever both sides say at the same time arrives, unchanged and in order, and nobody is disconnected."""

    async def play() -> None:
        arrived: asyncio.Queue[ServerConnection] = asyncio.Queue()

        async def handler(connection: ServerConnection) -> None:
            arrived.put_nowait(connection)
            await connection.wait_closed()

        async with (
            peer(handler) as url,
            running_gateway(url, desk=Notes()) as gateway,
            charger_socket(gateway.url, subprotocols=(subprotocol,)) as charger,
            asyncio.timeout(DEADLINE_S),
        ):
            steve = await arrived.get()

            async def send(side: object, some: list[str]) -> None:
                for frame in some:
                    await side.send(frame)  # type: ignore[attr-defined]

            await asyncio.gather(send(charger, up), send(steve, down))
            assert [await steve.recv() for _ in up] == up
            assert [await charger.recv() for _ in down] == down

    asyncio.run(play())


async def test_garbage_on_the_wire_hurts_nobody_else(steve: SteveSimulator, gateway: Running) -> None:
    """Random bytes before, during and after the handshake are closed; another charger does not notice."""
    chance = random.Random(7)
    hello = (
        b"GET /ocpp/CP-1 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MTIzNDU2Nzg5MDEyMzQ1Ng==\r\n"
        b"Sec-WebSocket-Protocol: ocpp1.6\r\n\r\n"
    )
    steve.state.add_charger("GOOD")
    async with charger_socket(gateway.url, "GOOD") as good:
        for turn in range(60):
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.gateway.port)
            garbage = os.urandom(chance.randrange(1, 2000))
            cut = chance.randrange(len(hello))
            writer.write((garbage, hello[:cut] + garbage, hello + garbage)[turn % 3])
            writer.write_eof()
            async with asyncio.timeout(DEADLINE_S):
                await reader.read()
            writer.close()
            if turn % 10 == 0:
                assert (await exchange(good, 2, str(turn), "Heartbeat", {}))[0] == 3
        assert (await exchange(good, 2, "last", "Heartbeat", {}))[0] == 3


@pytest.mark.parametrize("garbage", [b"\xc3\x28", b'[2,"1","Authorize",{"idTag":"\xff"}]'])
async def test_text_that_is_no_utf8_closes_1007(steve: SteveSimulator, gateway: Running, garbage: bytes) -> None:
    """Invalid UTF-8 is SteVe's to refuse: the charger hears its 1007."""
    async with charger_socket(gateway.url) as socket:
        await socket.send(garbage, text=True)
        with pytest.raises(ConnectionClosed):
            async with asyncio.timeout(DEADLINE_S):
                await socket.recv()
        assert socket.close_code == 1007
