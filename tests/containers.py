"""PostgreSQL and RabbitMQ in containers, for machines whose tests have only Docker."""

from __future__ import annotations

import contextlib
import gc
import secrets
import warnings
from typing import TYPE_CHECKING

import docker.errors  # type: ignore[import-untyped]

from deploy.local.infra.errors import InfraError
from deploy.local.infra.external import postgres_answers, rabbitmq_answers
from deploy.local.infra.folder import LOOPBACK
from deploy.local.infra.guarded import wait_until
from tests.ports import free_port

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from testcontainers.core.container import DockerContainer

POSTGRES_IMAGE = "postgres:18-alpine"
RABBITMQ_IMAGE = "rabbitmq:4.1-alpine"
RESTART_TIMEOUT_S = 90


class InContainer:
    """A server in a container that testcontainers made, with the verbs of `deploy.local.infra.server.Server`.

    Its port on this machine is chosen here and kept, so that a restarted server is found where it was.
    """

    source = "docker"

    def __init__(
        self, container: DockerContainer, inside: int, url: Callable[[str], str], answers: Callable[[str], bool]
    ) -> None:
        """`inside` is the port in the container; `url` makes a URL of "host:port"."""
        self._container = container
        self._inside = inside
        self._url = url
        self._made = False
        self._answers = answers
        self._address = ""
        publish(container, inside)

    @property
    def url(self) -> str:
        return self._url(self._address)

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

    def start(self, told: threading.Event | None = None) -> None:  # noqa: ARG002 - of the engine, which is quick
        if not self._made:
            # Before it starts: one that fails half-way is to be removed too.
            self._made = True
            with forgiving():
                self._container.start()
                host = self._container.get_container_host_ip()
                port = self._container.get_exposed_port(self._inside)
            # "localhost" may mean ::1 first, where nothing is published.
            self._address = f"{LOOPBACK if host == 'localhost' else host}:{port}"
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
            with contextlib.suppress(docker.errors.NotFound), forgiving():
                self._container.stop()
            self._made = False


def publish(container: DockerContainer, inside: int) -> None:
    """Choose the port on the engine's machine, on its loopback where the tests run there too.

    They do not where they run in a container themselves, or the engine is remote.
    """
    client = container.get_docker_client()
    here = client.get_connection_mode().value == "docker_host" and client.host() in {"localhost", LOOPBACK}
    # Its with_bind_ports() takes no address; docker-py, which gets this, does.
    container.ports[str(inside)] = (LOOPBACK, free_port()) if here else free_port()  # type: ignore[assignment]


@contextlib.contextmanager
def forgiving() -> Iterator[None]:
    """The libraries warn about themselves (a decorator of their own, sockets that they leave to the garbage
    collector), which must not fail the tests that use them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


def require_engine() -> None:
    """Raises InfraError when no Docker engine answers."""
    with forgiving():
        refusal = _refusal()
    if refusal is not None:
        raise InfraError("Docker cannot be used.", f"No engine answers: {refusal}", "Start Docker.")


def _refusal() -> str | None:
    try:
        client = docker.from_env()
        try:
            client.ping()
        finally:
            client.close()
    except docker.errors.DockerException as error:
        # Only its words: with its frames it would keep a socket open.
        return str(error)
    return None


def postgres_in_container() -> InContainer:
    require_engine()
    with forgiving():
        from testcontainers.community.postgres import PostgresContainer  # noqa: PLC0415 - slow, and only needed here

    password = secrets.token_hex(16)
    container = PostgresContainer(
        POSTGRES_IMAGE, username="postgres", password=password, dbname="postgres", driver=None
    )
    return InContainer(
        container, 5432, lambda address: f"postgresql://postgres:{password}@{address}/postgres", postgres_answers
    )


def rabbitmq_in_container() -> InContainer:
    require_engine()
    with forgiving():
        from testcontainers.community.rabbitmq import RabbitMqContainer  # noqa: PLC0415 - as above

    password = secrets.token_hex(16)
    # The node's name, and with it its data, depends on the host name.
    container = RabbitMqContainer(
        RABBITMQ_IMAGE, port=5672, username="expressync", password=password, vhost="/", hostname="expressync"
    )
    return InContainer(container, 5672, lambda address: f"amqp://expressync:{password}@{address}/", rabbitmq_answers)
