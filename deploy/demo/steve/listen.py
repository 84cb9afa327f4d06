"""An HTTP listener that can stop, start again on the same port, and drop a connection in the middle."""

import asyncio
import contextlib

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

# Under this name `scope["state"]` holds a function that cuts the connection at once, without a FIN.
DROP = "steve.drop"


class _DroppableProtocol(HttpToolsProtocol):
    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"][DROP] = self.transport.abort


class HttpListener:
    """Serves `app` on host:port; port 0 takes a free one and keeps it for later starts."""

    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        # A long keep-alive: SteVe's Jetty does not cut an idle client connection after uvicorn's 5 s.
        self._config = uvicorn.Config(app, log_config=None, access_log=False, timeout_keep_alive=75, ws="none")
        self._config.load()
        self._state = ServerState()
        self._host = host
        self.port = port
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.get_running_loop().create_server(self._protocol, self._host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse new connections, drop those that are open, wait for what still runs."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for connection in list(self._state.connections):
            transport = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()
        tasks = list(self._state.tasks)
        for task in tasks:
            task.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.gather(*tasks, return_exceptions=True)

    def _protocol(self) -> asyncio.Protocol:
        return _DroppableProtocol(config=self._config, server_state=self._state, app_state={})
