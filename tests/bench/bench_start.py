"""From `make demo` in a set-up environment, without data, to the first intercepted tap; and the services' memory."""

import os
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, Any, Final

import psutil

ROOT: Final = Path(__file__).parents[2]
SERVICES: Final = ("preauth", "sync", "audit", "admin_api")
TIMEOUT_S: Final = 120.0
SETTLE_S: Final = 15.0


def pss_kb(pid: int) -> int:
    """Proportional set size: memory shared by several processes counts once in their sum (proc(5))."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise ValueError(f"no Pss for process {pid}")


def services_below(pid: int) -> dict[str, int]:
    """The services' process ids, by name."""
    found = {}
    for process in psutil.Process(pid).children(recursive=True):
        command = process.cmdline()
        for name in SERVICES:
            if command[-1:] == [f"services.{name}"]:
                found[name] = process.pid
    return found


def main() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        # The unpacked packages belong to the set-up environment; the data do not.
        packages = ROOT / ".local" / "packages"
        if packages.exists():
            (Path(folder) / "packages").symlink_to(packages)
        environment = os.environ | {"EXPRESSYNC_HOME": folder}
        started = time.perf_counter()
        command = [shutil.which("make") or "make", "demo"]
        demo = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        try:
            return _watch(demo, started)
        finally:
            for process in psutil.Process(demo.pid).children(recursive=True):
                if process.name() in {"expressync", "python", "python3"} and "demo" in process.cmdline():
                    process.send_signal(signal.SIGTERM)
                    break
            demo.wait(60)


def _read(output: IO[str], lines: "queue.SimpleQueue[tuple[float, str]]") -> None:
    for line in output:
        lines.put((time.perf_counter(), line))


def _watch(demo: "subprocess.Popen[str]", started: float) -> dict[str, Any]:
    assert demo.stdout is not None
    lines: queue.SimpleQueue[tuple[float, str]] = queue.SimpleQueue()
    # It goes on reading: a demo whose output nobody takes would stop.
    threading.Thread(target=_read, args=(demo.stdout, lines), daemon=True).start()
    first = ready = None
    while first is None:
        try:
            at, line = lines.get(timeout=max(0.0, started + TIMEOUT_S - time.perf_counter()))
        except queue.Empty:
            break
        if "All four services are ready" in line:
            ready = at - started
        if "scan.intercepted" in line:
            first = at - started
    if first is None or ready is None:
        raise RuntimeError("no tap was intercepted in time; run `make demo` to see why")
    time.sleep(SETTLE_S)
    sizes = {name: pss_kb(pid) / 1024 for name, pid in services_below(demo.pid).items()}
    return {
        "first_interception_s": round(first, 2),
        "services_ready_s": round(ready, 2),
        "services_pss_mb": round(sum(sizes.values()), 1),
        **{f"{name}_pss_mb": round(size, 1) for name, size in sorted(sizes.items())},
    }
