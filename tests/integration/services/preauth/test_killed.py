"""A process that is killed between its answer and the record of it, and one killed while the database is away."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import psycopg

from shared.contracts.requests.preauth import ArmPairing
from shared.web.signatures import hex_hmac
from tests.databases import TestDatabase, fresh_database
from tests.infra import Infra
from tests.integration.services.preauth.world import KEY, NOWHERE, Preauth, running

CP = "CP-7"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@asynccontextmanager
async def process(database_url: str, folder: Path) -> AsyncIterator[tuple[subprocess.Popen[bytes], httpx.AsyncClient]]:
    """The real command, serving the hook only."""
    port = free_port()
    env = {
        **os.environ,
        "EXPRESSYNC_PREAUTH_DATABASE_URL": database_url,
        "EXPRESSYNC_AMQP_URL": NOWHERE,
        "EXPRESSYNC_PREAUTH_PORT": str(port),
        "EXPRESSYNC_PREAUTH_OPS_PORT": "0",
        "EXPRESSYNC_PREAUTH_HOOK_KEYS": KEY,
        "EXPRESSYNC_PREAUTH_SERVE": "hook",
        "EXPRESSYNC_PREAUTH_SPOOL_DIR": str(folder / "spool"),
        "EXPRESSYNC_PREAUTH_DECIDE_WITHIN_MS": "2500",
        "EXPRESSYNC_PREAUTH_ANSWER_WITHIN_MS": "3000",
        "EXPRESSYNC_LOG_LEVEL": "error",
    }
    started = await asyncio.to_thread(subprocess.Popen, [sys.executable, "-m", "services.preauth"], env=env)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=10) as client:
            deadline = time.monotonic() + 30
            while True:
                try:
                    await client.get("/")
                    break
                except httpx.HTTPError:
                    assert started.poll() is None
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.05)
            yield started, client
    finally:
        started.kill()
        started.wait()


async def tap(client: httpx.AsyncClient, body: bytes) -> str | None:
    answer = await client.post(
        "/api/ocpp/pre-authorize", content=body, headers={"X-Signature": hex_hmac(KEY.encode(), body)}
    )
    override: str | None = answer.json()["override"]
    return override


async def decided(preauth: Preauth, client: httpx.AsyncClient) -> None:
    """Until the process decides with the database, and not without it."""
    deadline = time.monotonic() + 20
    n = 0
    while not preauth.rows("SELECT 1 FROM tap WHERE reason = 'nothing_armed'"):
        assert time.monotonic() < deadline
        n += 1
        await tap(client, preauth.body("WARM", f"warm-{n}"))
        await asyncio.sleep(0.05)


async def test_killed_between_the_answer_and_its_record(database: TestDatabase, tmp_path: Path) -> None:
    """Blocked was told, and the process died before it could write it down: unknown, void, nobody is logged in."""
    async with running(database, tmp_path / "other") as other:
        async with process(database.url("preauth"), tmp_path) as (killed, client):
            await decided(other, client)
            await other.done(ArmPairing(charge_box_id=CP, purpose="find_card"))
            with psycopg.connect(database.admin_url) as blocker:
                # What records a scan counts its subject up; deciding does not.
                blocker.execute("LOCK TABLE preauth.subject_version IN SHARE MODE")
                assert await tap(client, other.body("04A1", CP)) == "BLOCKED"
                killed.send_signal(signal.SIGKILL)
                killed.wait()
        assert other.rows("SELECT state FROM pairing") == [{"state": "matched"}]
        other.clock.ahead += timedelta(seconds=5)
        await other.until("SELECT 1 FROM pairing WHERE state = 'void'", within_s=15)
        assert other.rows("SELECT told FROM tap WHERE id_tag = '04A1'") == [{"told": "unknown"}]
        assert other.events("scan.intercepted") == []
        assert await other.tap("04A1", CP) is None


async def test_killed_with_a_full_spool(own_infra: Infra, tmp_path: Path) -> None:
    """Taps that passed while the database was away survive the process: the next one writes them down."""
    with fresh_database(own_infra.postgres.url, ["preauth"]) as database:
        async with running(database, tmp_path / "other") as other:
            async with process(database.url("preauth"), tmp_path) as (killed, client):
                await decided(other, client)
                own_infra.postgres.kill()
                bodies = [other.body(f"04A{n}", CP) for n in range(5)]
                assert [await tap(client, body) for body in bodies] == [None] * 5
                killed.send_signal(signal.SIGKILL)
                killed.wait()
            own_infra.postgres.start()
        async with running(database, tmp_path) as after:
            scanned = "SELECT 1 FROM tap WHERE id_tag LIKE '04A%%' AND told = 'passed' HAVING count(*) = 5"
            await after.until(scanned, within_s=15)
