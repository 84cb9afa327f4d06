"""RabbitMQ in a container, through the `docker` command."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path
from urllib.parse import quote

from deploy.local.infra.errors import InfraError
from deploy.local.infra.folder import LOOPBACK, Folder
from deploy.local.infra.guarded import Command, Guarded
from deploy.local.infra.rabbitmq import USER, answers

IMAGE = "rabbitmq:4.1"
ENGINE_TIMEOUT_S = 10
# The first start downloads the image.
START_TIMEOUT_S = 600
GRACE_S = 30
SECRETS = "container.env"


def engine_answers() -> bool:
    docker = shutil.which("docker")
    if docker is None:
        return False
    try:
        done = subprocess.run(
            [docker, "version", "--format", "{{.Server.Version}}"],
            capture_output=True,
            check=False,
            timeout=ENGINE_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


class DockerNode:
    """A RabbitMQ container that keeps its port and, in a volume of its own, its data. All verbs block."""

    source = "docker"

    def __init__(self, folder: Path, image: str = IMAGE) -> None:
        self.folder = Folder(folder)
        self.image = image
        self._client: Guarded | None = None

    @property
    def name(self) -> str:
        """Of the container and of its volume: two checkouts on one machine have two.

        The password is part of it, since the image sets it in an empty volume only: who deletes the folder by hand, and
        with it the password, gets a volume that fits the next one.
        """
        mine = f"{self.folder.path}:{self.folder.password()}"
        return f"expressync-{hashlib.sha256(mine.encode()).hexdigest()[:12]}"

    @property
    def was_used(self) -> bool:
        """Whether it was started from this folder, so that there may be a volume."""
        return (self.folder.path / SECRETS).exists()

    @property
    def url(self) -> str:
        """`amqp://user:password@127.0.0.1:port/`, also before the first start, so that others can start beside it."""
        port = self.folder.remembered_port() or self.folder.port()
        return f"amqp://{USER}:{quote(self.folder.password(), safe='')}@{LOOPBACK}:{port}/"

    @property
    def pid(self) -> int | None:
        """The process id on the engine's machine, which need not be this one."""
        if not self.running:
            return None
        return int(self._docker("inspect", "--format", "{{.State.Pid}}", self.name)) or None

    @property
    def running(self) -> bool:
        return self._client is not None and self._client.alive

    def start(self, told: threading.Event | None = None) -> None:
        if self.running:
            return
        self._release()
        lock = self.folder.lock("RabbitMQ")
        try:
            port = self.folder.port()
            secrets = f"RABBITMQ_DEFAULT_USER={USER}\nRABBITMQ_DEFAULT_PASS={self.folder.password()}\n"
            run = (
                *("run", "--rm", "--name", self.name, "--hostname", "expressync"),
                *("--env-file", str(self.folder.write(SECRETS, secrets))),
                *("--publish", f"{LOOPBACK}:{port}:5672"),
                *("--volume", f"{self.name}:/var/lib/rabbitmq"),
                self.image,
            )
            remove = self._command("rm", "--force", self.name)
            self._client = Guarded(
                [self._command(*run)], stop_signal=signal.SIGTERM, grace_s=GRACE_S, keep_fds=[lock], cleanup=remove
            )
            self._client.wait_ready(lambda: answers(port), START_TIMEOUT_S, "RabbitMQ in Docker", told)
        except BaseException:
            self._release()
            raise

    def stop(self) -> None:
        self._release()

    def kill(self) -> None:
        """A crash: SIGKILL of the broker in its container. Its volume stays."""
        if self.running:
            self._docker("kill", "--signal", "KILL", self.name)
        self._release()

    def restart(self) -> None:
        self.stop()
        self.start()

    def freeze(self) -> None:
        self._docker("pause", self.name)

    def thaw(self) -> None:
        self._docker("unpause", self.name)

    def remove(self) -> None:
        """Stop, and delete the data and its volume."""
        self.stop()
        self._docker("volume", "rm", "--force", self.name)
        self.folder.remove()

    def _release(self) -> None:
        if self._client is not None:
            self._client.stop()
            self._client = None
        self.folder.unlock()

    def _argv(self, *args: str) -> list[str]:
        docker = shutil.which("docker")
        if docker is None:
            raise InfraError(
                "The program docker was not found.", "It is not on the PATH.", "Install Docker, or give a RabbitMQ URL."
            )
        return [docker, *args]

    def _command(self, *args: str) -> Command:
        # The client finds its engine by its own variables and by the configuration in the home folder.
        return Command(self._argv(*args), dict(os.environ), self.folder.path / "docker.log", self.folder.path)

    def _docker(self, *args: str) -> str:
        done = subprocess.run(self._argv(*args), capture_output=True, text=True, check=False, timeout=START_TIMEOUT_S)
        if done.returncode != 0:
            raise InfraError(
                f"docker {args[0]} failed for the container {self.name}.",
                done.stderr.strip(),
                "Is the Docker engine running, and may this user use it?",
            )
        return done.stdout.strip()
