"""A charger's handshake: SteVe is asked first, and its answer becomes ours."""

import asyncio
import ssl
from dataclasses import dataclass, field
from typing import Final, Protocol

from websockets.exceptions import InvalidHandshake, InvalidMessage, InvalidStatus
from websockets.frames import Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.typing import Subprotocol

from services.preauth.addresses import Network, counted, parse_address
from services.preauth.gateway import handshake
from services.preauth.gateway.handshake import Refusal, Route, Upstream
from services.preauth.gateway.house import House
from services.preauth.gateway.legs import Leg, Memory, Why
from services.preauth.gateway.pacer import Pacer
from services.preauth.gateway.sides import MAX_TEXT_BYTES, ChargerSide, SteveSide, quiet
from services.preauth.gateway.tunnel import Tunnel
from shared.runtime.log import get_logger

log = get_logger(__name__)

# A charger that takes longer to say what it wants is let go.
REQUEST_TIMEOUT_S: Final = 10.0
# Frames that a peer sends before the other side is there. A polite charger sends none.
EARLY_BYTES: Final = 64 * 1024

_Early = tuple[Leg, Opcode, bytes | bytearray]


@dataclass(slots=True)
class Door:
    """What all admissions share. `connecting` bounds how many SteVe is asked about at once."""

    house: House
    upstream: Upstream
    tls: ssl.SSLContext | None
    proxies: tuple[Network, ...]
    connect_timeout_s: float
    memory: Memory
    pacer: Pacer
    connecting: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(256))


class Hall(Protocol):
    """Where tunnels live."""

    def refuses(self, *, let_in: bool) -> Response | None:
        """Why nobody is let in at the moment. `let_in`: this one was, and waits for SteVe's word."""
        ...

    def begun(self, admission: "Admission") -> None: ...

    def asked(self, admission: "Admission") -> None: ...

    def gone(self, admission: "Admission") -> None: ...

    def admitted(self, tunnel: Tunnel) -> None: ...

    def ended(self, tunnel: Tunnel) -> None: ...


class UpstreamRefusedError(Exception):
    """The charger cannot be let in; `response` says why, in SteVe's words where there are any."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status_code)
        self.response = response


class Admission:
    """From a charger's TCP connection to a tunnel, or to a refusal."""

    __slots__ = ("_answer", "_door", "_early", "_early_bytes", "_hall", "_protocol", "_task", "charger", "steve")

    def __init__(self, door: Door, hall: Hall) -> None:
        self._door, self._hall = door, hall
        self._protocol = ChargerSide(max_size=MAX_TEXT_BYTES, logger=quiet)
        self.charger = Leg(self._protocol, self, memory=door.memory, pacer=door.pacer)
        self.charger.cut_after(REQUEST_TIMEOUT_S)
        self.steve: Leg | None = None
        self._answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._early: list[_Early] = []
        self._early_bytes = 0
        self._task: asyncio.Task[None] | None = None

    def leave_unless_asked(self) -> None:
        """The gateway stops: who has not said yet what it wants need not."""
        if self._task is None:
            self.charger.abort()

    @property
    def source(self) -> str:
        """Where the connection comes from, as it is counted."""
        peer = self._peer()
        address = parse_address(peer)
        return peer if address is None else counted(address)

    # What the legs tell

    def on_connected(self, leg: Leg) -> None:
        if leg is self.charger:
            self._hall.begun(self)

    def on_handshake(self, leg: Leg, message: Request | Response) -> None:
        if isinstance(message, Request):
            leg.keep()
            self._hall.asked(self)
            self._task = asyncio.get_running_loop().create_task(self._admit(message))
        elif not self._answer.done():
            # Nothing further is read before the charger has its answer.
            leg.pause(Why.NOT_OPEN)
            self._answer.set_result(message)

    def on_text(self, leg: Leg, text: bytes | bytearray) -> None:
        self._keep(leg, Opcode.TEXT, text)

    def on_control(self, leg: Leg, opcode: Opcode, data: bytes) -> None:
        self._keep(leg, opcode, data)

    def on_batch(self, leg: Leg, frames: int) -> None: ...

    def on_full(self, leg: Leg, *, full: bool) -> None: ...

    def on_closed(self, leg: Leg, code: int, reason: str) -> None:  # noqa: ARG002
        """A peer that leaves before the other is there."""
        leg.abort()

    def on_lost(self, leg: Leg) -> None:
        if leg is self.charger:
            if self._task is not None:
                self._task.cancel()
            if self.steve is not None:
                self.steve.abort()
            self._hall.gone(self)
        elif not self._answer.done():
            error = leg.protocol.handshake_exc or InvalidMessage("the connection was closed")
            self._answer.set_exception(error)
            # Retrieved or not: the charger may have gone first.
            self._answer.exception()
        elif self._task is not None and not self._task.done():
            self._task.cancel()
            self.charger.abort()

    # Inside

    def _keep(self, leg: Leg, opcode: Opcode, data: bytes | bytearray) -> None:
        self._early.append((leg, opcode, data))
        self._early_bytes += len(data)
        leg.pause(Why.NOT_OPEN)
        if self._early_bytes > EARLY_BYTES or len(self._early) > EARLY_BYTES // 64:
            leg.abort()

    async def _admit(self, request: Request) -> None:
        protocol = self._protocol
        route = handshake.route(request.path)
        client = handshake.client_address(self._peer(), request.headers, self._door.proxies)
        try:
            subprotocol = await self._ask_steve(protocol, request, route, client)
        except UpstreamRefusedError as refused:
            self._refuse(protocol, refused.response, route, client)
            return
        protocol.chosen = subprotocol
        response = protocol.accept(request)
        protocol.send_response(response)
        self._door.house.meter.answered(response.status_code)
        self.charger.flush()
        if self.steve is None or protocol.state is not State.OPEN or isinstance(route, Refusal):
            self.charger.hang_up()
            if self.steve is not None:
                self.steve.abort()
            return
        self._open(self.steve, route, subprotocol)

    async def _ask_steve(
        self, protocol: ChargerSide, request: Request, route: Route | Refusal, client: str
    ) -> Subprotocol | None:
        """Open SteVe's side; returns the subprotocol that it chose.

        :raises UpstreamRefusedError: with what the charger is to be answered instead.
        """
        if isinstance(route, Refusal):
            raise UpstreamRefusedError(handshake.plain(route.status, "Refused", route.reason + "\n"))
        if (busy := self._hall.refuses(let_in=False)) is not None:
            raise UpstreamRefusedError(busy)
        try:
            # Only whether it is a WebSocket handshake at all; the library answers in words if not.
            protocol.process_request(request)
        except InvalidHandshake:
            raise UpstreamRefusedError(protocol.accept(request)) from None
        try:
            async with asyncio.timeout(self._door.connect_timeout_s), self._door.connecting:
                await self._connect(request, route, client)
                response = await self._answer
        except TimeoutError:
            text = "The central system did not answer in time.\n"
            raise UpstreamRefusedError(handshake.plain(504, "Gateway Timeout", text)) from None
        except InvalidStatus as refused:
            raise UpstreamRefusedError(handshake.refusal(refused.response)) from None
        except (OSError, InvalidHandshake) as error:
            log.warning("SteVe could not be reached.", action="gateway.steve_unreachable", error=repr(error))
            text = "The central system could not be reached.\n"
            raise UpstreamRefusedError(handshake.plain(502, "Bad Gateway", text)) from None
        if response.status_code != 101:
            raise UpstreamRefusedError(handshake.refusal(response))
        if self.steve is None or self.steve.protocol.state is not State.OPEN:
            text = "The central system's answer to the handshake is no WebSocket's.\n"
            raise UpstreamRefusedError(handshake.plain(502, "Bad Gateway", text))
        if (busy := self._hall.refuses(let_in=True)) is not None:
            raise UpstreamRefusedError(busy)
        return self.steve.protocol.subprotocol

    async def _connect(self, request: Request, route: Route, client: str) -> None:
        upstream = self._door.upstream
        protocol = SteveSide(
            upstream.uri(route),
            subprotocols=handshake.offered(request.headers) or None,
            max_size=MAX_TEXT_BYTES,
            logger=quiet,
        )
        leg = self.steve = Leg(protocol, self, memory=self._door.memory, pacer=self._door.pacer)
        await asyncio.get_running_loop().create_connection(
            lambda: leg, upstream.host, upstream.port, ssl=self._door.tls
        )
        asking = protocol.connect()
        handshake.to_steve(request, asking, client)
        protocol.send_request(asking)
        leg.flush()

    def _open(self, steve: Leg, route: Route, subprotocol: Subprotocol | None) -> None:
        tunnel = Tunnel(
            self._door.house,
            self._hall,
            charger=self.charger,
            steve=steve,
            charge_box_id=route.charge_box_id,
            subprotocol=subprotocol or "",
        )
        self.charger.hand_over(tunnel)
        steve.hand_over(tunnel)
        self._hall.gone(self)
        self._hall.admitted(tunnel)
        tunnel.opened()
        early, self._early = self._early, []
        for leg, opcode, data in early:
            if opcode is Opcode.TEXT:
                tunnel.on_text(leg, data)
            else:
                tunnel.on_control(leg, opcode, bytes(data))
        for leg in (self.charger, steve):
            tunnel.on_batch(leg, 0)
            leg.resume(Why.NOT_OPEN)

    def _refuse(self, protocol: ChargerSide, response: Response, route: Route | Refusal, client: str) -> None:
        self._door.house.meter.answered(response.status_code)
        log.info(
            "A charger was refused.",
            action="gateway.refused",
            status=response.status_code,
            charge_box_id=route.charge_box_id if isinstance(route, Route) else None,
            client=client,
        )
        if self.steve is not None:
            self.steve.abort()
        if protocol.state is State.CONNECTING:
            protocol.send_response(response)
            self.charger.flush()

    def _peer(self) -> str:
        transport = self.charger.transport
        peer = transport.get_extra_info("peername") if transport is not None else None
        return str(peer[0]) if isinstance(peer, tuple) else ""
