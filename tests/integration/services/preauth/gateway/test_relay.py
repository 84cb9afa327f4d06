"""Frames pass in order and unchanged, both ways; sockets live and die together."""

import asyncio
import contextlib
import json
import socket as sockets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from services.preauth.chargers.seen import Disconnected
from services.preauth.gateway.house import Limits
from tests.integration.services.preauth.gateway.support import (
    DEADLINE_S,
    Notes,
    Running,
    charger_socket,
    peer,
    running_gateway,
    until,
)


@dataclass
class Line:
    """A charger, a gateway and a SteVe that the test plays."""

    charger: ClientConnection
    steve: ServerConnection
    gateway: Running
    notes: Notes


@asynccontextmanager
async def line(
    *, subprotocol: str = "ocpp1.6", notes: Notes | None = None, limits: Limits | None = None
) -> AsyncIterator[Line]:
    arrived: asyncio.Queue[ServerConnection] = asyncio.Queue()

    async def handler(connection: ServerConnection) -> None:
        arrived.put_nowait(connection)
        await connection.wait_closed()

    notes = notes or Notes()
    async with (
        peer(handler) as url,
        running_gateway(url, desk=notes, watcher=notes, limits=limits or Limits()) as gateway,
        charger_socket(gateway.url, subprotocols=(subprotocol,), max_size=8 * 1024 * 1024) as charger,
    ):
        yield Line(charger, await arrived.get(), gateway, notes)


async def received(connection: Connection, count: int) -> list[str | bytes]:
    async with asyncio.timeout(DEADLINE_S):
        return [await connection.recv() for _ in range(count)]


FRAMES = [
    '[2,"1","Heartbeat",{}]',
    ' [ 2 , "2" , "Status\\u004eotification" , { "connectorId" : 1 } ] ',
    '[2,"3","Nonsense",{"ä":"€ 😀","n":1e400}]',
    "[2]",
    "not json at all",
    "{}",
    "",
    '[3,"unknown",{}]',
    '[4,"x","InternalError","",{}]',
    "[" * 2000,
    '[2,"4","StatusNotification",{"connectorId":"wrong"}]',
    '[2,"5","BootNotification",' + json.dumps({"x": "y" * 100_000}) + "]",
]


@pytest.mark.parametrize("subprotocol", ["ocpp1.6", "ocpp1.5"])
async def test_frames_pass_unchanged_and_in_order(subprotocol: str) -> None:
    """Whatever a peer sends as text arrives at the other, byte for byte, in order, in both directions."""
    async with line(subprotocol=subprotocol) as through:
        for frame in FRAMES:
            await through.charger.send(frame)
            await through.steve.send(frame)
        assert await received(through.steve, len(FRAMES)) == FRAMES
        assert await received(through.charger, len(FRAMES)) == FRAMES


async def test_many_frames_at_once_keep_their_order() -> None:
    """A thousand frames each way, sent without waiting, arrive in order."""
    frames: list[str | bytes] = [f'[2,"{n}","MeterValues",{{"connectorId":1}}]' for n in range(1000)]
    async with line() as through:

        async def send(connection: ClientConnection | ServerConnection) -> None:
            for frame in frames:
                await connection.send(frame)

        up, down, *_ = await asyncio.gather(
            received(through.steve, 1000), received(through.charger, 1000), send(through.charger), send(through.steve)
        )
        assert up == down == frames


async def test_fragmented_message_arrives_whole() -> None:
    """A message sent in fragments is understood and delivered as one."""
    notes = Notes(blocks={"CARD"})
    async with line(notes=notes) as through:
        await through.charger.send(["[2,", '"1","Autho', 'rize",{"idTag":"CARD"}]'])
        (answer,) = await received(through.charger, 1)
        assert json.loads(answer)[2]["idTagInfo"]["status"] == "Blocked"
        await through.charger.send(['[2,"2","Heart', 'beat",{}]'])
        assert await received(through.steve, 1) == ['[2,"2","Heartbeat",{}]']


async def test_pings_are_answered_by_the_other_end() -> None:
    """A ping passes the gateway and is answered by the peer, so that it proves that the peer is there."""
    async with line() as through:
        for pinger in (through.charger, through.steve):
            async with asyncio.timeout(DEADLINE_S):
                await (await pinger.ping(b"are you there"))
        through.steve.transport.pause_reading()
        pong = asyncio.ensure_future(await through.charger.ping(b"nobody"))
        await through.charger.send('[2,"1","Heartbeat",{}]')
        await asyncio.sleep(0.1)
        assert not pong.done()
        through.steve.transport.resume_reading()
        async with asyncio.timeout(DEADLINE_S):
            await pong


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 3000, 4999])
@pytest.mark.parametrize("closer", ["charger", "steve"])
async def test_close_code_is_mirrored(code: int, closer: str) -> None:
    """The side that is left hears the code and the reason that the other side gave."""
    async with line() as through:
        sides = {"charger": through.charger, "steve": through.steve}
        left = sides["steve" if closer == "charger" else "charger"]
        await sides[closer].close(code, "because")
        with pytest.raises(ConnectionClosed):
            await received(left, 1)
        assert (left.close_code, left.close_reason) == (code, "because")
        await until(lambda: any(isinstance(one, Disconnected) for one in through.notes.seen))
        (gone,) = [one for one in through.notes.seen if isinstance(one, Disconnected)]
        assert (gone.code, gone.reason) == (code, "because")
        assert not list(through.gateway.gateway.tunnels())


async def test_close_without_a_code_is_mirrored_as_one() -> None:
    """1005 cannot be sent: the other side gets a close frame without a code, too."""
    async with line() as through:
        async with through.charger.send_context():
            through.charger.protocol.send_close()
        with pytest.raises(ConnectionClosed):
            await received(through.steve, 1)
        assert through.steve.close_code == CloseCode.NO_STATUS_RCVD


@pytest.mark.parametrize("vanishing", ["charger", "steve"])
async def test_a_peer_that_vanishes_takes_the_other_socket_with_it(vanishing: str) -> None:
    """A socket that ends without a close frame ends the other the same way: 1006."""
    async with line() as through:
        sides = {"charger": through.charger, "steve": through.steve}
        left = sides["steve" if vanishing == "charger" else "charger"]
        sides[vanishing].transport.abort()
        with pytest.raises(ConnectionClosed):
            await received(left, 1)
        assert left.close_code == CloseCode.ABNORMAL_CLOSURE


async def test_last_words_are_delivered() -> None:
    """What a charger sent right before it closed reaches SteVe before the close does."""
    async with line() as through:
        for number in range(50):
            await through.charger.send(f'[2,"{number}","StopTransaction",{{}}]')
        await through.charger.close(1001)
        frames = await received(through.steve, 50)
        assert [json.loads(frame)[1] for frame in frames] == [str(n) for n in range(50)]
        with pytest.raises(ConnectionClosed):
            await received(through.steve, 1)
        assert through.steve.close_code == 1001


async def test_binary_closes_1003() -> None:
    """A binary frame closes both sockets with 1003, as SteVe does."""
    async with line() as through:
        await through.charger.send(b"\x00\x01")
        for side in (through.charger, through.steve):
            with pytest.raises(ConnectionClosed):
                await received(side, 1)
            assert side.close_code == 1003


async def test_eight_mebibytes_pass_and_one_more_byte_closes_1009() -> None:
    """The size limit is SteVe's: 8 MiB of text pass, more closes 1009 on both sides."""
    limit = 8 * 1024 * 1024
    async with line() as through:
        await through.charger.send("x" * limit)
        assert await received(through.steve, 1) == ["x" * limit]
        with contextlib.suppress(ConnectionClosed):
            await through.charger.send("x" * (limit + 1))
        for side in (through.charger, through.steve):
            with pytest.raises(ConnectionClosed):
                await received(side, 1)
            assert side.close_code == 1009


async def test_large_messages_share_a_bounded_memory() -> None:
    """When too many large messages are under way at once, the socket that would exceed the common bound closes 1009."""
    half = b"\x81\xff" + (4 * 1024 * 1024).to_bytes(8, "big") + b"\x00" * 4 + b"x" * (2 * 1024 * 1024)
    async with line() as through, charger_socket(through.gateway.url, "CP-2") as other:
        memory = through.gateway.gateway.memory
        memory.limit = 9 * 512 * 1024
        through.charger.transport.write(half)
        await until(lambda: memory.used >= 2 * 1024 * 1024)
        other.transport.write(half + b"x" * (1024 * 1024))
        with pytest.raises(ConnectionClosed):
            await received(other, 1)
        assert other.close_code == 1009
        # The first one is served, and its memory given back.
        through.charger.transport.write(b"x" * (2 * 1024 * 1024))
        assert await received(through.steve, 1) == ["x" * (4 * 1024 * 1024)]
        await until(lambda: memory.used == 0)


async def test_protocol_violation_closes_1002() -> None:
    """A reserved opcode closes 1002 on the side that sent it, and the other side hears the same."""
    async with line() as through:
        through.charger.transport.write(b"\x83\x80\x00\x00\x00\x00")
        for side in (through.charger, through.steve):
            with pytest.raises(ConnectionClosed):
                await received(side, 1)
            assert side.close_code == 1002


async def test_slow_peer_slows_the_other_down() -> None:
    """While SteVe does not read, the gateway stops reading the charger: memory stays bounded, nothing is lost."""
    frame = '[2,"1","DataTransfer",{"data":"' + "x" * 60_000 + '"}]'
    async with line() as through:
        (tunnel,) = through.gateway.gateway.tunnels()
        through.steve.transport.pause_reading()

        async def send() -> None:
            for _ in range(500):
                await through.charger.send(frame)

        sending = asyncio.create_task(send())
        await until(lambda: tunnel.steve.full)
        await asyncio.sleep(0.3)
        assert not sending.done()
        # What is in flight is one read above the high-water mark, not the 30 MB that the charger wants to send.
        assert tunnel.steve.unsent < 1024 * 1024
        # The other direction does not notice.
        await through.steve.send('[2,"9","ClearCache",{}]')
        assert await received(through.charger, 1) == ['[2,"9","ClearCache",{}]']
        through.steve.transport.resume_reading()
        assert await received(through.steve, 500) == [frame] * 500
        await sending


async def test_peer_that_never_reads_is_cut() -> None:
    """A SteVe that does not read for longer than the limit is cut off, and the charger told to try again later."""
    async with line(limits=Limits(stall_s=0.3)) as through:
        through.steve.transport.pause_reading()

        async def send_for_ever() -> None:
            while True:
                await through.charger.send("x" * 60_000)

        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(send_for_ever(), DEADLINE_S)
        assert through.charger.close_code == 1013
        await until(lambda: not list(through.gateway.gateway.tunnels()))
        through.steve.transport.abort()


async def test_flood_is_slowed_down_and_not_lost() -> None:
    """A charger that sends more than its share is not read for a while; nothing that it sent is lost."""
    async with line(limits=Limits(frames_per_s=250, burst_frames=100)) as through:
        began = time.monotonic()
        for number in range(400):
            await through.charger.send(f'[2,"{number}","Heartbeat",{{}}]')
        frames = await received(through.steve, 400)
        assert [json.loads(frame)[1] for frame in frames] == [str(n) for n in range(400)]
        await until(lambda: through.gateway.gateway.meter.throttled > 0)
        await through.charger.send('[2,"last","Heartbeat",{}]')
        await received(through.steve, 1)
        # The burst at once, the rest at the pace: however busy the machine is, no sooner.
        assert time.monotonic() - began > (401 - 100) / 250 - 0.1


async def test_half_open_charger_is_found_by_the_kernel() -> None:
    """Charger sockets have TCP keep-alive on: a dead line is found without a frame of the gateway's own."""
    async with line() as through:
        (tunnel,) = through.gateway.gateway.tunnels()
        assert tunnel.charger.transport is not None
        raw = tunnel.charger.transport.get_extra_info("socket")
        assert raw.getsockopt(sockets.SOL_SOCKET, sockets.SO_KEEPALIVE) == 1
        assert raw.getsockopt(sockets.IPPROTO_TCP, sockets.TCP_KEEPIDLE) == 60


async def test_gateway_never_calls_by_itself() -> None:
    """A connection on which nobody says anything carries no frame at all."""
    async with line() as through:
        for side in (through.charger, through.steve):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await side.recv()
