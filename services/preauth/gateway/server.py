"""The gateway as a supervised part: one listening socket, a tunnel for each charger, an orderly end."""

import asyncio
import random
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry
from websockets.http11 import Response

from services.preauth.addresses import Network
from services.preauth.gateway import handshake
from services.preauth.gateway.admission import Admission, Door
from services.preauth.gateway.handshake import Upstream
from services.preauth.gateway.house import House, Limits
from services.preauth.gateway.legs import Leg, Memory
from services.preauth.gateway.meter import Meter
from services.preauth.gateway.pacer import Pacer
from services.preauth.gateway.ports import TapDesk, Watcher
from services.preauth.gateway.tunnel import Tunnel
from services.preauth.gateway.unasked import MOST, Unasked
from shared.runtime.clock import Clock, NewId, utc_now, uuid7
from shared.runtime.log import get_logger

log = get_logger(__name__)

BACKLOG: Final = 4096
TLS_HANDSHAKE_S: Final = 10.0
# A charger behind a dead line is found after about two minutes, without a frame of our own.
KEEPALIVE: Final = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
# Of the time a stop may take: for open calls, and for the peers to answer our good-bye.
CALLS_SHARE: Final = 0.8
# At most this much of the time for open calls is spent on spreading good-byes.
SPREAD_SHARE: Final = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """`stop_s`: how long a stop may take. `reconnects_per_s`: how fast chargers are sent away to come back."""

    upstream: Upstream
    limits: Limits = field(default_factory=Limits)
    certificate: Path | None = None
    key: Path | None = None
    proxies: tuple[Network, ...] = ()
    max_chargers: int = 5_000
    max_unasked: int = MOST
    """Connections that have not asked yet. They are no chargers, and take the place of none."""
    connect_timeout_s: float = 10.0
    stop_s: float = 9.0
    reconnects_per_s: float = 100.0


class Gateway:
    """Relays chargers to SteVe until told to stop (contracts: Gateway)."""

    name = "gateway"

    def __init__(
        self,
        config: GatewayConfig,
        listener: socket.socket,
        *,
        desk: TapDesk,
        watcher: Watcher,
        clock: Clock = utc_now,
        new_id: NewId = uuid7,
        registry: CollectorRegistry | None = None,
    ) -> None:
        self._config, self._listener = config, listener
        self._desk, self._watcher, self._clock, self._new_id = desk, watcher, clock, new_id
        self.meter = Meter(registry)
        self._tunnels: set[Tunnel] = set()
        self._admissions: set[Admission] = set()
        self._unasked: Unasked[Admission] = Unasked(config.max_unasked)
        self._stopping = False
        self._empty = asyncio.Event()
        self.memory = Memory()
        self.port = int(listener.getsockname()[1])

    @property
    def config(self) -> GatewayConfig:
        return self._config

    def tunnels(self) -> Iterable[Tunnel]:
        """Who is connected here now."""
        return tuple(self._tunnels)

    async def run(self, stop: asyncio.Event) -> None:
        config = self._config
        house = House(
            desk=self._desk,
            watcher=self._watcher,
            meter=self.meter,
            limits=config.limits,
            clock=self._clock,
            new_id=self._new_id,
        )
        to_steve = ssl.create_default_context() if config.upstream.secure else None
        door = Door(house, config.upstream, to_steve, config.proxies, config.connect_timeout_s, self.memory, Pacer())
        # A copy of the socket: a server closes what it was given, and a restart needs it again.
        listener = self._listener.dup()
        _keep_alive(listener)
        tls = server_tls(config.certificate, config.key)
        server = await asyncio.get_running_loop().create_server(
            lambda: self._greet(door),
            sock=listener,
            backlog=BACKLOG,
            ssl=tls,
            ssl_handshake_timeout=None if tls is None else TLS_HANDSHAKE_S,
        )
        self._stopping = False
        log.info("Chargers are welcome.", action="gateway.listening", port=self.port, tls=tls is not None)
        try:
            await stop.wait()
            self._stopping = True
            server.close()
            # Its copy too, or the kernel would go on to accept for us.
            self._listener.close()
            await self._send_away()
        finally:
            server.close()
            for admission in tuple(self._admissions):
                admission.charger.abort()
            for tunnel in tuple(self._tunnels):
                tunnel.cut()
            await asyncio.sleep(0)

    # What admissions and tunnels tell

    def refuses(self, *, let_in: bool) -> Response | None:
        if self._stopping:
            return handshake.plain(503, "Service Unavailable", "The gateway is restarting; come back in a moment.\n")
        # Who asks is an admission, too; who has not asked yet takes no charger's place. Once let in, who came later
        # pushes nobody out again.
        asking = len(self._admissions) - len(self._unasked)
        if not let_in and len(self._tunnels) + asking > self._config.max_chargers:
            return handshake.plain(503, "Service Unavailable", "The gateway has no room for another charger.\n")
        return None

    def begun(self, admission: Admission) -> None:
        self._admissions.add(admission)
        if self._stopping:
            # It was accepted before, and its TLS took until now.
            admission.leave_unless_asked()
        elif (out := self._unasked.add(admission, admission.source)) is not None:
            out.leave_unless_asked()

    def asked(self, admission: Admission) -> None:
        self._unasked.remove(admission)

    def gone(self, admission: Admission) -> None:
        self._admissions.discard(admission)
        self._unasked.remove(admission)
        self._note_empty()

    def admitted(self, tunnel: Tunnel) -> None:
        self._tunnels.add(tunnel)
        self.meter.connections = len(self._tunnels)
        if self._stopping:
            tunnel.drain()

    def ended(self, tunnel: Tunnel) -> None:
        self._tunnels.discard(tunnel)
        self.meter.connections = len(self._tunnels)
        self._note_empty()

    # Inside

    def _note_empty(self) -> None:
        if not self._tunnels and not self._admissions:
            self._empty.set()

    def _greet(self, door: Door) -> Leg:
        return Admission(door, self).charger

    async def _send_away(self) -> None:
        """Let open calls finish, then close with 1012, not all at once: who is sent away comes back at once."""
        loop, config = asyncio.get_running_loop(), self._config
        tunnels = tuple(self._tunnels)
        calls_s = config.stop_s * CALLS_SHARE
        spread_s = min(len(tunnels) / config.reconnects_per_s, calls_s * SPREAD_SHARE)
        log.info("Chargers are sent away.", action="gateway.draining", chargers=len(tunnels), over_s=round(spread_s, 1))
        for admission in tuple(self._admissions):
            admission.leave_unless_asked()
        self._empty.clear()
        timers = [loop.call_later(random.uniform(0, spread_s), tunnel.drain) for tunnel in tunnels]  # noqa: S311 - jitter
        deadline = loop.time() + config.stop_s
        await self._wait_empty(loop.time() + calls_s)
        for timer in timers:
            timer.cancel()
        for tunnel in tuple(self._tunnels):
            tunnel.leave()
        await self._wait_empty(deadline)

    async def _wait_empty(self, until: float) -> None:
        if not self._tunnels and not self._admissions:
            return
        try:
            async with asyncio.timeout_at(until):
                await self._empty.wait()
        except TimeoutError:
            return


def server_tls(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """:raises OSError: when the files cannot be read or do not belong together."""
    if certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    return context


def _keep_alive(listener: socket.socket) -> None:
    """Accepted sockets inherit these from the listening one (Linux)."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        option = getattr(socket, name, None)
        if option is not None:
            listener.setsockopt(socket.IPPROTO_TCP, option, value)
