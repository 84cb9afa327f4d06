"""The gateway of a whole preauth, with its database and broker, against a direct connection and against a bare relay.

1,000 chargers on one process. Load, SteVe and the relay under test are processes of their own; where there are two
cores the relay has one for itself. The bare relay stands on the gateway's own sockets and looks at nothing, so that the
ratio is what parsing, desk and observer cost; the plain one is what `websockets` gives without its sans-I/O layer.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psutil

from tests.bench.figures import median
from tests.databases import fresh_database
from tests.infra import provided

CHARGERS: Final = 1_000
PACED_PER_S: Final = 1_000
PACED_S: Final = 4
CLOSED_CONNECTIONS: Final = 200
CLOSED_S: Final = 4
ROUNDS: Final = 3
SETTLED_SHARE: Final = 0.1
SETTLE_WITHIN_S: Final = 30.0
READY_WITHIN_S: Final = 60.0
STEVE_PATH: Final = "/steve/websocket/CentralSystemService"


class Program:
    """A process that speaks in lines, on the given cores."""

    def __init__(self, arguments: Sequence[str], cores: Sequence[int], env: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if not os.environ.get("BENCH_VERBOSE") else None,
            text=True,
            env={**os.environ, **(env or {})},
        )
        pin(self.process.pid, cores)

    def line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the process ended"
        return line

    def ask(self, do: str, **what: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **what}) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.line())
        return answer

    def end(self) -> None:
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        self.process.kill()
        self.process.communicate()


@contextmanager
def program(*arguments: str, cores: Sequence[int], env: dict[str, str] | None = None) -> Iterator[Program]:
    running = Program(arguments, cores, env)
    try:
        yield running
    finally:
        running.end()


def pin(pid: int, cores: Sequence[int]) -> None:
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(pid, cores)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_ready(ops_port: int, process: "subprocess.Popen[str]") -> None:
    """Until readiness says yes: with its database and its broker."""
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "preauth ended"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{ops_port}/readyz", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise AssertionError("preauth did not become ready")


def cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def settle(pid: int) -> None:
    """Until what a thousand comings and goings leave to record is recorded: that is measured as the storm."""
    deadline = time.monotonic() + SETTLE_WITHIN_S
    while time.monotonic() < deadline:
        before = cpu_s(pid)
        time.sleep(0.5)
        if cpu_s(pid) - before < SETTLED_SHARE * 0.5:
            return


def own_kb(pid: int) -> float:
    return float(psutil.Process(pid).memory_full_info().uss) / 1024


@contextmanager
def preauth(steve_port: int, folder: Path, cores: Sequence[int]) -> Iterator[tuple[Program, int]]:
    """A preauth as it is run, its gateway in front of that SteVe; with the gateway's port."""
    with provided(folder) as infra, fresh_database(infra.postgres.url, ["preauth"]) as database:
        gateway_port, ops_port = free_port(), free_port()
        env = {
            "EXPRESSYNC_PREAUTH_DATABASE_URL": database.url("preauth"),
            "EXPRESSYNC_AMQP_URL": infra.rabbitmq.url,
            "EXPRESSYNC_PREAUTH_PORT": "0",
            "EXPRESSYNC_PREAUTH_OPS_PORT": str(ops_port),
            "EXPRESSYNC_PREAUTH_OCPP_PORT": str(gateway_port),
            "EXPRESSYNC_PREAUTH_STEVE_OCPP_URL": f"ws://127.0.0.1:{steve_port}{STEVE_PATH}",
            "EXPRESSYNC_PREAUTH_SPOOL_DIR": str(folder / "spool"),
            "EXPRESSYNC_STOP_GRACE_S": "2",
            "EXPRESSYNC_LOG_LEVEL": "warning",
        }
        with program("services.preauth", cores=cores, env=env) as running:
            wait_ready(ops_port, running.process)
            yield running, gateway_port


def main() -> dict[str, Any]:
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    relay_cores, load_cores = (cores[:1], cores[1:]) if len(cores) > 1 else ([], [])
    with (
        tempfile.TemporaryDirectory() as folder,
        program("tests.bench.gateway_peers", "steve", cores=load_cores) as steve,
        program("tests.bench.gateway_load", cores=load_cores) as load,
    ):
        steve_port = int(steve.line())
        steve_url = f"ws://127.0.0.1:{steve_port}{STEVE_PATH}"
        with (
            preauth(steve_port, Path(folder), relay_cores) as (gateway, gateway_port),
            program("tests.bench.gateway_peers", "legs", steve_url, cores=relay_cores) as bare,
            program("tests.bench.gateway_peers", "relay", steve_url, cores=relay_cores) as plain,
        ):
            ways = {
                "direct": {"host": "127.0.0.1", "port": steve_port, "path": STEVE_PATH},
                "gateway": {"host": "127.0.0.1", "port": gateway_port, "path": "/ocpp"},
                "bare": {"host": "127.0.0.1", "port": int(bare.line()), "path": "/ocpp"},
                "plain": {"host": "127.0.0.1", "port": int(plain.line()), "path": "/ocpp"},
            }
            pids = {"gateway": gateway.process.pid, "bare": bare.process.pid, "plain": plain.process.pid}
            return measure(load, ways, pids)


def measure(load: Program, ways: dict[str, dict[str, Any]], pids: dict[str, int]) -> dict[str, Any]:
    gateway_pid = pids["gateway"]
    before_kb = own_kb(gateway_pid)
    load.ask("connect", **ways["gateway"], count=CHARGERS)
    settle(gateway_pid)
    idle_kb = own_kb(gateway_pid)
    storm = load.ask("storm")
    load.ask("close")
    paced: dict[str, list[dict[str, Any]]] = {"direct": [], "gateway": []}
    for _ in range(ROUNDS):
        for way, rounds in paced.items():
            load.ask("connect", **ways[way], count=CHARGERS)
            settle(gateway_pid)
            rounds.append(load.ask("paced", per_s=PACED_PER_S, seconds=PACED_S))
            load.ask("close")
    closed: dict[str, list[float]] = {"bare": [], "plain": [], "gateway": []}
    cpu_us: dict[str, list[float]] = {way: [] for way in closed}
    for _ in range(ROUNDS):
        for way, per_s in closed.items():
            load.ask("connect", **ways[way], count=CHARGERS)
            settle(pids["gateway"])
            before_s = cpu_s(pids[way])
            figures = load.ask("closed", connections=CLOSED_CONNECTIONS, seconds=CLOSED_S)
            per_s.append(figures["per_s"])
            cpu_us[way].append((cpu_s(pids[way]) - before_s) / figures["calls"] * 1e6)
            load.ask("close")
    assert storm["refused"] == 0, f"{storm['refused']} chargers were refused"
    assert len({one["calls"] for rounds in paced.values() for one in rounds}) == 1, paced
    ratios = {
        relay: [through / bare for through, bare in zip(closed["gateway"], closed[relay], strict=True)]
        for relay in ("bare", "plain")
    }
    p50_ms = {way: [one["p50_ms"] for one in rounds] for way, rounds in paced.items()}
    added_ms = [through - direct for through, direct in zip(p50_ms["gateway"], p50_ms["direct"], strict=True)]
    return {
        "chargers": CHARGERS,
        "added_median_ms": round(median(added_ms), 3),
        "direct_median_ms": round(median(p50_ms["direct"]), 3),
        "gateway_median_ms": round(median(p50_ms["gateway"]), 3),
        "gateway_p99_ms": round(median([one["p99_ms"] for one in paced["gateway"]]), 3),
        "ratio_to_bare_relay": round(median(ratios["bare"]), 3),
        "ratio_to_plain_relay": round(median(ratios["plain"]), 3),
        "gateway_calls_per_s": round(median(closed["gateway"])),
        "bare_calls_per_s": round(median(closed["bare"])),
        "plain_calls_per_s": round(median(closed["plain"])),
        "gateway_cpu_us_per_call": round(median(cpu_us["gateway"]), 1),
        "bare_cpu_us_per_call": round(median(cpu_us["bare"]), 1),
        "plain_cpu_us_per_call": round(median(cpu_us["plain"]), 1),
        "kb_per_charger": round((idle_kb - before_kb) / CHARGERS, 1),
        "storm_s": round(storm["seconds"], 2),
        "storm_refused": storm["refused"],
    }
