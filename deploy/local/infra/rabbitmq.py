"""A private RabbitMQ node: loopback only, its own epmd, nothing outside its folder."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from deploy.local.infra.errors import InfraError
from deploy.local.infra.folder import LOOPBACK, Folder, free_port
from deploy.local.infra.guarded import Command, Guarded

USER = "expressync"
# A fixed host part: the node's data belongs to its name, and machines are renamed.
NODE = "expressync@localhost"
START_TIMEOUT_S = 90
GRACE_S = 20
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
CONNECTION_START = b"\x00\x0a\x00\x0a"

SYSTEM = Path("/usr/lib/rabbitmq/lib")


@dataclass(frozen=True)
class Installation:
    """Where a RabbitMQ's scripts are, and the folders that Erlang and its shared libraries need in the environment."""

    source: str
    sbin: Path
    path: tuple[Path, ...] = ()
    libraries: tuple[Path, ...] = ()

    @property
    def search_path(self) -> str:
        return os.pathsep.join([*map(str, self.path), os.environ.get("PATH", os.defpath)])

    @property
    def epmd(self) -> str | None:
        """Erlang's port mapper, which not every package puts on the path."""
        folders = [*map(str, self.path), *map(str, Path("/usr/lib/erlang").glob("erts-*/bin"))]
        return shutil.which("epmd", path=os.pathsep.join([self.search_path, *folders]))

    @property
    def complete(self) -> bool:
        erl = shutil.which("erl", path=self.search_path)
        return (self.sbin / "rabbitmq-server").exists() and erl is not None and self.epmd is not None


def installed() -> Installation | None:
    """The machine's own rabbitmq-server, past its wrapper, which would change the user and drop the environment."""
    for sbin in sorted(SYSTEM.glob("rabbitmq_server-*/sbin"), reverse=True):
        found = Installation("installed", sbin)
        if found.complete:
            return found
    return None


def in_tree(root: Path) -> Installation:
    """The one in a folder of unpacked packages. Raises InfraError when something is missing in it."""
    sbins = sorted((root / "usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin"), reverse=True)
    erlang = root / "usr/lib/erlang"
    libraries = [path for base in ("lib", "usr/lib") for path in sorted((root / base).glob("*-linux-gnu*"))]
    if sbins:
        path = (erlang / "bin", *sorted(erlang.glob("erts-*/bin")), root / "usr/bin")
        found = Installation("unpacked", sbins[0], path, tuple(libraries))
        if found.complete:
            return found
    raise InfraError(
        f"The unpacked RabbitMQ in {root} is not complete.",
        "rabbitmq-server, erl or epmd is missing in it.",
        f"Delete {root}, so that it is downloaded again.",
    )


def answers(port: int, host: str = LOOPBACK, timeout_s: float = 1) -> bool:
    """Whether a broker answers the AMQP 0-9-1 protocol header with connection.start."""
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as connection:
            connection.sendall(PROTOCOL_HEADER)
            head = b""
            while len(head) < 11:
                got = connection.recv(64)
                if not got:
                    return False
                head += got
    except OSError:
        return False
    # A method frame (type 1) whose class and method are connection.start (10, 10).
    return head[0] == 1 and head[7:11] == CONNECTION_START


class RabbitNode:
    """A RabbitMQ node in a folder, on a loopback port that it keeps. All verbs block."""

    def __init__(self, folder: Path, installation: Installation) -> None:
        self.folder = Folder(folder)
        self.installation = installation
        self.source = installation.source
        self._node: Guarded | None = None
        self._env: dict[str, str] = {}

    @property
    def url(self) -> str:
        """`amqp://user:password@127.0.0.1:port/`, also before the first start, so that others can start beside it."""
        port = self.folder.remembered_port() or self.folder.port()
        return f"amqp://{USER}:{quote(self.folder.password(), safe='')}@{LOOPBACK}:{port}/"

    @property
    def port(self) -> int | None:
        return self.folder.remembered_port()

    @property
    def pid(self) -> int | None:
        """The process id of the Erlang machine (beam) while it runs."""
        if self._node is None or not self._node.alive:
            return None
        # Newer start scripts stay in front of it as a shell.
        beams = [process.pid for process in self._node.tree() if process.name().startswith("beam")]
        return beams[0] if beams else self._node.pid

    @property
    def running(self) -> bool:
        return self._node is not None and self._node.alive

    def start(self, told: threading.Event | None = None) -> None:
        """Start the node and wait until it answers the AMQP header (5-10 s). Does nothing when it runs."""
        if self.running:
            return
        self._release()
        lock = self.folder.lock("RabbitMQ")
        try:
            port = self.folder.port()
            epmd_port = free_port()
            env = self._env = self._environment(port, epmd_port)
            log = self.folder.path / "node.log"
            cwd = self.folder.path
            epmd = [str(self.installation.epmd), "-port", str(epmd_port), "-address", LOOPBACK]
            server = [str(self.installation.sbin / "rabbitmq-server")]
            self._node = Guarded(
                [Command(epmd, env, log, cwd, ready_port=epmd_port), Command(server, env, log, cwd)],
                stop_signal=signal.SIGTERM,
                grace_s=GRACE_S,
                keep_fds=[lock],
            )
            self._node.wait_ready(lambda: answers(port), START_TIMEOUT_S, "RabbitMQ", told)
        except BaseException:
            self._release()
            raise

    def stop(self) -> None:
        self._release()

    def kill(self) -> None:
        """A crash: SIGKILL of the Erlang machine, and of all around it."""
        if self._node is not None and (pid := self.pid) is not None:
            os.kill(pid, signal.SIGKILL)
            self._node.kill()
        self._release()

    def restart(self) -> None:
        self.stop()
        self.start()

    def freeze(self) -> None:
        """A black hole: connections stay open, new ones are accepted by the kernel, nothing is answered."""
        if self._node is not None:
            self._node.freeze()

    def thaw(self) -> None:
        if self._node is not None:
            self._node.thaw()

    def remove(self) -> None:
        """Stop, and delete the node with all its data."""
        self.stop()
        self.folder.remove()

    def sync(self) -> None:
        """Write down what RabbitMQ writes late.

        Measured with 3.10: a quorum queue's registration reaches its file up to 3 s after the declaration is
        confirmed (a dets table's delayed write). After a crash within that time the queue still has its name, and can
        be declared, but its log is empty and it has no leader: what is published to it gets no confirm, and asking it
        for a message no answer. `expressync doctor` names such a queue. A test that is about *messages* surviving a
        crash calls this once, after declaring its queues.
        """
        self.ctl("eval", "[dets:sync(Table) || Table <- dets:all()].")

    def ctl(self, *args: str) -> str:
        """Run `rabbitmqctl` on this node. Raises InfraError with what it says when it fails."""
        env = {name: value for name, value in self._env.items() if name != "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"}
        done = subprocess.run(
            [str(self.installation.sbin / "rabbitmqctl"), "--quiet", "--node", NODE, *args],
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=START_TIMEOUT_S,
        )
        if done.returncode != 0:
            raise InfraError(
                f"rabbitmqctl {args[0]} failed with exit code {done.returncode}.",
                (done.stderr or done.stdout).strip(),
                f"Is the node running? Its log is in {self.folder.path / 'log'}.",
            )
        return done.stdout

    def _release(self) -> None:
        if self._node is not None:
            self._node.stop()
            self._node = None
        self.folder.unlock()

    def _environment(self, port: int, epmd_port: int) -> dict[str, str]:
        folder = self.folder
        config = "\n".join(
            (
                # Used when the database is empty, that is, once.
                f"default_user = {USER}",
                f"default_pass = {folder.password()}",
                "log.console = false",
                "disk_free_limit.absolute = 50MB",
                # The default of 512 MB is for a machine of its own.
                "raft.wal_max_size_bytes = 67108864",
                "",
            )
        )
        paths = {
            "RABBITMQ_CONFIG_FILE": folder.write("rabbitmq.conf", config),
            "RABBITMQ_ENABLED_PLUGINS_FILE": folder.write("enabled_plugins", "[].\n"),
            "RABBITMQ_MNESIA_BASE": folder.path / "data",
            "RABBITMQ_LOG_BASE": folder.path / "log",
            "RABBITMQ_PID_FILE": folder.path / "pid",
            "RABBITMQ_GENERATED_CONFIG_DIR": folder.path / "generated",
            "HOME": folder.path,
        }
        env = {name: str(path) for name, path in paths.items()}
        env |= {
            "PATH": self.installation.search_path,
            "LANG": "C.UTF-8",
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_NODENAME": NODE,
            "RABBITMQ_NODE_IP_ADDRESS": LOOPBACK,
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "ERL_EPMD_PORT": str(epmd_port),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            # The start script then becomes the Erlang machine instead of watching it.
            "RUNNING_UNDER_SYSTEMD": "true",
            # Schedulers of several nodes on one machine must not all sit on the same cores.
            "RABBITMQ_SCHEDULER_BIND_TYPE": "u",
            # Idle schedulers sleep instead of spinning; the node's own distribution port is not public either.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "+sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}"
            ),
        }
        if self.installation.libraries:
            env["LD_LIBRARY_PATH"] = os.pathsep.join(map(str, self.installation.libraries))
        return env
