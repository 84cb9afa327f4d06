"""What a private server keeps in its folder: a lock, its port, its password."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import secrets
import shutil
import socket
import time
from pathlib import Path

from deploy.local.infra.errors import InfraError

LOOPBACK = "127.0.0.1"
LOWEST_PORT = 10_240
PORT_TRIES = 500
# `locked` holds the lock for an instant to see whether it can: a start must outlast that.
LOCK_PATIENCE_S = 1.0


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: connections of a predecessor that linger in TIME_WAIT are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def highest_port() -> int:
    """The last port below the kernel's ephemeral range.

    Above it, an outgoing connection of anyone may take the port while its server restarts; a client that retries
    could even connect to itself (TCP simultaneous open).
    """
    highest = 32_767
    with contextlib.suppress(OSError, ValueError):
        highest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0]) - 1
    return highest if highest > LOWEST_PORT else 65_535


def free_port() -> int:
    """A free loopback port below the kernel's ephemeral range; the upper half is left to those who choose their own."""
    highest = (LOWEST_PORT + highest_port()) // 2
    for _ in range(PORT_TRIES):
        port = random.SystemRandom().randint(LOWEST_PORT, highest)
        if port_is_free(port):
            return port
    raise InfraError(
        f"No free port was found on {LOOPBACK} between {LOWEST_PORT} and {highest}.",
        f"{PORT_TRIES} of them were tried and all were taken.",
        "Stop programs that listen there, or widen net.ipv4.ip_local_port_range upwards.",
    )


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Folder:
    """A server's private folder, readable by its owner only."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock_fd: int | None = None

    def lock(self, name: str) -> int:
        """Take the folder for one running server; the descriptor is to be kept open while it runs."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + LOCK_PATIENCE_S
        while not _try_lock(fd):
            if time.monotonic() > deadline:
                os.close(fd)
                raise InfraError(
                    f"{name} in {self.path} is already running.",
                    "Another program started it and has not stopped it yet.",
                    "Stop that one first (expressync down), or use another folder.",
                )
            time.sleep(0.05)
        self._lock_fd = fd
        return fd

    def unlock(self) -> None:
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    @property
    def locked(self) -> bool:
        """Whether a server runs in this folder, started by this or another process."""
        try:
            fd = os.open(self.path / "lock", os.O_RDWR)
        except OSError:
            return False
        taken = not _try_lock(fd)
        os.close(fd)
        return taken

    def port(self, name: str = "port") -> int:
        """The remembered port, or a new one where that is taken by somebody else meanwhile."""
        remembered = self.remembered_port(name)
        if remembered is not None and port_is_free(remembered):
            return remembered
        port = free_port()
        self.write(name, str(port))
        return port

    def remembered_port(self, name: str = "port") -> int | None:
        with contextlib.suppress(OSError, ValueError):
            return int((self.path / name).read_text())
        return None

    def password(self) -> str:
        """The generated password, made on first use."""
        with contextlib.suppress(FileNotFoundError):
            return (self.path / "password").read_text()
        password = secrets.token_urlsafe(24)
        self.write("password", password)
        return password

    def write(self, name: str, text: str) -> Path:
        """Write a small file that only the owner may read, whole or not at all."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path, new = self.path / name, self.path / f".{name}.new"
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        new.replace(path)
        return path

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
