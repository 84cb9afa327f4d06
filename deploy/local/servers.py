"""PostgreSQL and RabbitMQ of a stack: a private one that falls is started again, as the services are."""

import time
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

    def keep_up(self) -> str | None:
        """Start it again if it fell, after a growing pause; returns a sentence when something happened.

        Blocks until it answers, which takes some seconds.
        """
        # Before `running`, for which a given one would be asked over the network.
        if self._server.source == "url" or self._server.running:
            return None
        if time.monotonic() - self._tried_at < pause_s(self._falls):
            return None
        self._falls += 1
        self._tried_at = time.monotonic()
        try:
            self._start()
        except InfraError as error:
            return (
                f"{self._name} ended and could not be started again; that is tried again. {error.what} {error.remedy}"
            )
        return f"{self._name} ended and was started again."

    def _start(self) -> None:
        # Elsewhere it would be lost to the services, which know it by its address.
        port = urlsplit(self._server.url).port
        if port is not None and not port_is_free(port):
            raise InfraError(f"Its port {port} is taken.", "Another program listens there.", "Stop that one.")
        self._server.start()
