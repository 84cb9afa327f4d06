"""Starting a simulated Lago in a running event loop, on a real port."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import uvicorn
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from deploy.demo.lago import lifecycle
from deploy.demo.lago.app import build
from deploy.demo.lago.faults import FaultControl
from deploy.demo.lago.gate import Requests
from deploy.demo.lago.persistence import SqliteJournal
from deploy.demo.lago.seed import sow
from deploy.demo.lago.settings import LagoSettings
from deploy.demo.lago.state import LagoState
from deploy.demo.lago.webhooks import Webhooks, new_signing_key

_START_S = 10.0  # seconds
_STOP_S = 1.0  # seconds for answers under way


class SimulatedLago:
    """A running simulator: its address, what it holds, what it was asked, and how to make it misbehave."""

    def __init__(self, settings: LagoSettings) -> None:
        self.settings = settings
        self.url = ""
        self.state = LagoState(settings)
        self.faults = FaultControl(settings.faults)
        self.requests = Requests()
        self.webhooks = Webhooks(self.state)
        self.connections = _Connections()

    @property
    def api_key(self) -> str:
        return self.settings.api_key

    async def unplug(self) -> None:
        """Stop listening and cut every connection: clients are refused, as when the machine is off."""
        self.connections.stop_listening()
        # The sockets are closed by callbacks of the loop.
        await asyncio.sleep(0)

    async def plug_in(self) -> None:
        """Listen again, at the same address and with the same state."""
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        await self.connections.listen(_listen(host.strip("[]"), int(port)))


@asynccontextmanager
async def run_lago(settings: LagoSettings | None = None) -> AsyncIterator[SimulatedLago]:
    """Serve a simulated Lago until the block ends.

    Raises:
        BadSeedError: the seed is not what `seed.py` describes.
        OSError: the port is taken.

    """
    lago = SimulatedLago(settings or LagoSettings())
    journal = _restore(lago)
    listener = _listen(lago.settings.host, lago.settings.port)
    host, port = listener.getsockname()[:2]
    lago.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    lago.webhooks.signer.issuer = lago.url
    app = build(
        state=lago.state,
        faults=lago.faults,
        requests=lago.requests,
        webhooks=lago.webhooks,
        url=lambda: lago.url,
        cut=lago.connections.cut,
    )
    config = uvicorn.Config(
        app,
        http=lago.connections.protocol(),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
    )
    server = _Server(config)
    lago.connections.server = server
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await _started(server, serving)
        yield lago
    finally:
        server.stopping.set()
        with suppress(asyncio.CancelledError):
            await serving
        await lago.webhooks.close()
        listener.close()
        if journal is not None:
            journal.close()


def _listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket on IPv4, or on IPv6 for a host with a colon.

    The protocol number is given because asyncio switches Nagle's algorithm off only where it sees TCP by
    name; `socket.create_server` leaves it 0, and every answer then waits 40 ms for a delayed acknowledgement.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


def _restore(lago: SimulatedLago) -> SqliteJournal | None:
    """What an earlier run kept, else the seed."""
    path = lago.settings.state_file
    if path is None:
        sow(lago.state, lago.settings.seed)
        lifecycle.catch_up(lago.state)
        return None
    journal = SqliteJournal(path)
    empty = not journal.load(lago.state)
    lago.state.journal = journal
    if empty:
        sow(lago.state, lago.settings.seed)
    lago.state.organization_id = journal.secret("organization_id", lambda: lago.state.organization_id)
    lago.webhooks.signer.pem = journal.secret("signing_key", new_signing_key)
    lifecycle.catch_up(lago.state)
    return journal


async def _started(server: uvicorn.Server, serving: asyncio.Task[None]) -> None:
    async with asyncio.timeout(_START_S):
        while not server.started:
            if serving.done():
                serving.result()
                raise RuntimeError("The simulated Lago stopped before it had started.")
            await asyncio.sleep(0.005)


class _Server(uvicorn.Server):
    """Leaves the signals to the program around it, and stops at once: tests start and stop hundreds."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stopping = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        while not self.stopping.is_set():
            await self.on_tick(0)  # the Date header
            with suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), 1.0)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for one in sockets or ():
            one.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        tasks = set(self.server_state.tasks)
        if tasks:
            _, unfinished = await asyncio.wait(tasks, timeout=_STOP_S)
            for task in unfinished:
                task.cancel()
        await asyncio.sleep(0)


class _Connections:
    """Finds the connection a request came through, to cut it: ASGI has no word for that."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, int], asyncio.Transport] = {}
        self.server: uvicorn.Server | None = None

    def stop_listening(self) -> None:
        if self.server is not None:
            for one in self.server.servers:
                one.close()
            self.server.servers.clear()
        for transport in list(self._open.values()):
            transport.abort()

    async def listen(self, listener: socket.socket) -> None:
        """Serve a further socket with the server that runs."""
        server = self.server
        if server is None:
            raise RuntimeError("The simulated Lago does not run.")
        protocol = server.config.http_protocol_class

        def connect() -> asyncio.Protocol:
            return protocol(  # type: ignore[call-arg]
                config=server.config, server_state=server.server_state, app_state={}
            )

        server.servers.append(await asyncio.get_running_loop().create_server(connect, sock=listener))

    def cut(self, scope: Scope) -> None:
        transport = self._open.get(tuple(scope["client"]))
        if transport is not None:
            transport.abort()

    def protocol(self) -> type[asyncio.Protocol]:
        connections = self._open

        class Protocol(HttpToolsProtocol):
            def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
                super().connection_made(transport)
                connections[transport.get_extra_info("peername")[:2]] = transport

            def connection_lost(self, exc: Exception | None) -> None:
                if self.client is not None:
                    connections.pop(self.client, None)
                super().connection_lost(exc)

        return Protocol
