"""A card presented behind the gateway: asked about, blocked or passed on, and never held longer than the deadline."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ocpp.v16 import call
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection

from deploy.demo.chargers.charger import Charger
from deploy.demo.chargers.settings import ChargerSettings
from deploy.demo.steve.simulator import SteveSimulator
from services.preauth.gateway.house import Limits
from services.preauth.gateway.ports import Presented
from tests.integration.services.preauth.gateway.support import (
    DEADLINE_S,
    Notes,
    Running,
    charger_socket,
    exchange,
    peer,
    running_gateway,
    until,
)


@pytest.fixture
async def socket(gateway: Running) -> AsyncIterator[ClientConnection]:
    async with charger_socket(gateway.url) as opened:
        yield opened


def start(id_tag: str = "CARD", connector: int = 1) -> dict[str, Any]:
    return {"connectorId": connector, "idTag": id_tag, "meterStart": 5, "timestamp": "2026-05-01T10:00:00Z"}


async def test_intercepted_card_is_told_blocked_and_steve_hears_nothing(
    steve: SteveSimulator, notes: Notes, socket: ClientConnection
) -> None:
    """An intercepted Authorize is answered Blocked, valid only for a moment, and does not reach SteVe."""
    notes.blocks.add("CARD")
    kind, message_id, payload = await exchange(socket, 2, 'odd " id €', "Authorize", {"idTag": "CARD"})
    assert (kind, message_id) == (3, 'odd " id €')
    assert payload["idTagInfo"]["status"] == "Blocked"
    expiry = datetime.fromisoformat(payload["idTagInfo"]["expiryDate"])
    assert timedelta(0) < expiry - datetime.now(UTC) <= timedelta(seconds=10)
    assert steve.state.requests["ocpp:Authorize"] == 0
    assert notes.told_of == [("CARD", "blocked", True)]


async def test_other_cards_get_steves_answer(steve: SteveSimulator, notes: Notes, socket: ClientConnection) -> None:
    """A card that is not intercepted gets SteVe's own verdict, and the desk hears which one that was."""
    notes.blocks.add("CARD")
    steve.state.add_tag("OTHER")
    assert (await exchange(socket, 2, "1", "Authorize", {"idTag": "OTHER"}))[2]["idTagInfo"]["status"] == "Accepted"
    assert (await exchange(socket, 2, "2", "Authorize", {"idTag": "NOBODY"}))[2]["idTagInfo"]["status"] == "Invalid"
    assert notes.told_of == [("OTHER", "passed", True), ("NOBODY", "passed", True)]
    assert notes.verdicts == [("OTHER", "Accepted"), ("NOBODY", "Invalid")]


async def test_start_always_reaches_steve(steve: SteveSimulator, notes: Notes, socket: ClientConnection) -> None:
    """A StartTransaction is told to the desk and never blocked: its transaction id is SteVe's."""
    notes.blocks.add("CARD")
    answer = await exchange(socket, 2, "1", "StartTransaction", start())
    assert answer[2]["idTagInfo"]["status"] == "Accepted"
    assert answer[2]["transactionId"] in steve.state.transactions
    (tap,) = notes.asked
    assert (tap.kind, tap.connector_id, tap.id_tag) == ("start", 1, "CARD")
    assert notes.told_of == [("CARD", "passed", True)]


async def test_real_charger_does_not_charge_when_intercepted(
    steve: SteveSimulator, notes: Notes, gateway: Running
) -> None:
    """A charger of the ocpp library boots through the gateway, is blocked once, and charges with the next tap."""
    notes.blocks.add("CARD")
    async with Charger(ChargerSettings(ocpp_url=gateway.url, charge_box_id="CP-1", answer_timeout_s=5)) as charger:
        assert charger.registration == "Accepted"
        told = await charger.ask(call.Authorize(id_tag="CARD"))
        assert told.id_tag_info["status"] == "Blocked"
        assert not steve.state.transactions
        notes.blocks.clear()
        result = await charger.tap(1, "CARD")
        assert result.charging
        assert len(steve.state.transactions) == 1


@dataclass
class Stuck:
    """A desk that does not answer: it hangs, fails, or swallows every attempt to stop it."""

    how: str
    told_of: list[tuple[str, str, bool]] = field(default_factory=list)
    entered: asyncio.Event = field(default_factory=asyncio.Event)

    def decide(self, _: Presented) -> Any:  # noqa: ANN401 - what a broken desk returns
        self.entered.set()
        if self.how == "raises at once":
            raise RuntimeError("broken")
        return self._decide()

    async def _decide(self) -> bool:
        if self.how == "raises":
            raise RuntimeError("broken")
        until = time.monotonic() + 1
        while time.monotonic() < until:
            try:
                await asyncio.sleep(until - time.monotonic())
            except asyncio.CancelledError:
                if self.how != "swallows":
                    raise
        return True

    def told(self, tap: Presented, told: str, *, in_time: bool) -> None:
        self.told_of.append((tap.id_tag, told, in_time))
        if self.how == "raises":
            raise RuntimeError("broken too")

    def answered(self, _: Presented, __: str) -> None:
        raise RuntimeError("broken as well")


@pytest.mark.parametrize("how", ["hangs", "swallows", "raises", "raises at once"])
async def test_without_a_decision_the_tap_passes_within_the_deadline(steve: SteveSimulator, how: str) -> None:
    """A desk that hangs or fails costs a tap at most the deadline; SteVe decides, and the connection lives on."""
    desk = Stuck(how)
    async with (
        running_gateway(steve.ocpp_url, desk=desk, limits=Limits(deadline_s=0.1)) as gateway,
        charger_socket(gateway.url) as socket,
    ):
        started = time.monotonic()
        answer = await exchange(socket, 2, "1", "Authorize", {"idTag": "CARD"})
        assert answer[2]["idTagInfo"]["status"] == "Accepted"
        assert time.monotonic() - started < 0.3
        assert desk.told_of == [("CARD", "passed", False)]
        assert (await exchange(socket, 2, "2", "Heartbeat", {}))[0] == 3


async def test_other_direction_flows_while_a_tap_waits() -> None:
    """While a tap is decided SteVe's frames pass, and what the charger sends behind the tap keeps its order."""
    arrived: asyncio.Queue[ServerConnection] = asyncio.Queue()

    async def handler(connection: ServerConnection) -> None:
        arrived.put_nowait(connection)
        await connection.wait_closed()

    desk = Stuck("hangs")
    async with (
        peer(handler) as url,
        running_gateway(url, desk=desk, limits=Limits(deadline_s=0.4)) as gateway,
        charger_socket(gateway.url) as charger,
    ):
        steve = await arrived.get()
        frames = ['[2,"1","Authorize",{"idTag":"A"}]', '[2,"2","Heartbeat",{}]', '[3,"9",{}]']
        for frame in frames:
            await charger.send(frame)
        pong = await charger.ping(b"behind the tap")
        async with asyncio.timeout(DEADLINE_S):
            await desk.entered.wait()
            started = time.monotonic()
            await steve.send('[2,"s","ClearCache",{}]')
            assert await charger.recv() == '[2,"s","ClearCache",{}]'
            assert time.monotonic() - started < 0.3
            assert [await steve.recv() for _ in frames] == frames
            await pong


async def test_many_taps_behind_each_other_are_all_decided(
    steve: SteveSimulator, notes: Notes, socket: ClientConnection
) -> None:
    """Taps that wait behind a tap are asked about one after the other, and each gets its own answer."""
    notes.blocks.add("EVIL")
    for number in range(20):
        await socket.send(json.dumps([2, str(number), "Authorize", {"idTag": "EVIL" if number % 2 else "CARD"}]))
    async with asyncio.timeout(DEADLINE_S):
        answers = [json.loads(await socket.recv()) for _ in range(20)]
    told = {message_id: payload["idTagInfo"]["status"] for _, message_id, payload in answers}
    assert told == {str(n): "Blocked" if n % 2 else "Accepted" for n in range(20)}
    assert steve.state.requests["ocpp:Authorize"] == 10


async def test_flood_behind_a_tap_is_not_read(steve: SteveSimulator) -> None:
    """A charger that sends megabytes while its tap is decided is not read until it is."""
    desk = Stuck("hangs")
    frame = json.dumps([2, "x", "DataTransfer", {"vendorId": "v", "data": "x" * 50_000}])
    async with (
        running_gateway(steve.ocpp_url, desk=desk, limits=Limits(deadline_s=0.8)) as gateway,
        charger_socket(gateway.url) as socket,
    ):
        await socket.send('[2,"1","Authorize",{"idTag":"CARD"}]')
        (tunnel,) = gateway.gateway.tunnels()

        async def send() -> None:
            for _ in range(200):
                await socket.send(frame)

        sending = asyncio.create_task(send())
        await until(lambda: tunnel._held is not None and tunnel._held.size > 0)
        await asyncio.sleep(0.3)
        assert not sending.done()
        assert tunnel._held is not None
        assert tunnel._held.size < 2 * 1024 * 1024
        async with asyncio.timeout(DEADLINE_S):
            answers = [json.loads(await socket.recv()) for _ in range(201)]
        assert len(answers) == 201
        await sending


async def test_card_of_a_remote_start_is_not_intercepted(steve: SteveSimulator, notes: Notes, gateway: Running) -> None:
    """An Authorize that follows SteVe's RemoteStart is no tap: it passes even if the desk would block it."""
    notes.blocks |= {"CARD", "OTHER"}
    steve.state.add_tag("OTHER")
    async with charger_socket(gateway.url) as socket:
        asking = asyncio.create_task(
            steve.stations.call("CP-1", "RemoteStartTransaction", {"idTag": "card", "connectorId": 1})
        )
        async with asyncio.timeout(DEADLINE_S):
            _, message_id, action, _ = json.loads(await socket.recv())
            assert action == "RemoteStartTransaction"
            await socket.send(json.dumps([3, message_id, {"status": "Accepted"}]))
            assert (await asking)["status"] == "Accepted"
        answer = await exchange(socket, 2, "1", "Authorize", {"idTag": "CARD"})
        assert answer[2]["idTagInfo"]["status"] == "Accepted"
        assert notes.asked[-1].remote_start
        # Only its own card, and only until it started.
        assert (await exchange(socket, 2, "2", "Authorize", {"idTag": "OTHER"}))[2]["idTagInfo"]["status"] == "Blocked"
        await exchange(socket, 2, "3", "StartTransaction", start())
        assert (await exchange(socket, 2, "4", "Authorize", {"idTag": "CARD"}))[2]["idTagInfo"]["status"] == "Blocked"


async def test_refused_remote_start_does_not_shield_the_card(
    steve: SteveSimulator, notes: Notes, gateway: Running
) -> None:
    """When the charger refused the RemoteStart, the next Authorize of that card is a tap."""
    notes.blocks.add("CARD")
    async with charger_socket(gateway.url) as socket:
        asking = asyncio.create_task(steve.stations.call("CP-1", "RemoteStartTransaction", {"idTag": "CARD"}))
        async with asyncio.timeout(DEADLINE_S):
            message_id = json.loads(await socket.recv())[1]
            await socket.send(json.dumps([3, message_id, {"status": "Rejected"}]))
            await asking
        assert (await exchange(socket, 2, "1", "Authorize", {"idTag": "CARD"}))[2]["idTagInfo"]["status"] == "Blocked"


async def test_older_ocpp_is_only_relayed(steve: SteveSimulator, notes: Notes, gateway: Running) -> None:
    """A charger that speaks OCPP 1.5 is relayed and never intercepted."""
    notes.blocks.add("CARD")
    async with charger_socket(gateway.url, subprotocols=("ocpp1.5",)) as socket:
        answer = await exchange(socket, 2, "1", "Authorize", {"idTag": "CARD"})
        assert answer[2]["idTagInfo"]["status"] == "Accepted"
    assert notes.asked == []


@pytest.mark.parametrize(
    "frame",
    [
        '[2,"1","Authorize",{"idTag":true}]',
        '[2,"1","Authorize",{}]',
        '[2,"1","Authorize",null]',
        '[2,"1","Authorize",{"idTag":""}]',
        '[2,"1","Authorize",{"idTag":"' + "x" * 300 + '"}]',
        '[2,"1","Authorize",{"idTag":"CARD"},5]',
        '[2,null,"Authorize",{"idTag":"CARD"}]',
        '[2,"1","authorize",{"idTag":"CARD"}]',
        '[2,"1","Authorize",{"idTag":"CARD"}',
        '[2,"1","Authorize",{"idTag":"\\ud800"}]',
        '[2,"1","Authorize",{"idTag":"A\\u0000B"}]',
        '[2,"1","Authorize",' + "[" * 50_000 + "]" * 50_000 + "]",
    ],
)
async def test_anything_but_an_authorize_is_steves_to_judge(notes: Notes, frame: str) -> None:
    """A frame that only resembles an Authorize is forwarded as it is, and nobody is asked."""
    arrived: asyncio.Queue[str | bytes] = asyncio.Queue()

    async def handler(connection: ServerConnection) -> None:
        async for one in connection:
            arrived.put_nowait(one)

    async with (
        peer(handler) as url,
        running_gateway(url, desk=notes) as gateway,
        charger_socket(gateway.url) as charger,
    ):
        await charger.send(frame)
        async with asyncio.timeout(DEADLINE_S):
            assert await arrived.get() == frame
    assert notes.asked == []


@pytest.mark.parametrize(
    ("frame", "card", "connector_id"),
    [
        ('[2,"1","Authorize",{"idTag":123}]', "123", None),
        ('[2,1,"Authorize",{"idTag":"CARD"}]', "CARD", None),
        ('[2,"1","StartTransaction",{"idTag":"CARD","connectorId":1,"meterStart":5.0}]', "CARD", 1),
        ('[2,"1","StartTransaction",{"idTag":"CARD","connectorId":"1","meterStart":"5"}]', "CARD", 1),
        ('[2,"1","StartTransaction",{"idTag":"CARD","connectorId":[],"meterStart":{}}]', "CARD", None),
    ],
)
async def test_a_tap_is_one_however_its_charger_writes(
    notes: Notes, frame: str, card: str, connector_id: int | None
) -> None:
    """A card that is presented is asked about, whatever else of the call is odd or missing."""
    arrived: asyncio.Queue[str | bytes] = asyncio.Queue()

    async def handler(connection: ServerConnection) -> None:
        async for one in connection:
            arrived.put_nowait(one)

    async with (
        peer(handler) as url,
        running_gateway(url, desk=notes) as gateway,
        charger_socket(gateway.url) as charger,
    ):
        await charger.send(frame)
        async with asyncio.timeout(DEADLINE_S):
            assert await arrived.get() == frame
    assert [(tap.id_tag, tap.connector_id) for tap in notes.asked] == [(card, connector_id)]


async def test_two_gateways_serve_the_same_steve(steve: SteveSimulator, notes: Notes) -> None:
    """Chargers on two replicas reach the same SteVe; one that moves over is at home on the other."""
    steve.state.add_charger("CP-2")
    notes.blocks.add("CARD")
    async with (
        running_gateway(steve.ocpp_url, desk=notes) as first,
        running_gateway(steve.ocpp_url, desk=notes) as second,
        charger_socket(first.url) as one,
        charger_socket(second.url, "CP-2") as two,
    ):
        for socket in (one, two):
            told = await exchange(socket, 2, "1", "Authorize", {"idTag": "CARD"})
            assert told[2]["idTagInfo"]["status"] == "Blocked"
        await one.close()
        async with charger_socket(second.url) as moved:
            assert (await exchange(moved, 2, "1", "Heartbeat", {}))[0] == 3
            assert steve.stations.connected() == {"CP-1", "CP-2"}
