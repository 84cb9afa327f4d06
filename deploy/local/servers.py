"""PostgreSQL and RabbitMQ of a stack: a private one that falls is started again, as the services are."""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from urllib.parse import urlsplit

from deploy.local.infra.errors import InfraError
from deploy.local.infra.folder import port_is_free
from deploy.local.infra.server import Server
from deploy.local.processes import pause_s


class Kept:
    """A server that was started once. One that was given by its URL is its owner's to start again."""

    def __init__(self, name: str, server: Server) -> None:
        self._name, self._server = name, server
        self._falls = 0
        self._tried_at = 0.0
        # A start may take minutes (RabbitMQ in Docker, say), in which services fall and Ctrl-C is pressed.
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._starting: Future[None] | None = None
        self._told = threading.Event()

    def keep_up(self) -> str | None:
        """Have it started again if it fell, after a growing pause; returns a sentence when that is done, or failed."""
        if self._starting is not None:
            return self._outcome(self._starting) if self._starting.done() else None
        # Before `running`, for which a given one would be asked over the network.
        if self._server.source == "url" or self._server.running:
            return None
        if time.monotonic() - self._tried_at < pause_s(self._falls):
            return None
        self._falls += 1
        self._tried_at = time.monotonic()
        try:
            self._starting = self._pool.submit(self._start)
        except RuntimeError as error:
            # The machine refuses another thread. This pool would do the same once more beside the next try.
            self._pool = ThreadPoolExecutor(max_workers=1)
            return self._refused(error)
        return None

    def stop(self) -> None:
        """Stop it, also in the middle of a start."""
        self._told.set()
        self._pool.shutdown()
        self._server.stop()

    def _outcome(self, starting: Future[None]) -> str:
        self._starting = None
        try:
            starting.result()
        except (RuntimeError, OSError) as error:
            return self._refused(f"{error.what} {error.remedy}" if isinstance(error, InfraError) else error)
        return f"{self._name} ended and was started again."

    def _refused(self, why: object) -> str:
        return f"{self._name} ended and could not be started again; that is tried again. {why}"

    def _start(self) -> None:
        # Elsewhere it would be lost to the services, which know it by its address.
        port = urlsplit(self._server.url).port
        if port is not None and not port_is_free(port):
            raise InfraError(f"Its port {port} is taken.", "Another program listens there.", "Stop that one.")
        self._server.start(self._told)
