"""PostgreSQL and RabbitMQ in containers, for machines whose tests have only Docker."""

from __future__ import annotations

import contextlib
import secrets
from typing import TYPE_CHECKING

import docker.errors  # type: ignore[import-untyped]

from deploy.local.infra.errors import InfraError
from deploy.local.infra.external import postgres_answers, rabbitmq_answers
from deploy.local.infra.folder import LOOPBACK, free_port
from deploy.local.infra.guarded import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from testcontainers.core.container import DockerContainer

POSTGRES_IMAGE = "postgres:18-alpine"
RABBITMQ_IMAGE = "rabbitmq:4.1-alpine"
RESTART_TIMEOUT_S = 90


class InContainer:
    """A server in a container that testcontainers made, with the verbs of `deploy.local.infra.server.Server`.

    Its port on this machine is chosen here and kept, so that a restarted server is found where it was.
    """

    source = "docker"

    def __init__(self, container: DockerContainer, url: str, answers: Callable[[str], bool]) -> None:
        self._container = container
        self._made = False
        self._answers = answers
        self.url = url

    @property
    def pid(self) -> int | None:
        """The process id on the engine's machine, which need not be this one."""
        if not self._made:
            return None
        wrapped = self._container.get_wrapped_container()
        wrapped.reload()
        return int(wrapped.attrs["State"]["Pid"]) or None

    @property
    def running(self) -> bool:
        return self.pid is not None

    def start(self) -> None:
        if not self._made:
            self._container.start()
            self._made = True
        elif not self.running:
            self._container.get_wrapped_container().start()
        wait_until(lambda: self._answers(self.url), RESTART_TIMEOUT_S, "the server in its container to answer")

    def stop(self) -> None:
        if self.running:
            self._container.get_wrapped_container().stop()

    def kill(self) -> None:
        if self.running:
            self._container.get_wrapped_container().kill()
            self._container.get_wrapped_container().wait()

    def restart(self) -> None:
        self.stop()
        self.start()

    def freeze(self) -> None:
        self._container.get_wrapped_container().pause()

    def thaw(self) -> None:
        self._container.get_wrapped_container().unpause()

    def remove(self) -> None:
        if self._made:
            with contextlib.suppress(docker.errors.NotFound):
                self._container.stop()
            self._made = False


def require_engine() -> None:
    """Raises InfraError when no Docker engine answers."""
    try:
        client = docker.from_env()
        try:
            client.ping()
        finally:
            client.close()
    except docker.errors.DockerException as error:
        raise InfraError("Docker cannot be used.", f"No engine answers: {error}", "Start Docker.") from error


def postgres_in_container() -> InContainer:
    require_engine()
    from testcontainers.community.postgres import PostgresContainer  # noqa: PLC0415 - slow, and only needed here

    password, port = secrets.token_hex(16), free_port()
    container = PostgresContainer(
        POSTGRES_IMAGE, username="postgres", password=password, dbname="postgres", driver=None
    )
    # Its with_bind_ports() would publish on all interfaces.
    container.ports["5432"] = (LOOPBACK, port)  # type: ignore[assignment] # docker-py takes an address too
    return InContainer(container, f"postgresql://postgres:{password}@{LOOPBACK}:{port}/postgres", postgres_answers)


def rabbitmq_in_container() -> InContainer:
    require_engine()
    from testcontainers.community.rabbitmq import RabbitMqContainer  # noqa: PLC0415 - slow, and only needed here

    password, port = secrets.token_hex(16), free_port()
    # The node's name, and with it its data, depends on the host name.
    container = RabbitMqContainer(
        RABBITMQ_IMAGE, port=5672, username="expressync", password=password, vhost="/", hostname="expressync"
    )
    container.ports["5672"] = (LOOPBACK, port)  # type: ignore[assignment] # as above
    return InContainer(container, f"amqp://expressync:{password}@{LOOPBACK}:{port}/", rabbitmq_answers)
