import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.infra import docker, packages, rabbitmq
from deploy.local.infra.broker import provide_broker
from deploy.local.infra.errors import InfraError
from deploy.local.infra.external import rabbitmq_answers, without_password
from deploy.local.infra.rabbitmq import Installation

CONNECTION_START = b"\x01\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x0a\xce"


class Machine:
    """A machine that has what a test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.has: set[str] = set()
        self.asked: list[str] = []
        monkeypatch.setattr(rabbitmq, "installed", self.installed)
        monkeypatch.setattr(packages, "unpacked", self.unpacked)
        monkeypatch.setattr(rabbitmq, "in_tree", lambda _root: Installation("unpacked", Path("/unpacked")))
        monkeypatch.setattr(docker, "engine_answers", self.engine)

    def _ask(self, way: str) -> bool:
        self.asked.append(way)
        return way in self.has

    def installed(self) -> Installation | None:
        return Installation("installed", Path("/installed")) if self._ask("installed") else None

    def unpacked(self, _folder: Path) -> Path:
        if not self._ask("unpacked"):
            raise InfraError("The packages could not be downloaded.", "No network.", "Check it.")
        return Path("/unpacked")

    def engine(self) -> bool:
        return self._ask("docker")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


@pytest.mark.parametrize(
    ("has", "source", "asked"),
    [
        ({"installed", "unpacked", "docker"}, "installed", ["installed"]),
        ({"unpacked", "docker"}, "unpacked", ["installed", "unpacked"]),
        ({"docker"}, "docker", ["installed", "unpacked", "docker"]),
    ],
)
def test_the_first_way_that_works_serves(
    machine: Machine, tmp_path: Path, has: set[str], source: str, asked: list[str]
) -> None:
    """The machine's own RabbitMQ comes before the packages, these before Docker, and later ways are not even asked."""
    machine.has = has
    assert provide_broker(tmp_path, tmp_path).source == source
    assert machine.asked == asked


def test_a_given_url_comes_first(machine: Machine, tmp_path: Path) -> None:
    """With a URL nothing else is looked for."""
    machine.has = {"installed", "unpacked", "docker"}
    server = provide_broker(tmp_path, tmp_path, url="amqp://somewhere/")
    assert (server.source, server.url, machine.asked) == ("url", "amqp://somewhere/", [])


def test_without_any_way_each_one_says_why(machine: Machine, tmp_path: Path) -> None:
    """The error has three lines: what, why for every way, and what to do."""
    with pytest.raises(InfraError) as error:
        provide_broker(tmp_path, tmp_path)
    what, why, remedy = str(error.value).splitlines()
    assert what == "No RabbitMQ could be provided."
    assert "None is installed" in why
    assert "No network." in why
    assert "No Docker engine answers." in why
    assert remedy == "Give a RabbitMQ URL, install rabbitmq-server, or start Docker."


def test_the_password_stays_out_of_messages() -> None:
    """A URL is shown with its password masked, and unchanged when it has none."""
    assert without_password("amqp://me:hidden@broker:5672/v?x=1") == "amqp://me:***@broker:5672/v?x=1"
    assert without_password("amqp://broker/") == "amqp://broker/"


@pytest.fixture
def answering() -> Iterator[tuple[list[bytes], int]]:
    """A server that answers the first thing it hears with the bytes in the list, and its port."""
    answer: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            client, _ = server.accept()
            with client:
                client.recv(64)
                for piece in answer:
                    client.sendall(piece)

        thread = threading.Thread(target=serve)
        thread.start()
        yield answer, server.getsockname()[1]
        thread.join()


@pytest.mark.parametrize(
    ("pieces", "ready"),
    [
        ([CONNECTION_START], True),
        ([CONNECTION_START[:5], CONNECTION_START[5:]], True),
        # connection.close (10, 50), in a well-formed method frame.
        ([CONNECTION_START.replace(b"\x00\x0a\x00\x0a", b"\x00\x0a\x00\x32")], False),
        ([b"AMQP\x00\x00\x09\x01"], False),
        ([b"HTTP/1.1 400 Bad Request\r\n\r\n"], False),
        ([], False),
    ],
)
def test_only_a_broker_counts_as_one(answering: tuple[list[bytes], int], pieces: list[bytes], *, ready: bool) -> None:
    """Ready is who answers the protocol header with connection.start, and not whoever listens on the port."""
    answer, port = answering
    answer += pieces
    assert rabbitmq_answers(f"amqp://me:secret@127.0.0.1:{port}/") is ready
