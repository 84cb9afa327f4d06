"""Programs of ours as processes that need not import anything: each is forked from one that has.

To import a service takes 1.3 s of a core, most of it for libraries, and the tests start hundreds. What a test gets is a
process like any other, with its own environment, folder and files, which can be killed, frozen or told to end; only how
it came to be is another, and `tests/e2e` starts the commands themselves. A command with pipes is in `tests.commands`.

`python -m tests.nursery DESCRIPTOR` serves the requests of `Nursery` over that socket until it closes.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

import psutil

from tests.authorities import create_once, public_authorities

ROOT: Final = Path(__file__).parents[1]
PR_SET_PDEATHSIG: Final = 1
POLL_S: Final = 0.02
GRACE_S: Final = 20.0
_LONGEST_REQUEST: Final = 1 << 16
HOUSE: Final = ("deploy.", "services.")
# What takes long of what our programs import, and is the same in all.
LIBRARIES: Final = (
    "aio_pika",
    "fastapi",
    "faststream.rabbit",
    # Httpx imports it when the first client is made.
    "httpcore",
    "httpx",
    "prometheus_client",
    "psycopg_pool",
    "pydantic_settings",
    "rich.console",
    "sqlalchemy.dialects.postgresql",
    "sqlalchemy.ext.asyncio",
    "structlog",
    "typer",
    "uvicorn",
    "uvloop",
)


class Forked:
    """A process out of the nursery."""

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self._nursery, self.pid = nursery, pid
        self._code: int | None = None

    @property
    def code(self) -> int | None:
        """The exit code, as `Popen.returncode`; None while it lives."""
        if self._code is None:
            self._code = self._nursery.ask({"do": "code", "pid": self.pid})
        return self._code

    @property
    def alive(self) -> bool:
        return self.code is None

    def tree(self) -> list[psutil.Process]:
        """The process and everything below it, parents first."""
        with contextlib.suppress(psutil.NoSuchProcess):
            main = psutil.Process(self.pid)
            return [main, *main.children(recursive=True)]
        return []

    def signal(self, number: signal.Signals) -> None:
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        self.signal(signal.SIGKILL)
        self.wait()

    def stop(self, grace_s: float = GRACE_S) -> int:
        """SIGTERM, and SIGKILL where it has not ended `grace_s` later. Returns the exit code."""
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)
        with contextlib.suppress(TimeoutError):
            return self.wait(grace_s)
        self.kill()
        return self.wait()

    def wait(self, timeout_s: float = GRACE_S) -> int:
        """:raises TimeoutError: when it still lives after that."""
        deadline = time.monotonic() + timeout_s
        while (code := self.code) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"Process {self.pid} has not ended within {timeout_s:g} s.")
            time.sleep(POLL_S)
        return code


class Nursery:
    """The process to fork from. Its children end with it, and it ends with this one."""

    def __init__(self, parent: Nursery | None = None) -> None:
        """Out of another one, or an interpreter of its own."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._wait: Callable[[float], int]
        with theirs:
            if parent is None:
                argv = [sys.executable, "-m", "tests.nursery", str(theirs.fileno())]
                self._wait = subprocess.Popen(argv, pass_fds=[theirs.fileno()], cwd=ROOT).wait
            else:
                self._wait = Forked(parent, parent.ask({"do": "nursery"}, [theirs.fileno()])).wait
        self._socket = ours
        self._lock = threading.Lock()

    def fork(
        self,
        module: str,
        *arguments: str,
        env: Mapping[str, str],
        cwd: Path,
        files: Sequence[int],
        needs: Sequence[str],
    ) -> Forked:
        """`python -m module arguments` with that whole environment; `files` are its stdin, stdout and stderr.

        `needs`: what it imports. Of a package of ours, all of it.
        """
        request = {"do": "fork", "module": module, "arguments": arguments, "env": dict(env), "cwd": str(cwd)}
        return Forked(self, self.ask(request | {"needs": needs}, files))

    def ask(self, request: Mapping[str, Any], files: Sequence[int] = ()) -> Any:  # noqa: ANN401 - as each request says
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(request).encode()], files)
            answer = self._socket.recv(_LONGEST_REQUEST)
        assert answer, "the nursery ended"
        return json.loads(answer)

    def close(self) -> None:
        self._socket.close()
        self._wait(10)


# The first one is the parent of the others.
_nurseries: Final[dict[str, Nursery]] = {}
_opening: Final = threading.Lock()


def nursery(module: str) -> Nursery:
    """The one for that program: of this house, a process out of it has imported what the program imports, and nothing
    else.
    """
    with _opening:
        if not _nurseries:
            _nurseries[""] = Nursery()
        if module not in _nurseries:
            _nurseries[module] = Nursery(_nurseries[""])
        return _nurseries[module]


def fork(module: str, *, env: Mapping[str, str], cwd: Path = ROOT, log: Path | None = None) -> Forked:
    """A service: what it writes is appended to `log`, or goes where this process's own output does."""
    with contextlib.ExitStack() as stack:
        null = stack.enter_context(Path(os.devnull).open("rb"))
        out = (1, 2) if log is None else (stack.enter_context(log.open("ab")).fileno(),) * 2
        files = [null.fileno(), *out]
        return nursery(module).fork(module, env=env, cwd=cwd, files=files, needs=[f"{module}.main"])


def pytest_unconfigure() -> None:
    while _nurseries:
        _nurseries.popitem()[1].close()


def serve(requests: socket.socket) -> dict[str, Any] | None:
    """Answer until the socket closes; in a child, return what it shall be."""
    codes: dict[int, int | None] = {}
    wakeup, wakeup_write = os.pipe()
    os.set_blocking(wakeup_write, False)
    signal.set_wakeup_fd(wakeup_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    # A Ctrl-C in the terminal is for the tests.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        readable, _, _ = select.select([requests.fileno(), wakeup], [], [])
        if wakeup in readable:
            os.read(wakeup, 512)
            _reap(codes)
        if requests.fileno() not in readable:
            continue
        message, files, _, _ = socket.recv_fds(requests, _LONGEST_REQUEST, 3)
        if not message:
            for pid in [pid for pid, code in codes.items() if code is None]:
                os.kill(pid, signal.SIGKILL)
            return None
        request = json.loads(message)
        if request["do"] == "code":
            _reap(codes)
            requests.send(json.dumps(codes[request["pid"]]).encode())
            continue
        _prepare(request.get("needs", LIBRARIES))
        me = os.getpid()
        if (pid := os.fork()) == 0:
            os.close(wakeup)
            os.close(wakeup_write)
            _leave(me)
            if request["do"] == "nursery":
                return {"do": "nursery", "socket": files[0]}
            _become(request, files)
            return dict(request)
        codes[pid] = None
        for file in files:
            os.close(file)
        requests.send(json.dumps(pid).encode())


def _reap(codes: dict[int, int | None]) -> None:
    for pid in [pid for pid, code in codes.items() if code is None]:
        gone, status = os.waitpid(pid, os.WNOHANG)
        if gone:
            codes[pid] = os.waitstatus_to_exitcode(status)


def _prepare(needs: Sequence[str]) -> None:
    """Import what the program will. Nothing of it is run: a service has no loop, no thread and no connection yet."""
    for name in needs:
        if name not in sys.modules:
            found = importlib.import_module(name)
            places = getattr(found, "__path__", ()) if name.startswith(HOUSE) else ()
            for _, inside, _ in pkgutil.walk_packages(places, f"{name}."):
                if not inside.endswith("__main__"):
                    importlib.import_module(inside)
            gc.freeze()
    # What each of them would read again for each client of httpx.
    public_authorities()
    ssl.create_default_context = create_once
    assert threading.active_count() == 1, threading.enumerate()


def _leave(parent: int) -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(127)


def _become(request: dict[str, Any], files: list[int]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setsid()
    for place, file in enumerate(files):
        os.dup2(file, place)
        os.close(file)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    # What an interpreter takes from its files and its environment as it starts.
    for out in (sys.stdout, sys.stderr):
        cast("io.TextIOWrapper", out).reconfigure(line_buffering=out is sys.stderr or out.isatty())
    time.tzset()
    if request["env"].get("PYTHONWARNINGS") == "error":
        warnings.simplefilter("error")


def main() -> None:
    gc.disable()
    child: dict[str, Any] | None = {"do": "nursery", "socket": int(sys.argv[1])}
    while child is not None and child["do"] == "nursery":
        with socket.socket(fileno=child["socket"]) as requests:
            child = serve(requests)
    if child is not None:
        sys.argv = [child["module"], *child["arguments"]]
        runpy.run_module(child["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
