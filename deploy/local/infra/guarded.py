from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from deploy.local.infra.errors import InfraError

GUARD = Path(__file__).with_name("guard.py")
POLL_S = 0.05
LOG_TAIL_LINES = 15
# How long a guard may take beyond the grace period; its clean-up has 30 s.
STUCK_S = 40


@dataclass(frozen=True)
class Command:
    """A program to run: absolute `argv[0]`, its whole environment, and the file its output is appended to.

    `namespace` is the (uid, gid) it believes to have, in a user namespace of its own; `ready_port` holds the
    next command back until this one answers there.
    """

    argv: Sequence[str]
    env: Mapping[str, str]
    log: Path
    cwd: Path
    namespace: tuple[int, int] | None = None
    ready_port: int | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "argv": list(self.argv),
            "env": dict(self.env),
            "log": str(self.log),
            "cwd": str(self.cwd),
            "namespace": self.namespace,
            "ready_port": self.ready_port,
        }


class Guarded:
    """Programs under a guard (see `guard.py`): they end with `stop()`, and with the death of this process."""

    def __init__(
        self,
        commands: Sequence[Command],
        *,
        stop_signal: signal.Signals = signal.SIGTERM,
        grace_s: float = 10,
        keep_fds: Sequence[int] = (),
        cleanup: Command | None = None,
    ) -> None:
        self._log = commands[-1].log
        self._grace_s = grace_s
        self._frozen: list[psutil.Process] = []
        self._guard = subprocess.Popen(
            # -I and -S: nothing of the environment or of site-packages, for a small and quick process.
            [sys.executable, "-I", "-S", str(GUARD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=keep_fds,
            # A Ctrl-C in the terminal is for the launcher, which knows in which order to stop.
            start_new_session=True,
            env={"PATH": os.defpath},
        )
        spec = {
            "commands": [command.as_json() for command in commands],
            "stop_signal": int(stop_signal),
            "grace_s": grace_s,
            "keep_fds": list(keep_fds),
            "cleanup": cleanup.as_json() if cleanup is not None else None,
        }
        stdin, stdout = self._pipes()
        stdin.write(json.dumps(spec).encode() + b"\n")
        stdin.flush()
        answer = stdout.readline()
        if not answer:
            self._guard.wait()
            raise InfraError(
                f"The process that watches {commands[-1].argv[0]} did not start.",
                f"It ended with exit code {self._guard.returncode}.",
                f"Read {self._log}.",
            )
        self.pid: int = json.loads(answer)["pids"][-1]

    def _pipes(self) -> tuple[Any, Any]:
        return self._guard.stdin, self._guard.stdout

    @property
    def guard_pid(self) -> int:
        return self._guard.pid

    @property
    def alive(self) -> bool:
        return self._guard.poll() is None

    def tree(self) -> list[psutil.Process]:
        """The main program and everything below it, parents first."""
        with contextlib.suppress(psutil.NoSuchProcess):
            main = psutil.Process(self.pid)
            return [main, *main.children(recursive=True)]
        return []

    def wait_ready(
        self, ready: Callable[[], bool], timeout_s: float, name: str, told: threading.Event | None = None
    ) -> None:
        """Poll until `ready`. Raises InfraError, with the end of the log, when it ends or takes too long, or `told`."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if ready():
                return
            if not self.alive or (told and told.is_set()):
                break
            time.sleep(POLL_S)
        why = f"It ended with exit code {self._guard.poll()}." if not self.alive else f"Waited {timeout_s:g} s."
        if told and told.is_set():
            why = "It was told to stop first."
        self.stop()
        raise InfraError(
            f"{name} did not become ready.",
            f"{why} The end of its log:\n{tail(self._log)}",
            f"The whole log is {self._log}.",
        )

    def wait(self, timeout_s: float) -> int:
        """Wait for a main program that ends by itself, at most `timeout_s`. Returns its exit code."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._guard.wait(timeout_s)
        return self.stop()

    def stop(self) -> int:
        """End everything, gracefully if it obeys within the grace period. Returns the main exit code."""
        stdin, stdout = self._pipes()
        with contextlib.suppress(BrokenPipeError):
            stdin.close()
        try:
            self._guard.wait(self._grace_s + STUCK_S)
        except subprocess.TimeoutExpired:
            # The guard itself is stuck or frozen: its children die with it (parent-death signal).
            self._guard.kill()
            self._guard.wait()
        stdout.close()
        self._frozen = []
        return self._guard.returncode

    def kill(self) -> None:
        """SIGKILL the main program; the guard clears away what is left of it. Returns when all is gone."""
        self.signal(signal.SIGKILL)
        self.stop()

    def signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def freeze(self) -> None:
        """SIGSTOP the main program and all below it: connections stay open and nothing answers."""
        if self._frozen:
            return
        # The parent first, then what it had started by then: a stopped parent starts no more.
        self.signal(signal.SIGSTOP)
        self._frozen = self.tree()
        for process in self._frozen[1:]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()

    def thaw(self) -> None:
        for process in reversed(self._frozen):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
        self._frozen = []


def tail(log: Path, lines: int = LOG_TAIL_LINES) -> str:
    with contextlib.suppress(OSError):
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    return "(no log)"


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Poll until `condition`. Raises TimeoutError that says what was waited for."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"Waited {timeout_s:g} s for {what}.")
        time.sleep(POLL_S)
