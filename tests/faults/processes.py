"""The real services as processes, each behind proxies of its own: to the database, to the broker, and to Lago."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from deploy.local.environment import Environment
from tests.databases import TestDatabase
from tests.faults.proxy import Proxy, in_front_of
from tests.nursery import Forked, fork
from tests.ports import free_port
from tests.waiting import until

HOOK_KEY = "hook-key-of-the-fault-tests"
LAGO_URL = "EXPRESSYNC_SYNC_LAGO_URL"
UP_WITHIN_S = 60.0
# Readiness that changes its mind tells no truth.
HELD_FOR_S = 3.0
# Each look has all that a service needs answer it, and takes 5 ms of a core.
LOOK_EVERY_S = 0.2


@dataclass
class Process:
    """A service, which keeps its ports and its proxies over all its lives."""

    name: str
    environment: Mapping[str, str] = field(repr=False)
    log_file: Path
    database: Proxy
    broker: Proxy
    port: int
    ops_port: int
    http: httpx.AsyncClient = field(repr=False)
    lago: Proxy | None = None
    """Where the service speaks to one."""
    process: Forked | None = None
    """Its present life."""

    @property
    def proxies(self) -> list[Proxy]:
        return [self.database, self.broker, *([self.lago] if self.lago is not None else [])]

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.alive

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    async def start(self) -> None:
        if not self.alive:
            self.process = await asyncio.to_thread(
                fork, f"services.{self.name}", env=self.environment, log=self.log_file
            )

    async def kill(self) -> None:
        """SIGKILL. What it had sent and a proxy holds never arrives; its connections are reset."""
        process = self.process
        assert process is not None
        assert process.alive, f"{self.name} ended before it was killed:\n{self.log[-3000:]}"
        await asyncio.to_thread(process.kill)
        self.process = None
        for proxy in self.proxies:
            await proxy.cut()
            proxy.resume()

    async def terminate(self, within_s: float = 30.0) -> int:
        """SIGTERM, as a service manager sends it; the exit code. Nothing of it is left afterwards."""
        process = self.process
        assert process is not None
        tree = process.tree()
        process.signal(signal.SIGTERM)
        code = await asyncio.to_thread(process.wait, within_s)
        self.process = None
        assert not any(one.is_running() for one in tree)
        return code

    async def checks(self) -> dict[str, str]:
        """What /readyz says, check by check; `{"process": ...}` where nobody answers."""
        try:
            answer = await self.http.get(f"http://127.0.0.1:{self.ops_port}/readyz", timeout=5)
        except httpx.HTTPError as error:
            return {"process": repr(error)}
        body = answer.json()
        checks: dict[str, str] = body["checks"]
        # The status and the words must say the same.
        ready = answer.status_code == 200
        assert ready == all(why == "ok" for why in checks.values()), (answer.status_code, body)
        assert body["status"] == ("ready" if ready else "not ready")
        return checks

    async def lacks(self) -> set[str]:
        """The names of the checks that are not ok."""
        return {check for check, why in (await self.checks()).items() if why != "ok"}

    async def is_healthy(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return (await self.http.get(f"http://127.0.0.1:{self.ops_port}/healthz", timeout=5)).status_code == 200
        return False

    async def ready(self, within_s: float = UP_WITHIN_S, *, for_s: float = 0.0) -> None:
        await self.lacking(set(), within_s, for_s=for_s)

    async def lacking(self, wanted: set[str], within_s: float = UP_WITHIN_S, *, for_s: float = HELD_FOR_S) -> None:
        """Wait until /readyz names exactly these checks, and goes on naming them for `for_s` seconds."""
        since: float | None = None
        seen: list[set[str]] = []

        async def probe() -> bool:
            nonlocal since
            found = await self.lacks()
            if not self.alive:
                raise AssertionError(f"{self.name} ended:\n{self.log[-3000:]}")
            if not seen or seen[-1] != found:
                seen.append(found)
            if found != wanted:
                since = None
                return False
            since = time.monotonic() if since is None else since
            return time.monotonic() - since >= for_s

        try:
            await until(probe, within_s=within_s, every_s=LOOK_EVERY_S)
        except AssertionError as error:
            now = await self.checks()
            raise AssertionError(f"{self.name} says {now}, not {wanted}; it said {seen}: {error}") from error

    async def metric(self, name: str) -> float:
        """A sample of /metrics by its full name with labels; 0 where there is none yet."""
        text = (await self.http.get(f"http://127.0.0.1:{self.ops_port}/metrics", timeout=5)).text
        found = [line for line in text.splitlines() if line.startswith(f"{name} ")]
        return float(found[0].rpartition(" ")[2]) if found else 0.0


def service_settings(name: str, folder: Path) -> dict[str, str]:
    """What a service needs beside its database and its broker."""
    return {
        "preauth": {
            "HOOK_KEYS": HOOK_KEY,
            "SPOOL_DIR": str(folder / "spool"),
            # The longest that are allowed: a busy machine's taps shall be decided all the same.
            "DECIDE_WITHIN_MS": "150",
            "ANSWER_WITHIN_MS": "180",
        },
        # Nobody is there. Sync says so and lives on.
        "sync": {
            "STEVE_ID": "test",
            "STEVE_URL": "http://127.0.0.1:9",
            "STEVE_USER": "nobody",
            "LAGO_URL": "http://127.0.0.1:9",
            "LAGO_API_KEY": "no-key",
        },
    }.get(name, {})


async def prepare(
    name: str,
    *,
    database: TestDatabase,
    amqp_url: str,
    folder: Path,
    http: httpx.AsyncClient,
    stack: contextlib.AsyncExitStack,
    more: Mapping[str, str] | None = None,
) -> Process:
    """A service, not yet started. `stack` closes its proxies and ends it."""
    database_proxy, database_url = await stack.enter_async_context(in_front_of(database.url(name)))
    broker_proxy, broker_url = await stack.enter_async_context(in_front_of(amqp_url))
    port, ops_port = (0 if name == "audit" else free_port()), free_port()
    prefix = f"EXPRESSYNC_{name.upper()}_"
    own = {"DATABASE_URL": database_url, "PORT": str(port), "OPS_PORT": str(ops_port), **service_settings(name, folder)}
    given = {
        "EXPRESSYNC_AMQP_URL": broker_url,
        # Where a stop cannot finish, it waits as long.
        "EXPRESSYNC_STOP_GRACE_S": "5",
        **{f"{prefix}{key}": value for key, value in own.items()},
        **(more or {}),
    }
    lago_proxy = None
    if name == "sync" and more and LAGO_URL in more:
        lago_proxy, given[LAGO_URL] = await stack.enter_async_context(in_front_of(more[LAGO_URL]))
    environment, log_file = Environment({}, given).of(name), folder / f"{name}.log"
    process = Process(name, environment, log_file, database_proxy, broker_proxy, port, ops_port, http, lago_proxy)

    async def end() -> None:
        # How it stops is for the tests of that.
        if process.process is not None:
            await asyncio.to_thread(process.process.kill)

    stack.push_async_callback(end)
    return process
