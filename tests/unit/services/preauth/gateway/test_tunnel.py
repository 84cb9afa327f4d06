"""A tunnel between two sockets that the test holds in its hands: what happens within one turn of the loop."""

import asyncio
from dataclasses import dataclass, field

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, State
from websockets.server import ServerProtocol
from websockets.uri import WebSocketURI

from services.preauth.chargers.seen import Seen
from services.preauth.gateway.house import House, Limits
from services.preauth.gateway.legs import Leg, Memory
from services.preauth.gateway.meter import Meter
from services.preauth.gateway.pacer import Pacer
from services.preauth.gateway.ports import Presented
from services.preauth.gateway.sides import ChargerSide, SteveSide, quiet
from services.preauth.gateway.tunnel import Tunnel
from shared.contracts.events.preauth import Told
from shared.runtime.clock import utc_now, uuid7

URI = WebSocketURI(secure=False, host="steve", port=80, path="/x", query="")
CALL = b'[2,"1","Heartbeat",{}]'
ANSWER = b'[3,"1",{}]'
TAP = b'[2,"2","Authorize",{"idTag":"A"}]'


class Wire(asyncio.Transport):
    """Takes what a leg writes."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def write(self, data: object) -> None:
        self.written += bytes(data)  # type: ignore[call-overload]

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closed

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None: ...

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


@dataclass
class Desk:
    """Decides when the test says so."""

    asked: list[str] = field(default_factory=list)
    told_of: list[Told] = field(default_factory=list)
    decided: "asyncio.Future[bool]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    async def decide(self, tap: Presented) -> bool:
        self.asked.append(tap.id_tag)
        return await self.decided

    def told(self, _: Presented, told: Told, *, in_time: bool) -> None:  # noqa: ARG002
        self.told_of.append(told)

    def answered(self, tap: Presented, verdict: str) -> None: ...


class Peer:
    """The other end of a wire: makes bytes of frames, and frames of bytes."""

    def __init__(self, leg: Leg, wire: Wire, protocol: Protocol) -> None:
        self._leg, self._wire, self._protocol = leg, wire, protocol
        self.got: list[bytes | tuple[str, int]] = []

    def sends(self, *frames: bytes) -> None:
        """All of them arrive in one read."""
        for frame in frames:
            self._protocol.send_text(frame)
        self._leg.data_received(b"".join(self._protocol.data_to_send()))

    def sends_and_closes(self, frame: bytes, code: int) -> None:
        self._protocol.send_text(frame)
        self._protocol.send_close(code)
        self._leg.data_received(b"".join(part for part in self._protocol.data_to_send() if part))

    def hears(self) -> list[bytes | tuple[str, int]]:
        """What came so far: texts, and ("close", code)."""
        data, self._wire.written = bytes(self._wire.written), bytearray()
        if data:
            self._protocol.receive_data(data)
        for frame in self._protocol.events_received():
            if isinstance(frame, Frame) and frame.opcode is Opcode.TEXT:
                self.got.append(bytes(frame.data))
            elif isinstance(frame, Frame) and frame.opcode is Opcode.CLOSE and self._protocol.close_rcvd is not None:
                self.got.append(("close", self._protocol.close_rcvd.code))
        return self.got


@dataclass
class Line:
    tunnel: Tunnel
    charger: Peer
    steve: Peer
    desk: Desk


class Blind:
    def saw(self, seen: Seen) -> None: ...


class Owner:
    def on_connected(self, leg: Leg) -> None: ...

    def ended(self, tunnel: Tunnel) -> None: ...


@pytest.fixture
async def line() -> Line:
    desk = Desk()
    house = House(
        desk=desk,
        watcher=Blind(),
        meter=Meter(),
        limits=Limits(deadline_s=5),
        clock=utc_now,
        new_id=uuid7,
    )
    memory, pacer = Memory(), Pacer()
    charger = Leg(ChargerSide(state=State.OPEN, logger=quiet), Owner(), memory=memory, pacer=pacer)  # type: ignore[arg-type]
    steve = Leg(SteveSide(URI, state=State.OPEN, logger=quiet), Owner(), memory=memory, pacer=pacer)  # type: ignore[arg-type]
    wires = Wire(), Wire()
    charger.connection_made(wires[0])
    steve.connection_made(wires[1])
    tunnel = Tunnel(house, Owner(), charger=charger, steve=steve, charge_box_id="CP", subprotocol="ocpp1.6")
    charger.hand_over(tunnel)
    steve.hand_over(tunnel)
    return Line(
        tunnel,
        Peer(charger, wires[0], ClientProtocol(URI, state=State.OPEN)),
        Peer(steve, wires[1], ServerProtocol(state=State.OPEN)),
        desk,
    )


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_call_that_comes_just_before_the_good_bye_is_answered_first(line: Line) -> None:
    """Quiet at the moment of the drain, but not a moment later: the new call is finished before the close."""
    line.tunnel.drain()
    line.charger.sends(CALL)
    await turns()
    assert line.charger.hears() == []
    assert line.steve.hears() == [CALL]
    line.steve.sends(ANSWER)
    await turns()
    assert line.charger.hears() == [ANSWER, ("close", 1012)]


async def test_close_waits_for_the_tap_before_it(line: Line) -> None:
    """A charger that taps and closes at once: SteVe hears the tap, when it is decided, and then the close."""
    line.charger.sends_and_closes(TAP, 1001)
    await turns()
    assert line.desk.asked == ["A"]
    assert line.steve.hears() == []
    line.desk.decided.set_result(False)
    await turns()
    assert line.steve.hears() == [TAP, ("close", 1001)]


async def test_blocked_is_unknown_when_the_charger_is_gone(line: Line) -> None:
    """Blocked that nobody could hear was not told: nobody is logged in by it, and SteVe hears no tap either."""
    line.charger.sends_and_closes(TAP, 1001)
    await turns()
    line.desk.decided.set_result(True)
    await turns()
    assert line.desk.told_of == ["unknown"]
    assert line.steve.hears() == [("close", 1001)]


async def test_tap_is_told_unknown_when_steve_is_gone(line: Line) -> None:
    """SteVe closes while a tap waits: the charger hears the close, and who decides hears that nothing was told."""
    line.charger.sends(TAP)
    await turns()
    line.steve.sends_and_closes(ANSWER, 1001)
    await turns()
    await turns()
    assert line.charger.hears() == [ANSWER, ("close", 1001)]
    assert line.desk.told_of == ["unknown"]


async def test_texts_before_a_close_in_the_same_read_are_passed_on(line: Line) -> None:
    """A call and a close that arrive together arrive together."""
    line.charger.sends_and_closes(CALL, 1000)
    assert line.steve.hears() == [CALL, ("close", 1000)]


async def test_nothing_follows_our_own_close(line: Line) -> None:
    """What a charger sends after it was sent away is its to repeat: SteVe does not hear it twice."""
    line.tunnel.leave()
    line.charger.sends(CALL)
    assert line.charger.hears() == [("close", 1012)]
    assert line.steve.hears() == [("close", 1012)]


async def test_tap_that_comes_just_before_the_good_bye_is_not_waited_for(line: Line) -> None:
    """A tap read in the turn of the leave, and what is behind it, pass at once; the desk hears of it."""
    line.charger.sends(TAP, CALL)
    line.tunnel.leave()
    await turns()
    await turns()
    assert line.steve.hears() == [TAP, CALL, ("close", 1012)]
    assert line.desk.asked == []
    assert line.desk.told_of == ["passed"]
