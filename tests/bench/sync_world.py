"""SteVe, Lago and sync as processes of their own, for the sync benchmark."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx

from services.sync.main import wire
from services.sync.settings import SyncSettings
from services.sync.tables import metadata
from shared.contracts.identity import Actor, Cause
from shared.contracts.requests.sync import LinkCard
from shared.runtime.clock import uuid7
from shared.runtime.service import assemble
from shared.web.server import HttpServer
from tests.databases import TestDatabase, fresh_database
from tests.infra import Infra

STEVE_ID: Final = "bench"
METRIC: Final = "ev_charging_kwh"
SUBSCRIPTIONS: Final = 50
CARDS: Final = 100
EVERY: Final = timedelta(minutes=10)
ENERGY_WH: Final = 7_400
ADA: Final = Cause(actor=Actor(kind="operator", id="bench"), correlation_id=uuid7())


@dataclass
class Process:
    """A program under measurement, ended with the benchmark."""

    popen: subprocess.Popen[bytes]

    def peak_rss_mb(self) -> float:
        """The most memory it ever had resident (VmHWM)."""
        status = Path(f"/proc/{self.popen.pid}/status").read_text()
        line = next(one for one in status.splitlines() if one.startswith("VmHWM"))
        return int(line.split()[1]) / 1024

    def end(self) -> None:
        self.popen.terminate()
        try:
            self.popen.wait(20)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()


def start(module: str, *arguments: str, environment: dict[str, str] | None = None, quiet: bool = False) -> Process:
    """`python -m module`."""
    return Process(
        subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if quiet else None,
            env={**os.environ, **(environment or {})},
        )
    )


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


async def answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def first_line(process: Process) -> dict[str, Any]:
    """Where a simulator says that it listens."""
    assert process.popen.stdout is not None
    line = await asyncio.to_thread(process.popen.stdout.readline)
    found: dict[str, Any] = json.loads(line)
    return found


def lago_seed(since: datetime) -> dict[str, Any]:
    names = [f"sub_{number}" for number in range(SUBSCRIPTIONS)]
    return {
        "customers": [{"external_id": f"cus_{name}", "name": name} for name in names],
        "metrics": [{"code": METRIC, "aggregation_type": "sum_agg", "field_name": "kwh"}],
        "plans": [
            {"code": "ev", "interval": "yearly", "charges": [{"metric_code": METRIC, "amount": "0.40"}]},
        ],
        "subscriptions": [
            {
                "external_id": name,
                "external_customer_id": f"cus_{name}",
                "plan_code": "ev",
                "started_at": since.isoformat(),
                "billing_time": "anniversary",
            }
            for name in names
        ],
    }


@dataclass
class BenchWorld:
    steve_url: str
    lago_url: str
    ocpp_url: str
    database_url: str
    amqp_url: str
    database: TestDatabase
    http: httpx.AsyncClient
    settings: SyncSettings
    begun_at: datetime
    stack: AsyncExitStack = field(repr=False)

    def start_sync(self, **given: str) -> Process:
        """The service as it is run, with its log thrown away."""
        environment = {
            "EXPRESSYNC_AMQP_URL": self.amqp_url,
            "EXPRESSYNC_LOG_LEVEL": "warning",
            "EXPRESSYNC_SYNC_DATABASE_URL": self.database_url,
            "EXPRESSYNC_SYNC_PORT": "0",
            "EXPRESSYNC_SYNC_OPS_PORT": "0",
            "EXPRESSYNC_SYNC_STEVE_ID": STEVE_ID,
            "EXPRESSYNC_SYNC_STEVE_URL": self.steve_url,
            "EXPRESSYNC_SYNC_STEVE_USER": "steve",
            "EXPRESSYNC_SYNC_STEVE_PASSWORD": "steve",
            "EXPRESSYNC_SYNC_LAGO_URL": self.lago_url,
            "EXPRESSYNC_SYNC_LAGO_API_KEY": "lago-simulator-key",
            **{f"EXPRESSYNC_SYNC_{name.upper()}": value for name, value in given.items()},
        }
        process = start("services.sync", environment=environment)
        self.stack.callback(process.end)
        return process

    async def start_gateway(self, folder: Path) -> str:
        """Preauth with its gateway in front of this SteVe; returns where chargers connect."""
        port = free_port()
        environment = {
            "EXPRESSYNC_AMQP_URL": self.amqp_url,
            "EXPRESSYNC_LOG_LEVEL": "warning",
            "EXPRESSYNC_PREAUTH_DATABASE_URL": self.database.url("preauth"),
            "EXPRESSYNC_PREAUTH_PORT": "0",
            "EXPRESSYNC_PREAUTH_OPS_PORT": "0",
            "EXPRESSYNC_PREAUTH_OCPP_PORT": str(port),
            "EXPRESSYNC_PREAUTH_STEVE_OCPP_URL": self.ocpp_url,
            "EXPRESSYNC_PREAUTH_SPOOL_DIR": str(folder / "spool"),
        }
        self.stack.callback(start("services.preauth", environment=environment).end)
        async with asyncio.timeout(60):
            while not await answers(port):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)
        return f"ws://127.0.0.1:{port}/ocpp"

    async def seed_cards(self, count: int = CARDS) -> None:
        """Cards in SteVe, each linked to one of the subscriptions for all of the past."""
        tags = [{"id_tag": f"CARD-{number}", "limit": -1} for number in range(count)]
        (await self.http.post(f"{self.steve_url}/_sim/seed", json={"tags": tags})).raise_for_status()
        service = assemble("sync", self.settings, metadata)
        rooms = wire(service, self.settings)
        await service.database.open()
        await rooms.mirror.refresh()
        for number in range(count):
            name = f"sub_{number % SUBSCRIPTIONS}"
            request = LinkCard(
                id_tag=f"CARD-{number}",
                external_customer_id=f"cus_{name}",
                external_subscription_id=name,
                valid_from=self.begun_at,
            )
            async with service.database.write() as tx:
                await rooms.links.link_card(tx, request, ADA)
        for close in service.closing:
            await close()
        for part in service.parts:
            if isinstance(part, HttpServer):
                part._listener.close()
        await service.database.close()

    async def seed_history(self, count: int) -> None:
        """Finished sessions, spread evenly over a charger for each card."""
        for number in range(CARDS):
            history = {
                "charge_box_id": f"CP-{number}",
                "id_tag": f"CARD-{number}",
                "start_at": (self.begun_at + timedelta(days=1)).isoformat(),
                "energy_wh": ENERGY_WH,
                "duration_s": 300,
                "count": count // CARDS,
                "every_s": int(EVERY.total_seconds()),
            }
            (await self.http.post(f"{self.steve_url}/_sim/transactions", json=history)).raise_for_status()

    async def steve_state(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.http.get(f"{self.steve_url}/_sim/state")).json()
        return found

    async def lago_state(self, *, counted: bool = False) -> dict[str, Any]:
        """`counted`: also what Lago counts, which it works out from all its events, on the core it shares with sync."""
        address = f"{self.lago_url}/_sim/state"
        found: dict[str, Any] = (await self.http.get(address, params={"counted": "yes" if counted else "no"})).json()
        return found


@asynccontextmanager
async def bench_world(infra: Infra, folder: Path, services: Sequence[str] = ("sync",)) -> AsyncIterator[BenchWorld]:
    """Fresh simulators and a fresh database."""
    begun_at = datetime.now(UTC).replace(microsecond=0) - timedelta(days=300)
    async with AsyncExitStack() as stack:
        database = stack.enter_context(fresh_database(infra.postgres.url, services))
        steve = start("deploy.demo.steve")
        stack.callback(steve.end)
        seed = folder / f"lago-{uuid7().hex}.json"
        seed.write_text(json.dumps(lago_seed(begun_at)))
        lago = start("deploy.demo.lago", "--seed", str(seed))
        stack.callback(lago.end)
        steve_at, lago_at = await first_line(steve), await first_line(lago)
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=120, trust_env=False))
        given: dict[str, Any] = {
            "database_url": database.url("sync"),
            "EXPRESSYNC_AMQP_URL": infra.rabbitmq.url,
            "port": 0,
            "ops_port": 0,
            "steve_id": STEVE_ID,
            "steve_url": steve_at["rest"],
            "steve_user": "steve",
            "steve_password": "steve",
            "lago_url": lago_at["url"],
            "lago_api_key": "lago-simulator-key",
        }
        settings = SyncSettings(**given)
        yield BenchWorld(
            steve_at["rest"],
            lago_at["url"],
            steve_at["ocpp"],
            database.url("sync"),
            infra.rabbitmq.url,
            database,
            http,
            settings,
            begun_at,
            stack,
        )
