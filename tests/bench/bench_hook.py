"""The hook, with journal and relay, against an endpoint that verifies, parses and answers.

No process is bound to a core: the tap's work is shared between the service and its database, wherever they run. Taps
and the work behind them are two processes (`EXPRESSYNC_PREAUTH_SERVE`), the work gives way by itself; the closed loop
is also measured with all in one.
"""

import asyncio
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import psutil
import psycopg

from tests.bench.bench_gateway import Program, cpu_s, free_port, program, wait_ready
from tests.bench.figures import median
from tests.bench.hook_load import KEY
from tests.bench.sync_world import bench_world
from tests.databases import fresh_database
from tests.infra import Infra, provided

CONNECTIONS: Final = 64
CLOSED_S: Final = 4
ROUNDS: Final = 3
OPEN_PER_S: Final = 200
OPEN_S: Final = 15
FROZEN_S: Final = 3
DRAIN_WITHIN_S: Final = 300
# A page of a thousand taps this often: an export that is in a hurry, on a machine that serves taps.
EXPORT_EVERY_S: Final = 0.1
# More than sync gets through while the open loop runs: it is checked that some are left.
BACKLOG: Final = 40_000


@contextmanager
def preauth(infra: Infra, folder: Path, *, apart: bool = True) -> Iterator[tuple[int, int, str]]:
    """A preauth in two processes, one for taps and one for the work behind them, or in one.

    Its port and process id, and its database's address.
    """
    with fresh_database(infra.postgres.url, ["preauth"]) as database:
        port = free_port()
        common = {
            "EXPRESSYNC_PREAUTH_DATABASE_URL": database.url("preauth"),
            "EXPRESSYNC_AMQP_URL": infra.rabbitmq.url,
            "EXPRESSYNC_PREAUTH_PORT": str(port),
            "EXPRESSYNC_PREAUTH_HOOK_KEYS": KEY.decode(),
            "EXPRESSYNC_PREAUTH_SPOOL_DIR": str(folder / "spool"),
            "EXPRESSYNC_STOP_GRACE_S": "2",
            "EXPRESSYNC_LOG_LEVEL": "error",
        }
        hook_ops, work_ops = free_port(), free_port()
        serve = "hook" if apart else "hook,pages,work"
        as_hook = {"EXPRESSYNC_PREAUTH_SERVE": serve, "EXPRESSYNC_PREAUTH_OPS_PORT": str(hook_ops)}
        as_work = {"EXPRESSYNC_PREAUTH_SERVE": "work", "EXPRESSYNC_PREAUTH_OPS_PORT": str(work_ops)}
        with ExitStack() as stack:
            hook = stack.enter_context(program("services.preauth", cores=(), env={**common, **as_hook}))
            wait_ready(hook_ops, hook.process)
            if apart:
                work = stack.enter_context(program("services.preauth", cores=(), env={**common, **as_work}))
                wait_ready(work_ops, work.process)
            yield port, hook.process.pid, database.admin_url


@contextmanager
def syncing(infra: Infra, folder: Path) -> Iterator[None]:
    """A sync beside it that works through a backlog, and has not finished at the end."""
    begun, over = threading.Event(), threading.Event()
    left: list[int] = []

    async def sync() -> None:
        async with bench_world(infra, folder) as world:
            await world.seed_cards()
            await world.seed_history(BACKLOG)
            world.start_sync()
            async with asyncio.timeout(60):
                while (await world.lago_state())["events"] == 0:  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.1)
            begun.set()
            await asyncio.to_thread(over.wait)
            left.append(BACKLOG - (await world.lago_state())["events"])

    thread = threading.Thread(target=lambda: asyncio.run(sync()))
    thread.start()
    assert begun.wait(120), "sync did not begin"
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert left[0] > 0, "the backlog was over before the measurement was"


def main() -> dict[str, Any]:
    with (
        tempfile.TemporaryDirectory() as name,
        provided(Path(name), given=False) as infra,
        program("tests.bench.hook_bare", cores=()) as bare,
        program("tests.bench.hook_load", cores=()) as load,
    ):
        folder, bare_port, postmaster = Path(name), int(bare.line()), infra.postgres.pid
        assert postmaster is not None
        with preauth(infra, folder) as (port, hook_pid, url), psycopg.connect(url, autocommit=True) as database:
            pids = {"hook": hook_pid, "bare": bare.process.pid}
            found = closed_loop(load, port, bare_port, pids, database)
            with syncing(infra, folder):
                found |= open_loop(load, port, bare_port, url)
            found |= frozen(load, port, postmaster)
        with preauth(infra, folder, apart=False) as (port, hook_pid, url), psycopg.connect(url, autocommit=True) as db:
            pids = {"hook": hook_pid, "bare": bare.process.pid}
            in_one = closed_loop(load, port, bare_port, pids, db)
        return {**found, "ratio_to_bare_in_one_process": in_one["ratio_to_bare"]}


def closed_loop(
    load: Program, port: int, bare_port: int, pids: dict[str, int], database: psycopg.Connection[Any]
) -> dict[str, Any]:
    """64 connections, each waiting for its answer; then how long the relay still has to work."""
    per_s: dict[str, list[float]] = {"hook": [], "bare": []}
    cpu_us: dict[str, list[float]] = {"hook": [], "bare": []}
    last: dict[str, Any] = {}
    load.ask("closed", port=port, connections=CONNECTIONS, seconds=1)
    for _ in range(ROUNDS):
        for name, where in (("bare", bare_port), ("hook", port)):
            before_s = cpu_s(pids[name])
            last = load.ask("closed", port=where, connections=CONNECTIONS, seconds=CLOSED_S)
            cpu_us[name].append((cpu_s(pids[name]) - before_s) / last["calls"] * 1e6)
            per_s[name].append(last["per_s"])
    began = time.monotonic()
    while database.execute("SELECT 1 FROM preauth.outbox LIMIT 1").fetchone():
        assert time.monotonic() - began < DRAIN_WITHIN_S, "the outbox does not empty"
        time.sleep(0.1)
    ratios = [hook / other for hook, other in zip(per_s["hook"], per_s["bare"], strict=True)]
    [(taps,)] = database.execute("SELECT count(*) FROM preauth.tap WHERE told = 'passed'").fetchall()
    return {
        "ratio_to_bare": round(median(ratios), 3),
        "hook_per_s": round(median(per_s["hook"])),
        "bare_per_s": round(median(per_s["bare"])),
        "hook_cpu_us_per_call": round(median(cpu_us["hook"]), 1),
        "bare_cpu_us_per_call": round(median(cpu_us["bare"]), 1),
        "closed_p50_ms": round(last["p50_ms"], 2),
        "closed_p99_ms": round(last["p99_ms"], 2),
        "outbox_lag_s": round(time.monotonic() - began, 2),
        "journalled": taps,
    }


def open_loop(load: Program, port: int, bare_port: int, database_url: str) -> dict[str, Any]:
    """200 taps a second while the journal is exported, sync works through a backlog and what was just told is relayed;
    counted from when each is due.
    """
    bare = load.ask("opened", port=bare_port, per_s=OPEN_PER_S, seconds=OPEN_S / 3)
    load.ask("closed", port=port, connections=CONNECTIONS, seconds=2)
    stop = threading.Event()
    export = threading.Thread(target=_export, args=(database_url, stop))
    export.start()
    found = load.ask("opened", port=port, per_s=OPEN_PER_S, seconds=OPEN_S)
    stop.set()
    export.join()
    assert found["failed"] == 0, found
    return {
        "open_200_p50_ms": round(found["p50_ms"], 2),
        "open_200_p99_ms": round(found["p99_ms"], 2),
        "open_200_p999_ms": round(found["p999_ms"], 2),
        "bare_open_200_p99_ms": round(bare["p99_ms"], 2),
        "p99_ratio_to_bare": round(found["p99_ms"] / bare["p99_ms"], 2),
    }


def _export(database_url: str, stop: threading.Event) -> None:
    """Read the whole journal, again and again, a page at a time."""
    with psycopg.connect(database_url) as connection:
        while not stop.is_set():
            with connection.cursor("export") as cursor:
                cursor.itersize = 1_000
                cursor.execute("SELECT * FROM preauth.tap ORDER BY received_at")
                for n, _ in enumerate(cursor):
                    if n % 1_000 == 0 and stop.wait(EXPORT_EVERY_S):
                        break


def frozen(load: Program, port: int, postmaster: int) -> dict[str, Any]:
    """PostgreSQL stands still under 200 taps a second: all are answered."""
    processes = [psutil.Process(postmaster), *psutil.Process(postmaster).children(recursive=True)]
    asked: dict[str, Any] = {}

    def ask() -> None:
        asked.update(load.ask("opened", port=port, per_s=OPEN_PER_S, seconds=FROZEN_S + 2))

    load.ask("opened", port=port, per_s=OPEN_PER_S, seconds=1)
    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(1)
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    time.sleep(FROZEN_S)
    for process in processes:
        process.send_signal(signal.SIGCONT)
    asking.join()
    return {
        "frozen_db_max_ms": round(asked["max_ms"], 1),
        "frozen_db_answered": asked["calls"],
        "frozen_db_failed": asked["failed"],
    }
