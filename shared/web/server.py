"""HTTP servers as supervised parts: uvicorn in the service's own loop, bound before anything is said to run."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import ServerState

# SteVe's and the gateway's callers keep their connections; uvicorn's 5 s would drop them between taps (facts: stack).
KEEP_ALIVE_S: Final = 120
# For answers that are under way at the stop.
ANSWERS_WITHIN_S: Final = 5
LOOK_EVERY_S: Final = 0.01


class PortTakenError(Exception):
    """Someone else listens there."""

    def __init__(self, host: str, port: int, setting: str) -> None:
        super().__init__(f"{host}:{port} is taken; stop what listens there or set {setting} to another port")


def bind(host: str, port: int, *, setting: str) -> socket.socket:
    """A listening socket, or a clear error at once. Port 0 picks a free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol by name: asyncio switches Nagle off only on sockets that say TCP.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise PortTakenError(host, port, setting) from error
    listener.listen(2048)
    listener.setblocking(False)
    return listener


class _Server(uvicorn.Server):
    """Stops when it is told to: uvicorn looks ten times a second whether it is, and then rests for as long in any case,
    so that a service with two of these took nearly half a second to end, and woke up twenty times in each.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stopping = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Signals belong to the service, which stops its parts in order.
        yield

    async def main_loop(self) -> None:
        while not self.stopping.is_set():
            # All that it has to do here: the second in the Date header.
            await self.on_tick(0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self.stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for one in sockets or ():
            one.close()
        state = self.server_state
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWERS_WITHIN_S):
                await self._finish(state)
        for task in state.tasks:
            task.cancel()
        await self.lifespan.shutdown()

    async def _finish(self, state: ServerState) -> None:
        while True:
            for connection in list(state.connections):
                # At once, or behind the answer that is under way.
                connection.shutdown()
            # Also without any: one that was taken just before is among them only now.
            await asyncio.sleep(LOOK_EVERY_S)
            if not state.connections and not state.tasks:
                return


class HttpServer:
    """One application on one socket; falls only with the process.

    `local_proxy`: believe X-Forwarded-For from this machine. Where proxies are a setting, nobody else is believed.
    """

    def __init__(
        self, name: str, app: ASGIApp, listener: socket.socket, *, lifespan: bool = False, local_proxy: bool = False
    ) -> None:
        self.name, self._app, self._listener = name, app, listener
        self._lifespan, self._local_proxy = lifespan, local_proxy

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    async def run(self, stop: asyncio.Event) -> None:
        config = uvicorn.Config(
            self._app,
            loop="none",
            http="httptools",
            ws="none",
            lifespan="on" if self._lifespan else "off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=self._local_proxy,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        server = _Server(config)
        # A copy of the socket: uvicorn closes what it was given, and a restart needs it again.
        serving = asyncio.create_task(server.serve(sockets=[self._listener.dup()]))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            server.stopping.set()
            stopping.cancel()
            await serving
        if stop.is_set():
            self._listener.close()
