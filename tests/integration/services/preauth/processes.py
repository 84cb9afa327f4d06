"""Preauth as the real command: a process that serves the hook, the gateway, the pages, the work, or several of them."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from shared.web.signatures import hex_hmac
from tests.integration.services.preauth.world import KEY, NOWHERE
from tests.nursery import Forked, fork
from tests.ports import free_port
from tests.waiting import until


@dataclass
class Process:
    """`http` is at the hook and the pages. It decides with the database from the start."""

    process: Forked
    http: httpx.AsyncClient
    ops: httpx.AsyncClient
    ocpp_port: int = field(default_factory=free_port)

    @property
    def ocpp_url(self) -> str:
        return f"ws://127.0.0.1:{self.ocpp_port}/ocpp"

    async def tap(self, body: bytes) -> str | None:
        """Send a hook call; the override that was answered."""
        signature = {"X-Signature": hex_hmac(KEY.encode(), body)}
        answer = await self.http.post("/api/ocpp/pre-authorize", content=body, headers=signature)
        override: str | None = answer.json()["override"]
        return override

    async def ok(self, check: str) -> bool:
        """Whether /readyz says so."""
        assert self.process.alive, "the process ended"
        try:
            checks = (await self.ops.get("/readyz")).json()["checks"]
        except httpx.HTTPError:
            return False
        return bool(checks.get(check) == "ok")

    async def metric(self, name: str) -> float:
        """A sample of /metrics by its full name with labels; 0 where there is none yet."""
        lines = (await self.ops.get("/metrics")).text.splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} ")), 0.0)

    async def kill(self) -> None:
        await asyncio.to_thread(self.process.kill)


@asynccontextmanager
async def process(
    serve: str, database_url: str, folder: Path, *, amqp_url: str = NOWHERE, **more: str
) -> AsyncIterator[Process]:
    """The command, until the end of the block. `more`: settings by name, without their prefix."""
    port, ops_port, ocpp_port = free_port(), free_port(), free_port()
    own = {
        "DATABASE_URL": database_url,
        "PORT": str(port),
        "OPS_PORT": str(ops_port),
        "OCPP_PORT": str(ocpp_port),
        "HOOK_KEYS": KEY,
        "SERVE": serve,
        "SPOOL_DIR": str(folder / "spool"),
        # What is tested is the order of things, on a busy machine too; tests of deadlines set their own.
        "DECIDE_WITHIN_MS": "2500",
        "ANSWER_WITHIN_MS": "3000",
        "OCPP_DEADLINE_MS": "3500",
        **more,
    }
    env = {
        **os.environ,
        "EXPRESSYNC_AMQP_URL": amqp_url,
        "EXPRESSYNC_LOG_LEVEL": "error",
        **{f"EXPRESSYNC_PREAUTH_{name}": value for name, value in own.items()},
    }
    forked = await asyncio.to_thread(fork, "services.preauth", env=env)
    try:
        async with (
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=10) as http,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{ops_port}", trust_env=False, timeout=10) as ops,
        ):
            started = Process(forked, http, ops, ocpp_port)
            await until(lambda: started.ok("taps"), within_s=60)
            yield started
    finally:
        await asyncio.to_thread(forked.stop, 15)
