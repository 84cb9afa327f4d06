from __future__ import annotations

import re
import socket
import ssl
import threading
from collections.abc import Callable
from typing import NoReturn
from urllib.parse import urlsplit

import psycopg

from deploy.local.infra import rabbitmq
from deploy.local.infra.errors import InfraError

TIMEOUT_S = 5
AMQP_PORT, AMQPS_PORT = 5672, 5671
POSTGRES_SCHEMES = ("postgresql", "postgres")
AMQP_SCHEMES = ("amqp", "amqps")
UNREADABLE = "an address that cannot be read"
_IN_QUERY = re.compile(r"(password|sslpassword)=[^&]*")


class External:
    """A server that somebody else runs, known by its URL."""

    source = "url"
    pid = None

    def __init__(self, name: str, url: str, answers: Callable[[str], bool]) -> None:
        self.name = name
        self.url = url
        self._answers = answers

    @property
    def running(self) -> bool:
        return self._answers(self.url)

    def start(self, told: threading.Event | None = None) -> None:  # noqa: ARG002 - it waits for nothing
        """Check that it answers. Raises InfraError otherwise."""
        if not self.running:
            raise InfraError(
                f"{self.name} at {without_password(self.url)} does not answer.",
                f"The URL was given, so nothing else was tried; it was waited for {TIMEOUT_S} s.",
                "Start it, correct the URL, or leave the URL out to use a private one. `expressync doctor` tells more.",
            )

    def stop(self) -> None:
        """Nothing: it is not ours."""

    remove = stop

    def _not_ours(self) -> NoReturn:
        raise InfraError(
            f"{self.name} at {without_password(self.url)} cannot be stopped, killed or frozen.",
            "It was given by its URL and is not ours.",
            "Leave the URL out to use a private one.",
        )

    def kill(self) -> None:
        self._not_ours()

    def restart(self) -> None:
        self._not_ours()

    def freeze(self) -> None:
        self._not_ours()

    def thaw(self) -> None:
        self._not_ours()


def external_postgres(url: str) -> External:
    """:raises InfraError: when this is no `postgresql://` URL."""
    _readable("PostgreSQL", url, POSTGRES_SCHEMES, "postgresql://user:password@host:5432/name")
    return External("PostgreSQL", url, postgres_answers)


def external_rabbitmq(url: str) -> External:
    """:raises InfraError: when this is no `amqp://` URL."""
    _readable("RabbitMQ", url, AMQP_SCHEMES, "amqp://user:password@host:5672/")
    return External("RabbitMQ", url, rabbitmq_answers)


def _readable(name: str, url: str, schemes: tuple[str, ...], like: str) -> None:
    try:
        parts = urlsplit(url)
        readable = parts.scheme.split("+")[0] in schemes and "://" in url and parts.port != 0
    except ValueError:
        readable = False
    if not readable:
        raise InfraError(
            f"The address of {name} cannot be read.",
            "It is malformed, and is not shown: its password may stand anywhere in it.",
            f"Write it like {like}.",
        )


def postgres_answers(url: str) -> bool:
    """Whether one can sign in at a `postgresql://` URL (an SQLAlchemy driver in it is ignored) and ask something."""
    scheme, rest = url.split("://", 1)
    try:
        with psycopg.connect(f"{scheme.split('+')[0]}://{rest}", connect_timeout=TIMEOUT_S) as connection:
            connection.execute("select 1")
    except psycopg.Error:
        return False
    return True


def rabbitmq_answers(url: str) -> bool:
    """Whether a broker answers at an `amqp://` URL; at `amqps://` only TLS is tried. Signs in to neither."""
    parts = urlsplit(url)
    host = parts.hostname or "localhost"
    if parts.scheme != "amqps":
        return rabbitmq.answers(parts.port or AMQP_PORT, host, TIMEOUT_S)
    context = ssl.create_default_context()
    try:
        with (
            socket.create_connection((host, parts.port or AMQPS_PORT), timeout=TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=host),
        ):
            return True
    except OSError:
        return False


def without_password(url: str) -> str:
    """The address as it may be shown. A malformed one may not: its password may stand anywhere."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:
        return UNREADABLE
    if not parts.scheme or "://" not in url:
        return UNREADABLE
    if "@" in url.removeprefix(f"{parts.scheme}://{parts.netloc}"):
        # A password with a / in it that was not escaped is read in part as a path.
        return UNREADABLE
    if parts.password is not None:
        parts = parts._replace(netloc=f"{parts.username}:***@{parts.hostname}{port}")
    # libpq also takes it from the query.
    return parts._replace(query=_IN_QUERY.sub(r"\1=***", parts.query)).geturl()
