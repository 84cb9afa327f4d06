"""What stands around the gateway in its benchmark. Each prints its port and runs until stdin ends.

`steve` answers every call at once. Of the two relays that look at nothing, `relay STEVE_URL` is the plainest that one
writes with `websockets`, and `legs STEVE_URL` stands on the gateway's own sockets, without parsing, desk and observer.
"""

import asyncio
import gc
import sys
from typing import Final, cast

import uvloop
from websockets.asyncio.client import connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import Opcode
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol
from websockets.uri import parse_uri
from websockets.utils import accept_key

from services.preauth.gateway.legs import Leg, Memory, Why
from services.preauth.gateway.pacer import Pacer
from services.preauth.gateway.sides import MAX_TEXT_BYTES, ChargerSide, SteveSide, quiet
from tests.bench.gateway_wire import SUBPROTOCOL, measure, server_frame, unmask

OCPP: Final = Subprotocol(SUBPROTOCOL)
CLOSE, PING = 8, 9
# [2,"00000042","Action": the id and the action stand within these bytes.
HEAD: Final = 40
ANSWERS: Final = {
    b"Authorize": b'{"idTagInfo":{"status":"Accepted","expiryDate":"2030-01-01T00:00:00.000Z"}}',
    b"Heartbeat": b'{"currentTime":"2026-05-01T10:00:00.000Z"}',
}


class Station(asyncio.Protocol):
    def __init__(self) -> None:
        self._buffer = bytearray()
        self._open = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's by class.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        transport = self._transport
        if transport is None:
            return
        if not self._open:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            headers = {
                name.strip().lower(): value.strip()
                for name, _, value in (line.partition(":") for line in buffer[:end].decode().split("\r\n")[1:])
            }
            del buffer[: end + 4]
            self._open = True
            transport.write(
                (
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    f"Sec-WebSocket-Accept: {accept_key(headers['sec-websocket-key'])}\r\n"
                    f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
                ).encode()
            )
        at, answers = 0, []
        while (frame := measure(buffer, at)) is not None:
            opcode, start, at = frame
            if opcode == CLOSE:
                transport.close()
                return
            head = unmask(bytes(buffer[start + 4 : min(start + 4 + HEAD, at)]), bytes(buffer[start : start + 4]))
            _, message_id, _, action, *_ = head.split(b'"')
            answers.append(server_frame(b'[3,"' + message_id + b'",' + ANSWERS.get(action, b"{}") + b"]"))
        del buffer[:at]
        if answers:
            transport.write(b"".join(answers))


async def steve() -> None:
    server = await asyncio.get_running_loop().create_server(Station, "127.0.0.1", 0, backlog=4096)
    await _run(server.sockets[0].getsockname()[1])


async def relay(steve_url: str) -> None:
    """No parsing, no care: frames one way and the other."""

    async def pump(source: Connection, sink: Connection) -> None:
        try:
            async for frame in source:
                await sink.send(frame)
        except ConnectionClosed:
            pass
        await sink.close()

    async def handler(charger: ServerConnection) -> None:
        path = charger.request.path if charger.request is not None else ""
        url = f"{steve_url}/{path.rpartition('/')[2]}"
        async with connect(
            url, subprotocols=[OCPP], ping_interval=None, compression=None, max_size=8 * 1024 * 1024, proxy=None
        ) as upstream:
            await asyncio.gather(pump(charger, upstream), pump(upstream, charger))

    async with serve(
        handler,
        "127.0.0.1",
        0,
        subprotocols=[OCPP],
        ping_interval=None,
        compression=None,
        max_size=8 * 1024 * 1024,
        backlog=4096,
    ) as server:
        await _run(next(iter(server.sockets)).getsockname()[1])


class Pair:
    """A charger's two legs: what comes at the one is sent at the other."""

    def __init__(self, memory: Memory, pacer: Pacer, steve_url: str) -> None:
        self._memory, self._pacer, self._steve_url = memory, pacer, steve_url
        self._server = ChargerSide(max_size=MAX_TEXT_BYTES, logger=quiet)
        self._request: Request | None = None
        self._opening: asyncio.Task[None] | None = None
        self.charger = Leg(self._server, self, memory=memory, pacer=pacer)
        self._steve: Leg | None = None

    def on_connected(self, leg: Leg) -> None: ...

    def on_handshake(self, leg: Leg, message: Request | Response) -> None:
        if isinstance(message, Request):
            self._request = message
            leg.pause(Why.NOT_OPEN)
            self._opening = asyncio.get_running_loop().create_task(self._open(message.path.rpartition("/")[2]))
        elif self._request is not None:
            self._server.chosen = OCPP
            self._server.send_response(self._server.accept(self._request))
            self.charger.flush()
            self.charger.resume(Why.NOT_OPEN)

    async def _open(self, name: str) -> None:
        uri = parse_uri(f"{self._steve_url}/{name}")
        protocol = SteveSide(uri, subprotocols=[OCPP], max_size=MAX_TEXT_BYTES, logger=quiet)
        self._steve = steve = Leg(protocol, self, memory=self._memory, pacer=self._pacer)
        await asyncio.get_running_loop().create_connection(lambda: steve, uri.host, uri.port)
        protocol.send_request(protocol.connect())
        steve.flush()

    def on_text(self, leg: Leg, text: bytes | bytearray) -> None:
        if (other := self._other(leg)) is not None:
            other.send_text(text)

    def on_control(self, leg: Leg, opcode: Opcode, data: bytes) -> None:
        if (other := self._other(leg)) is not None:
            other.send_control(opcode, data)

    def on_batch(self, leg: Leg, frames: int) -> None:  # noqa: ARG002
        if (other := self._other(leg)) is not None:
            other.flush()

    def on_full(self, leg: Leg, *, full: bool) -> None:
        if (other := self._other(leg)) is not None:
            (other.pause if full else other.resume)(Why.PEER_IS_SLOW)

    def on_closed(self, leg: Leg, code: int, reason: str) -> None:
        if (other := self._other(leg)) is not None:
            other.close(code, reason)

    def on_lost(self, leg: Leg) -> None:
        if (other := self._other(leg)) is not None:
            other.hang_up()

    def _other(self, leg: Leg) -> Leg | None:
        return self._steve if leg is self.charger else self.charger


async def legs(steve_url: str) -> None:
    memory, pacer = Memory(), Pacer()
    server = await asyncio.get_running_loop().create_server(
        lambda: Pair(memory, pacer, steve_url).charger, "127.0.0.1", 0, backlog=4096
    )
    await _run(server.sockets[0].getsockname()[1])


async def _run(port: int) -> None:
    gc.collect()
    gc.freeze()
    print(port, flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(steve() if sys.argv[1] == "steve" else {"relay": relay, "legs": legs}[sys.argv[1]](sys.argv[2]))
