"""The ways through Docker, before a real engine where there is one, and before a fake one everywhere."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from deploy.local.infra import external
from deploy.local.infra.broker import provide_broker
from deploy.local.infra.docker import IMAGE, engine_answers
from deploy.local.infra.errors import InfraError
from deploy.local.infra.external import postgres_answers, rabbitmq_answers
from deploy.local.infra.server import Server
from tests.containers import POSTGRES_IMAGE, RABBITMQ_IMAGE
from tests.infra import CONTAINERS, Infra, provided
from tests.integration.local_infra.fake_engine import Engine, fake_engine

REAL = engine_answers()
REQUIRED: Final = "EXPRESSYNC_REQUIRE_DOCKER"


@pytest.fixture
def docker_command() -> None:
    need_docker()


def need_docker() -> None:
    if shutil.which("docker") is not None:
        return
    why = "The docker command is not installed; only the client is needed, no engine."
    if os.environ.get(REQUIRED):
        pytest.fail(why, pytrace=False)
    pytest.skip(why)


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A unix socket's path has at most 107 bytes, and pytest's folders are long."""
    with tempfile.TemporaryDirectory(prefix="expressync-") as folder:
        yield Path(folder)


@pytest.fixture
def engine(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    with fake_engine(short_path / "engine") as fake:
        monkeypatch.setenv("DOCKER_HOST", f"unix://{short_path}/engine/docker.sock")
        monkeypatch.delenv("DOCKER_CONTEXT", raising=False)
        # The container that cleans up after killed tests is for a real engine.
        from testcontainers.core.config import ConnectionMode, testcontainers_config  # noqa: PLC0415 - reads the environment

        monkeypatch.setattr(testcontainers_config, "ryuk_disabled", True)
        # Also where the tests run in a container themselves: this engine publishes here.
        monkeypatch.setattr(testcontainers_config, "connection_mode_override", ConnectionMode.docker_host)
        monkeypatch.setattr(testcontainers_config, "tc_host_override", "localhost")
        yield fake


def both_serve(infra: Infra) -> None:
    """The same verbs, whoever provides."""
    serves(infra.postgres, postgres_answers)
    serves(infra.rabbitmq, rabbitmq_answers)


def serves(server: Server, answers: Callable[[str], bool]) -> None:
    url = server.url
    is_up(server, answers)
    server.kill()
    assert not server.running
    assert not answers(url)
    server.start()
    assert server.url == url
    assert answers(url)
    server.freeze()
    server.thaw()
    server.restart()
    assert answers(url)


def is_up(server: Server, answers: Callable[[str], bool]) -> None:
    assert server.source == "docker"
    assert answers(server.url)
    assert server.pid


def test_the_tests_get_their_servers_from_containers(engine: Engine, tmp_path: Path) -> None:
    """With only an engine, the test-suite pulls both images, publishes on loopback, and all verbs work."""
    with provided(tmp_path, given=False, ways=(CONTAINERS,)) as infra:
        # To the other one's container the same verbs would come the same way, and each of its starts takes a while.
        serves(infra.postgres, postgres_answers)
        is_up(infra.rabbitmq, rabbitmq_answers)
        assert engine.images == {POSTGRES_IMAGE, RABBITMQ_IMAGE}
        containers = list(engine.containers.values())
        assert {container.binding["HostIp"] for container in containers} == {"127.0.0.1"}
        urls = [infra.postgres.url, infra.rabbitmq.url]
    assert engine.containers == {}
    assert not postgres_answers(urls[0])
    assert not rabbitmq_answers(urls[1])


@pytest.mark.skipif(not REAL, reason="no Docker engine answers; the same way is tested before a fake one")
def test_the_tests_get_their_servers_from_a_real_engine(tmp_path: Path) -> None:
    """With a real engine, real images serve the test-suite in the same way."""
    with provided(tmp_path, given=False, ways=(CONTAINERS,)) as infra:
        both_serve(infra)


def launcher_node(tmp_path: Path) -> None:
    node = provide_broker(tmp_path / "node", tmp_path / "packages", ways=("docker",))
    try:
        node.start()
        url = node.url
        assert (node.source, rabbitmq_answers(url)) == ("docker", True)
        assert node.pid
        node.kill()
        assert (node.running, rabbitmq_answers(url)) == (False, False)
        node.start()
        assert (node.url, rabbitmq_answers(url)) == (url, True)
        node.freeze()
        with pytest.MonkeyPatch.context() as impatient:
            impatient.setattr(external, "TIMEOUT_S", 0.5)
            assert not rabbitmq_answers(url)
        node.thaw()
        assert rabbitmq_answers(url)
        node.stop()
        assert (node.running, rabbitmq_answers(url)) == (False, False)
    finally:
        node.remove()


@pytest.mark.usefixtures("docker_command")
def test_the_launcher_runs_its_broker_in_a_container(engine: Engine, tmp_path: Path) -> None:
    """The docker command is asked for a loopback port and a volume, and the container ends with stop and with kill."""
    engine.images.add(IMAGE)
    launcher_node(tmp_path)
    assert engine.containers == {}
    assert "DELETE /volumes/" in " ".join(engine.calls)


@pytest.mark.parametrize("required", [False, True])
def test_without_the_docker_command_the_test_skips_or_fails(monkeypatch: pytest.MonkeyPatch, *, required: bool) -> None:
    """A person is told; a build server, which sets EXPRESSYNC_REQUIRE_DOCKER, is stopped."""
    monkeypatch.setenv("PATH", os.devnull)
    monkeypatch.setenv(REQUIRED, "1" if required else "")
    with pytest.raises(pytest.fail.Exception if required else pytest.skip.Exception, match="is not installed"):
        need_docker()


@pytest.mark.skipif(not REAL, reason="no Docker engine answers; the same way is tested before a fake one")
def test_the_launcher_runs_its_broker_in_a_real_engine(tmp_path: Path) -> None:
    """With a real engine, the real image serves the launcher in the same way."""
    launcher_node(tmp_path)


def test_without_any_way_the_tests_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No URL, no local server and no engine is an error that names each way, never a skip."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nothing.sock")
    monkeypatch.setattr("tests.infra.binaries", _no_wheel)
    monkeypatch.setenv("PATH", os.devnull)
    with provided(tmp_path, given=False) as infra:
        with pytest.raises(InfraError, match="The tests have no PostgreSQL") as error:
            _ = infra.postgres
        assert "local: PostgreSQL was not found." in str(error.value)
        assert "containers: Docker cannot be used." in str(error.value)


def _no_wheel() -> Path:
    raise InfraError("PostgreSQL was not found.", "No wheel.", "Run make setup.")
