"""A gateway that stops lets open calls finish, loses no frame that it read, and sends chargers away in turn."""

import asyncio
import json
import time

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from deploy.demo.steve.simulator import SteveSimulator
from services.preauth.gateway.house import Limits
from tests.integration.services.preauth.gateway.support import (
    DEADLINE_S,
    Notes,
    charger_socket,
    exchange,
    peer,
    running_gateway,
    until,
)
from tests.integration.services.preauth.gateway.test_taps import Stuck


async def test_idle_charger_is_sent_away_with_1012(steve: SteveSimulator) -> None:
    """A charger without an open call hears 1012, and SteVe does as well."""
    async with running_gateway(steve.ocpp_url) as gateway, charger_socket(gateway.url) as socket:
        assert (await exchange(socket, 2, "1", "Heartbeat", {}))[0] == 3
        started = time.monotonic()
        await gateway.stop()
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert (socket.close_code, socket.close_reason) == (1012, "Service Restart")
        assert time.monotonic() - started < 1
        await until(lambda: not steve.stations.connected())


async def test_nobody_is_let_in_while_stopping(steve: SteveSimulator) -> None:
    """From the moment of the stop the port refuses, so that another replica is tried."""
    async with running_gateway(steve.ocpp_url) as gateway:
        await gateway.stop()
        with pytest.raises(ConnectionRefusedError):
            async with charger_socket(gateway.url):
                pass


async def test_open_call_of_a_charger_is_answered_first() -> None:
    """A call that SteVe has not answered yet keeps the connection until the answer passed."""
    asked, answer = asyncio.Event(), asyncio.Event()

    async def handler(connection: ServerConnection) -> None:
        await connection.recv()
        asked.set()
        await answer.wait()
        await connection.send('[3,"1",{"late":true}]')
        await connection.wait_closed()

    async with peer(handler) as url, running_gateway(url) as gateway, charger_socket(gateway.url) as socket:
        await socket.send('[2,"1","StartTransaction",{}]')
        async with asyncio.timeout(DEADLINE_S):
            await asked.wait()
            stopping = asyncio.create_task(gateway.stop())
            await asyncio.sleep(0.2)
            assert socket.close_code is None
            assert not stopping.done()
            answer.set()
            assert await socket.recv() == '[3,"1",{"late":true}]'
            await stopping
            with pytest.raises(ConnectionClosed):
                await socket.recv()
        assert socket.close_code == 1012


async def test_open_call_of_steve_is_answered_first(steve: SteveSimulator) -> None:
    """A call of SteVe's that the charger has not answered yet is waited for as well."""
    async with running_gateway(steve.ocpp_url) as gateway, charger_socket(gateway.url) as socket:
        asking = asyncio.create_task(steve.stations.call("CP-1", "ClearCache", {}))
        async with asyncio.timeout(DEADLINE_S):
            message_id = json.loads(await socket.recv())[1]
            stopping = asyncio.create_task(gateway.stop())
            await asyncio.sleep(0.1)
            await socket.send(json.dumps([3, message_id, {"status": "Accepted"}]))
            assert (await asking)["status"] == "Accepted"
            await stopping


async def test_call_that_is_never_answered_does_not_hold_up_the_stop() -> None:
    """After the time for open calls everybody is sent away."""

    async def handler(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.wait_closed()

    async with (
        peer(handler) as url,
        running_gateway(url, stop_s=0.5) as gateway,
        charger_socket(gateway.url) as socket,
    ):
        await socket.send('[2,"1","StartTransaction",{}]')
        await until(lambda: gateway.gateway.meter.frames_up > 0)
        started = time.monotonic()
        await gateway.stop()
        assert 0.3 < time.monotonic() - started < 1
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1012


async def test_frames_behind_an_undecided_tap_reach_steve() -> None:
    """A stop in the middle of a decision passes on the tap and everything that was read behind it, in order.

    The desk hears of each tap, also of the one that it was not asked about.
    """
    arrived: list[str | bytes] = []

    async def handler(connection: ServerConnection) -> None:
        async for frame in connection:
            arrived.append(frame)  # noqa: PERF401 - seen as they come, not at the end

    desk = Stuck("hangs")
    frames = ['[2,"1","Authorize",{"idTag":"A"}]', '[2,"2","StopTransaction",{}]', '[2,"3","Authorize",{"idTag":"B"}]']
    async with (
        peer(handler) as url,
        running_gateway(url, desk=desk, stop_s=0.3, limits=Limits(deadline_s=30)) as gateway,
        charger_socket(gateway.url) as socket,
    ):
        for frame in frames:
            await socket.send(frame)
        (tunnel,) = gateway.gateway.tunnels()
        await until(lambda: len(tunnel._held or ()) == 2)
        await gateway.stop()
        await until(lambda: arrived == frames)
        assert desk.told_of == [("A", "passed", False), ("B", "passed", False)]


async def test_everything_read_before_the_stop_arrives(notes: Notes) -> None:
    """Under load, what reached SteVe is exactly a prefix of what each charger sent, and every answer came back."""
    got: dict[str, list[int]] = {}

    async def handler(connection: ServerConnection) -> None:
        assert connection.request is not None
        name = connection.request.path.rpartition("/")[2]
        async for frame in connection:
            number = json.loads(frame)[1]
            got.setdefault(name, []).append(int(number))
            await connection.send(f'[3,"{number}",{{}}]')

    sent: dict[str, int] = {}
    answered: dict[str, int] = {}

    async def charger(url: str, name: str) -> int | None:
        async with charger_socket(url, name) as socket:
            try:
                for number in range(100_000):
                    sent[name] = number
                    await socket.send(f'[2,"{number}","MeterValues",{{}}]')
                    assert json.loads(await socket.recv())[1] == str(number)
                    answered[name] = number
            except ConnectionClosed:
                pass
            return socket.close_code

    async with (
        peer(handler) as url,
        running_gateway(url, watcher=notes, reconnects_per_s=50, limits=Limits(frames_per_s=1e6)) as gateway,
    ):
        chargers = [asyncio.create_task(charger(gateway.url, f"C{n}")) for n in range(20)]
        await until(lambda: len(answered) == 20)
        started = time.monotonic()
        await gateway.stop()
        # Spread: at 50 a second, 20 chargers take a while.
        assert time.monotonic() - started > 0.15
        assert set(await asyncio.gather(*chargers)) == {1012}
    for name, numbers in got.items():
        assert numbers == list(range(len(numbers)))
        # Open calls were finished: nothing that SteVe answered was lost on the way back.
        assert answered[name] == numbers[-1]


async def test_handshake_in_progress_is_refused_or_finished(steve: SteveSimulator) -> None:
    """A charger that connects at the very moment of the stop is either refused or sent away, never left hanging."""
    async with running_gateway(steve.ocpp_url) as gateway:

        async def connect() -> int | None:
            try:
                async with charger_socket(gateway.url) as socket:
                    await socket.wait_closed()
                    return socket.close_code
            except InvalidStatus as refused:
                return refused.response.status_code
            except (OSError, InvalidMessage):
                # Cut before it had said what it wants.
                return None

        connecting = [asyncio.create_task(connect()) for _ in range(30)]
        await until(lambda: len(list(gateway.gateway.tunnels())) > 0)
        await gateway.stop()
        async with asyncio.timeout(DEADLINE_S):
            assert set(await asyncio.gather(*connecting)) <= {1012, 503, None}
