"""Services, servers and evidence together, and the questions that every fault test asks at its end."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import aio_pika
import httpx

from deploy.local.infra.rabbitmq import RabbitNode
from deploy.local.infra.server import Server
from shared.bus.requests import Requester
from shared.bus.topology import SUBSCRIPTIONS, Topology, events_queue, parked_queue, requests_queue, retry_queue
from shared.contracts.identity import Actor
from shared.runtime.clock import utc_now
from shared.runtime.supervisor import Supervisor
from tests.databases import TestDatabase, fresh_database
from tests.faults.evidence import Account, Evidence, depths, put_aside
from tests.faults.processes import HOOK_KEY, Process, prepare
from tests.faults.taps import Answer, Taps
from tests.infra import Infra
from tests.waiting import until

SETTLED_WITHIN_S = 60.0
OPERATOR = Actor(kind="operator", id="maria")


async def do(*verbs: Callable[[], object]) -> None:
    """Run blocking verbs of servers, side by side, while the proxies of this process go on."""
    await asyncio.gather(*(asyncio.to_thread(verb) for verb in verbs))


@dataclass
class World:
    """`services` by name. Tests leave it as they found it: `restore` sees to what they broke."""

    infra: Infra
    database: TestDatabase
    evidence: Evidence
    services: dict[str, Process]
    taps: Taps

    @property
    def postgres(self) -> Server:
        return self.infra.postgres

    @property
    def rabbitmq(self) -> Server:
        return self.infra.rabbitmq

    @property
    def preauth(self) -> Process:
        return self.services["preauth"]

    @property
    def audit(self) -> Process:
        return self.services["audit"]

    @property
    def sync(self) -> Process:
        return self.services["sync"]

    async def waiting_in_audits_queue(self) -> int:
        queue = events_queue("audit")
        return (await depths(self.rabbitmq.url, queue))[queue]

    async def settled(self, within_s: float = SETTLED_WITHIN_S) -> Account:
        """Wait until every committed event is recorded and every tap's answer is known, and check all traces."""
        last = "nothing yet"

        async def probe() -> Account | None:
            nonlocal last
            account = await self.evidence.account()
            open_taps = await self.evidence.count("preauth.tap WHERE told IS NULL")
            known = {row["id_tag"] for row in await self.evidence.rows("SELECT id_tag FROM preauth.tap")}
            # A tap that the database missed waits in a file.
            missing = {answer.id_tag for answer in self.taps.answered} - known
            last = f"{account}; {open_taps} taps without an answer, {len(missing)} not in the journal"
            return account if account.settled and not open_taps and not missing else None

        try:
            account = await until(probe, within_s=within_s, every_s=0.3)
        except AssertionError as error:
            raise AssertionError(f"not settled: {last}") from error
        assert account is not None
        account.check()
        assert await put_aside(self.rabbitmq.url) == {}
        return account

    async def check_journal(self, answers: Sequence[Answer], *, told_unknown: int = 0) -> None:
        """Every tap that was answered is in the journal once, with one event, and says what was told.

        `told_unknown`: how many at most may say that the answer was never recorded, because their process was killed.
        """
        wanted = {answer.id_tag: "blocked" if answer.override else "passed" for answer in answers if answer.answered}
        rows = await self.evidence.rows("SELECT id_tag, told FROM preauth.tap WHERE id_tag = ANY(%s)", list(wanted))
        assert Counter(row["id_tag"] for row in rows) == Counter(set(wanted))
        wrong = {row["id_tag"]: row["told"] for row in rows if row["told"] != wanted[row["id_tag"]]}
        assert set(wrong.values()) <= {"unknown"}, wrong
        assert len(wrong) <= told_unknown, wrong
        events = [event["data"]["id_tag"] for event in await self.evidence.committed("tap.decided")]
        assert Counter(tag for tag in events if tag in wanted) == Counter(set(wanted))
        assert await self.evidence.count("preauth.journal_gap") == 0

    async def restore(self) -> None:
        """Everything runs, flows and is ready."""
        await do(self.postgres.thaw, self.rabbitmq.thaw)
        await do(self.postgres.start, self.rabbitmq.start)
        for service in self.services.values():
            for proxy in service.proxies:
                proxy.resume()
                await proxy.accept()
        await asyncio.gather(*(service.start() for service in self.services.values()))
        await asyncio.gather(*(service.ready() for service in self.services.values()))

    @contextlib.asynccontextmanager
    async def requester(self) -> AsyncIterator[Requester]:
        """Asks as admin_api does, past the proxies."""
        requester = Requester(self.rabbitmq.url, service="test", topology=Topology(), clock=utc_now)
        supervisor = Supervisor()
        supervisor.start(requester)

        async def connected() -> bool:
            return requester.connected

        try:
            await until(connected)
            yield requester
        finally:
            await supervisor.stop(10)


def sync(rabbitmq: Server) -> None:
    if isinstance(rabbitmq, RabbitNode):
        rabbitmq.sync()


async def empty_queues(amqp_url: str) -> None:
    """All queues exist and none has anything in it."""
    names = [requests_queue(service) for service in SUBSCRIPTIONS]
    for service in SUBSCRIPTIONS:
        queue = events_queue(service)
        names += [queue, retry_queue(queue), parked_queue(queue)]
    async with await aio_pika.connect(amqp_url, timeout=30) as connection:
        channel = await connection.channel()
        await Topology().declare(channel)
        for name in names:
            await (await channel.get_queue(name)).purge()


@contextlib.asynccontextmanager
async def new_world(
    infra: Infra,
    folder: Path,
    services: Sequence[str] = ("audit", "preauth"),
    *,
    more: Mapping[str, str] | None = None,
) -> AsyncIterator[World]:
    """A fresh database, empty queues, and services that are not started yet. `more`: settings of theirs."""
    async with contextlib.AsyncExitStack() as stack:
        await do(lambda: infra.postgres, lambda: infra.rabbitmq)
        await do(infra.postgres.thaw, infra.rabbitmq.thaw)
        await do(infra.postgres.start, infra.rabbitmq.start)
        await empty_queues(infra.rabbitmq.url)
        # Once, for queues that are as young as no queue in service is; what comes later is the crash's to break.
        await do(lambda: sync(infra.rabbitmq))
        fresh = fresh_database(infra.postgres.url, services)
        database = await asyncio.to_thread(fresh.__enter__)
        stack.push_async_callback(asyncio.to_thread, fresh.__exit__, None, None, None)
        # Dropping the database needs a server.
        stack.push_async_callback(do, infra.postgres.thaw)
        stack.push_async_callback(do, infra.rabbitmq.thaw)
        evidence = Evidence(database.admin_url, services)
        evidence.install()
        stack.push_async_callback(evidence.close)
        http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
        processes = {}
        for name in services:
            processes[name] = await prepare(
                name, database=database, amqp_url=infra.rabbitmq.url, folder=folder, http=http, stack=stack, more=more
            )
        yield World(infra, database, evidence, processes, Taps(http, processes["preauth"].port, HOOK_KEY))
