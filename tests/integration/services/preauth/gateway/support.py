"""A gateway of one test, in front of the simulated SteVe or of a peer that the test plays itself."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from services.preauth.chargers.seen import Seen
from services.preauth.gateway.handshake import Upstream
from services.preauth.gateway.ports import Presented, TapDesk, Watcher
from services.preauth.gateway.server import Gateway, GatewayConfig
from shared.contracts.events.preauth import Told
from shared.web.server import bind

# Behind it a failing test would hang; nothing here needs a tenth of it.
DEADLINE_S = 5.0


@dataclass
class Notes:
    """A desk that answers what the test says, and a watcher, which both write down what they were told."""

    blocks: set[str] = field(default_factory=set)
    asked: list[Presented] = field(default_factory=list)
    told_of: list[tuple[str, Told, bool]] = field(default_factory=list)
    verdicts: list[tuple[str, str]] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)

    async def decide(self, tap: Presented) -> bool:
        self.asked.append(tap)
        return tap.id_tag in self.blocks

    def told(self, tap: Presented, told: Told, *, in_time: bool) -> None:
        self.told_of.append((tap.id_tag, told, in_time))

    def answered(self, tap: Presented, verdict: str) -> None:
        self.verdicts.append((tap.id_tag, verdict))

    def saw(self, seen: Seen) -> None:
        self.seen.append(seen)

    def kinds(self) -> list[str]:
        return [type(one).__name__ for one in self.seen]


@dataclass
class Running:
    gateway: Gateway
    _stop: asyncio.Event
    _task: "asyncio.Task[None]"

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.gateway.port}/ocpp"

    async def stop(self) -> None:
        """As the supervisor stops it."""
        self._stop.set()
        await self._task


@asynccontextmanager
async def running_gateway(
    steve_url: str,
    *,
    desk: TapDesk | None = None,
    watcher: Watcher | None = None,
    **config: Any,  # noqa: ANN401 - fields of GatewayConfig
) -> AsyncIterator[Running]:
    notes = Notes()
    gateway = Gateway(
        replace(GatewayConfig(upstream=Upstream.parse(steve_url), stop_s=2.0), **config),
        bind("127.0.0.1", 0, setting="EXPRESSYNC_PREAUTH_OCPP_PORT"),
        desk=desk or notes,
        watcher=watcher or notes,
    )
    stop = asyncio.Event()
    running = Running(gateway, stop, asyncio.create_task(gateway.run(stop)))
    await asyncio.sleep(0)
    try:
        yield running
    finally:
        await running.stop()


class ChargerSocket(ClientConnection):
    """A client whose transport, once it is gone, may be aborted again, which websockets does at each end."""

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        # CPython fails at that where the transport was closed before its last bytes had left: it has no loop any more.
        self.transport.abort = lambda: None  # type: ignore[method-assign]


def charger_socket(
    url: str,
    path: str = "CP-1",
    *,
    subprotocols: tuple[str, ...] = ("ocpp1.6",),
    **options: Any,  # noqa: ANN401 - what websockets takes
) -> connect:
    """A WebSocket of which the test sees every frame."""
    return connect(
        f"{url}/{path}",
        subprotocols=[Subprotocol(one) for one in subprotocols] or None,
        proxy=None,
        ping_interval=None,
        compression=None,
        create_connection=ChargerSocket,
        **options,
    )


async def exchange(socket: ClientConnection, *frame: object) -> list[Any]:
    """Send a frame and read the next one."""
    await socket.send(json.dumps(frame))
    async with asyncio.timeout(DEADLINE_S):
        answer: list[Any] = json.loads(await socket.recv())
    return answer


@asynccontextmanager
async def peer(handler: Callable[[ServerConnection], Awaitable[None]]) -> AsyncIterator[str]:
    """A SteVe that does what the test says; its address."""
    async with serve(
        handler,
        "127.0.0.1",
        0,
        subprotocols=[Subprotocol("ocpp1.6"), Subprotocol("ocpp1.5")],
        ping_interval=None,
        compression=None,
        max_size=8 * 1024 * 1024,
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{port}/steve/websocket/CentralSystemService"


async def until(condition: Callable[[], bool], *, within_s: float = DEADLINE_S, what: str = "it") -> None:
    """Poll until the condition holds; fail by name when the deadline passes."""
    try:
        async with asyncio.timeout(within_s):
            while not condition():  # noqa: ASYNC110 - anything may be the condition
                await asyncio.sleep(0.005)
    except TimeoutError as error:
        raise AssertionError(f"{what} did not happen within {within_s} s") from error


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost and its key."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(private, hashes.SHA256())
    )
    certificate, key = folder / "cert.pem", folder / "key.pem"
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return certificate, key
