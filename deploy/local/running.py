"""Which launcher runs, so that `expressync down` can stop it from another terminal."""

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Final

import psutil

from deploy.local.home import Home
from deploy.local.infra.errors import InfraError
from deploy.local.infra.folder import Folder

STOP_TIMEOUT_S: Final = 90.0
_FILE: Final = "launcher.json"


def launcher(home: Home) -> psutil.Process | None:
    """The process that keeps this home's stack up, or None. A recycled process id is not mistaken for it."""
    try:
        noted = json.loads((home.folder / _FILE).read_text())
        process = psutil.Process(int(noted["pid"]))
    except (OSError, ValueError, KeyError, psutil.NoSuchProcess):
        return None
    return process if abs(process.create_time() - float(noted["born"])) < 1 and process.is_running() else None


@contextlib.contextmanager
def noted(home: Home) -> Iterator[None]:
    """Write down that this process keeps the stack up, for as long as the block runs.

    :raises InfraError: when another one does already.
    """
    other = launcher(home)
    if other is not None and other.pid != os.getpid():
        raise InfraError(
            f"The {home.kind} stack is already up.",
            f"Process {other.pid} keeps it up from {home.folder}.",
            "Use it, or stop it first with `expressync down`.",
        )
    me = psutil.Process()
    file = Folder(home.folder).write(_FILE, json.dumps({"pid": me.pid, "born": me.create_time()}))
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


@contextlib.contextmanager
def until_told() -> Iterator[threading.Event]:
    """An event that SIGINT (Ctrl-C) and SIGTERM set, instead of tearing the launcher down in the middle of a step."""
    told = threading.Event()
    before = {number: signal.signal(number, lambda *_: told.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop(home: Home) -> bool:
    """Stop the launcher of this home and wait until it is gone. False where none runs.

    :raises InfraError: when it does not go.
    """
    process = launcher(home)
    if process is None:
        return False
    process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while launcher(home) is not None:
        if time.monotonic() > deadline:
            raise InfraError(
                f"The {home.kind} stack does not stop.",
                f"Process {process.pid} was told to {STOP_TIMEOUT_S:g} s ago and is still there.",
                f"Look into {home.logs}; end the process yourself if you must: its services end with it.",
            )
        time.sleep(0.1)
    return True
