"""`expressync` as a person starts it: a subprocess with a home of its own."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

import psutil

from tests.users import becoming, environment_of_another
from tests.waiting import until

ROOT: Final = Path(__file__).parents[2]
PROGRAM: Final = Path(sys.executable).with_name("expressync")


def home(folder: Path) -> Path:
    """A private folder that shares only the unpacked packages with the checkout."""
    folder.mkdir(parents=True, exist_ok=True)
    packages = ROOT / ".local" / "packages"
    if packages.exists():
        (folder / "packages").symlink_to(packages)
    return folder


def environment(folder: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("EXPRESSYNC_")}
    return kept | {"EXPRESSYNC_HOME": str(folder), "COLUMNS": "200"}


def run(folder: Path, *arguments: str, timeout_s: float = 90) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [PROGRAM, *arguments],
        env=environment(folder),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def run_json(folder: Path, *arguments: str) -> tuple[int, Any]:
    done = run(folder, *arguments, "--json")
    return done.returncode, json.loads(done.stdout)


def processes_of(folder: Path) -> list[str]:
    """Every living process that was started with this home or from files in it."""
    found = []
    for process in psutil.process_iter():
        try:
            belongs = str(folder) in " ".join(process.cmdline()) or (
                process.environ().get("EXPRESSYNC_HOME") == str(folder)
            )
            if belongs and process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
                found.append(f"{process.pid} {' '.join(process.cmdline())[:120]}")
        except psutil.Error:
            continue
    return found


async def nothing_left(folder: Path) -> None:
    """Wait until no such process is left."""

    async def gone() -> bool:
        return not processes_of(folder)

    try:
        # To look costs a tenth of a second.
        await until(gone, within_s=30, every_s=0.3)
    except AssertionError as error:
        raise AssertionError("\n".join(processes_of(folder))) from error


class Launched:
    """A long-running `expressync` command; its lines can be waited for."""

    def __init__(self, folder: Path, *arguments: str, uid: int | None = None) -> None:
        """`uid`: as this user, instead of as root."""
        another = environment_of_another() if uid is not None else {}
        self._process = subprocess.Popen(
            [*(becoming(uid) if uid is not None else ()), PROGRAM, *arguments],
            env=environment(folder) | another,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._new: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for line in output:
                self._new.put(line.rstrip())

    def wait_for(self, text: str, within_s: float = 90) -> str:
        """The first line, from now on, that has `text`; fails with everything that was said."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            try:
                line = self._new.get(timeout=0.2)
            except queue.Empty:
                if self._process.poll() is not None:
                    break
                continue
            self.lines.append(line)
            if text in line:
                return line
        raise AssertionError(f"{text!r} was not said within {within_s:g} s:\n" + "\n".join(self.lines))

    def said(self, text: str) -> str:
        """The last line so far that has `text`."""
        return next(line for line in reversed(self.lines) if text in line)

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, within_s: float = 60) -> int:
        return self._process.wait(within_s)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
