"""The console when the database or the broker is not there: it says so, quickly, and claims nothing."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta

import httpx
import pytest

from services.admin_api.access import store
from services.admin_api.access.operators import Operators
from services.admin_api.access.passwords import Passwords
from services.admin_api.main import build
from services.admin_api.settings import AdminApiSettings
from shared.runtime.clock import utc_now
from shared.runtime.service import Service
from shared.web.server import HttpServer
from tests.databases import TestDatabase, fresh_database
from tests.infra import Infra
from tests.integration.services.admin_api.conftest import CAUSE, CHEAP, OWN_HASH
from tests.integration.services.admin_api.console import Console, words
from tests.integration.services.admin_api.scene import CARD
from tests.integration.services.admin_api.support import OWN_PASSWORD, problem
from tests.waiting import until

NOWHERE_AMQP = "amqp://nobody:nothing@127.0.0.1:9/"
NOWHERE_DATABASE = "postgresql://nobody:nothing@127.0.0.1:9/nothing"
WAIT_S = 0.5


@pytest.fixture(scope="module")
def own_database(infra: Infra) -> Iterator[TestDatabase]:
    with fresh_database(infra.postgres.url, ["admin_api"]) as fresh:
        yield fresh


@asynccontextmanager
async def alone(database_url: str) -> AsyncIterator[tuple[str, str, Service]]:
    """The service without a broker: its address, its private address, itself."""
    settings = AdminApiSettings(database_url=database_url, amqp_url=NOWHERE_AMQP, port=0, ops_port=0)
    service = build(settings, passwords=Passwords(CHEAP))
    # How long who asks waits for a database that is not there: each asks in vain, one after the other.
    service.database.pool.timeout = WAIT_S
    http, ops = (
        next(part for part in service.parts if isinstance(part, HttpServer) and part.name == name)
        for name in ("http", "ops")
    )
    stop = asyncio.Event()
    task = asyncio.create_task(service.run(stop))
    try:
        yield f"http://127.0.0.1:{http.port}", f"http://127.0.0.1:{ops.port}", service
    finally:
        stop.set()
        await task


async def answers(client: httpx.AsyncClient, path: str) -> httpx.Response:
    async def once() -> httpx.Response | None:
        try:
            return await client.get(path)
        except httpx.TransportError:
            return None

    found = await until(once)
    assert found is not None
    return found


class _Alone:
    """As much of a house as a `Console` needs."""

    def __init__(self, url: str) -> None:
        self.url = url

    def client(self, **headers: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, headers=headers, trust_env=False, timeout=30)


async def test_without_a_broker_operators_come_in_and_see_that_nobody_answers(own_database: TestDatabase) -> None:
    """Signing in needs the database only; pages come within seconds and say who did not answer."""
    async with alone(own_database.url("admin_api")) as (url, ops_url, service):
        operators = Operators(
            service.database,
            service.outbox,
            Passwords(CHEAP),
            one_time=timedelta(hours=1),
            clock=utc_now,
        )
        await operators.first(CAUSE)
        async with service.database.write() as tx:
            await store.set_password(tx, "admin", OWN_HASH, one_time_until=None)
        browser = Console(_Alone(url))
        await answers(browser.client, "/sign-in")
        assert (await browser.sign_in(password=OWN_PASSWORD)).status_code == 303
        started = time.monotonic()
        page = await browser.get(f"/cards/{CARD}")
        took_s = time.monotonic() - started
        text = words(page)
        assert page.status_code == 200
        assert "Sync did not answer, so nobody asked SteVe" in text
        assert "SteVe did not answer" not in text
        assert "unreachable" in words(await browser.get("/"))
        problem(await browser.get("/api/v1/cards"), 504, "unknown")
        assert took_s < 12, "all owners are asked at once, and not to their deadline without a broker"
        async with httpx.AsyncClient(base_url=ops_url, trust_env=False) as ops:
            ready = await ops.get("/readyz")
            assert (ready.status_code, ready.json()["checks"]["database"]) == (503, "ok")
            assert "broker" in ready.json()["checks"]["broker"]
        await browser.client.aclose()


async def test_without_a_database_every_answer_is_503_and_says_so() -> None:
    """Nobody can be recognised: a page and a problem detail say that nothing was changed. The process is alive."""
    async with alone(NOWHERE_DATABASE) as (url, ops_url, _):
        client = _Alone(url).client(Authorization="Bearer expressync_abcdefgh_secret")
        browser = _Alone(url).client(Cookie="expressync_session=expsession_x")
        api, page, form = await asyncio.gather(
            answers(client, "/api/v1/cards"), answers(browser, "/cards"), answers(browser, "/sign-in")
        )
        assert "nothing was changed" in problem(api, 503, "unavailable")["detail"].lower()
        assert (page.status_code, "does not answer" in words(page)) == (503, True)
        assert form.status_code == 503
        assert (await client.get("/api/openapi.json")).status_code == 200
        async with httpx.AsyncClient(base_url=ops_url, trust_env=False) as ops:
            assert (await ops.get("/healthz")).status_code == 200
            assert (await ops.get("/readyz")).status_code == 503
        await client.aclose()
        await browser.aclose()
