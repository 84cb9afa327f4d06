"""A sync service of a test's own: its schema in the session's PostgreSQL, a SteVe and a Lago; no broker."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from deploy.demo.lago import LagoSettings, SimulatedLago, run_lago
from deploy.demo.steve.model import Transaction
from deploy.demo.steve.settings import SteveSettings
from deploy.demo.steve.simulator import SteveSimulator, run_steve
from services.sync.main import Rooms, wire
from services.sync.settings import SyncSettings
from services.sync.tables import metadata
from shared.bus.effects import Effect
from shared.contracts.event import Envelope, open_envelope
from shared.contracts.identity import Actor, Cause
from shared.contracts.requests.sync import LinkCard
from shared.database.engine import Write
from shared.runtime.clock import utc_now, uuid7
from shared.runtime.service import Service, assemble
from shared.web.server import HttpServer
from tests.databases import Template, template_database
from tests.infra import Infra

STEVE_ID = "main"
ADA = Cause(actor=Actor(kind="operator", id="ada"), correlation_id=uuid7())


class Clock:
    """The real time, moved by `offset`."""

    def __init__(self) -> None:
        self.offset = timedelta()

    def __call__(self) -> datetime:
        return utc_now() + self.offset

    def advance(self, **parts: float) -> None:
        self.offset += timedelta(**parts)


def ago(**parts: float) -> datetime:
    return (utc_now() - timedelta(**parts)).replace(microsecond=0)


def _subscription(external_id: str, customer: str, plan: str) -> dict[str, Any]:
    # A billing period that began a hundred days ago, whatever day of the month the tests run on.
    return {
        "external_id": external_id,
        "external_customer_id": customer,
        "plan_code": plan,
        "started_at": ago(days=100).isoformat(),
        "billing_time": "anniversary",
    }


_METRIC = "ev_charging_kwh"
LAGO_SEED: dict[str, Any] = {
    "customers": [{"external_id": "cus_ada", "name": "Ada"}, {"external_id": "cus_bob", "name": "Bob"}],
    "metrics": [{"code": _METRIC, "aggregation_type": "sum_agg", "field_name": "kwh"}],
    "plans": [
        {"code": "ev", "interval": "yearly", "charges": [{"metric_code": _METRIC, "amount": "0.40"}]},
        {"code": "free", "interval": "yearly", "charges": []},
        {
            "code": "prepaid",
            "interval": "yearly",
            "charges": [{"metric_code": _METRIC, "amount": "0.40", "pay_in_advance": True}],
        },
    ],
    "subscriptions": [
        _subscription("sub_ada", "cus_ada", "ev"),
        _subscription("sub_bob", "cus_bob", "ev"),
        _subscription("sub_free", "cus_bob", "free"),
        _subscription("sub_prepaid", "cus_bob", "prepaid"),
    ],
}


@dataclass
class World:
    """One sync with its SteVe and its Lago. `turn` does what the running service does by itself, once."""

    service: Service
    rooms: Rooms
    steve: SteveSimulator
    lago: SimulatedLago
    clock: Clock
    admin_url: str
    settings: SyncSettings
    _last: dict[str, tuple[datetime, int]] = field(default_factory=dict)

    async def turn(self, rooms: Rooms | None = None) -> None:
        rooms = rooms or self.rooms
        await rooms.mirror.refresh()
        await rooms.poller.poll()
        await rooms.settler.settle()
        # By one lane: which of several takes up what is chance.
        while await rooms.delivery.lane():
            pass

    async def link(self, id_tag: str, customer: str = "cus_ada", subscription: str = "sub_ada", **given: Any) -> None:  # noqa: ANN401
        """Link a card for all of the past."""
        if self.steve.state.tag(id_tag) is None:
            self.steve.state.add_tag(id_tag)
        await self.rooms.mirror.refresh()
        request = LinkCard(
            id_tag=id_tag,
            external_customer_id=customer,
            external_subscription_id=subscription,
            **{"valid_from": datetime(2020, 1, 1, tzinfo=UTC), **given},
        )
        async with self.service.database.write() as tx:
            await self.rooms.links.link_card(tx, request, ADA)

    def charge(self, id_tag: str, energy_wh: int | None = 12_345, **given: Any) -> Transaction:  # noqa: ANN401
        """The next transaction on a charger in SteVe's history, of five minutes; None: still open. Meters run on."""
        box = given.pop("charge_box_id", "CP-1")
        last = self._last.get(box)
        start_at = given.pop("start_at", last[0] if last else ago(days=5))
        start_wh = given.pop("start_wh", last[1] if last else 1_000)
        if energy_wh is not None:
            given.setdefault("stop_at", start_at + timedelta(minutes=5))
            given.setdefault("stop_wh", start_wh + energy_wh)
            self._last[box] = (given["stop_at"], start_wh + max(energy_wh, 0))
        return self.steve.state.add_transaction(
            charge_box_id=box, id_tag=id_tag, start_at=start_at, start_wh=start_wh, **given
        )

    def counted(self, subscription: str = "sub_ada") -> tuple[int, int]:
        """What Lago counts for a subscription, in Wh, and in how many events."""
        units, events = self.lago.state.counted(subscription, "ev_charging_kwh")
        return int(units * 1000), events

    async def rows(self, statement: str, **given: Any) -> list[Any]:  # noqa: ANN401
        async with self.service.database.read() as tx:
            return list((await tx.execute(sa.text(statement), given)).all())

    async def session(self, pk: int) -> Any:  # noqa: ANN401
        return (await self.rows("SELECT * FROM sync.session WHERE transaction_pk = :pk", pk=pk))[0]

    async def entries(self, pk: int) -> list[Any]:
        return await self.rows("SELECT * FROM sync.ledger_entry WHERE transaction_pk = :pk ORDER BY seq", pk=pk)

    async def events(self, *types: str) -> list[Envelope]:
        """What waits in the outbox, oldest first."""
        found = [open_envelope(bytes(row.body)) for row in await self.rows("SELECT body FROM sync.outbox ORDER BY id")]
        return [one for one in found if not types or one.type in types]


def effect(world: World, key: str = "operator/ada/a-key") -> Effect:
    """What the dispatcher gives to a command that does something outside; its key is free, and it is in time."""

    async def claim(_: Write) -> None:
        pass

    return Effect(world.service.database, key, claim=claim, in_time=lambda: True)


async def eventually(check: Callable[[], Awaitable[bool]], *, within_s: float = 10.0) -> None:
    """Poll until `check` holds. Fails after `within_s`."""
    async with asyncio.timeout(within_s):
        while not await check():  # noqa: ASYNC110 - what is awaited is in another process or a database
            await asyncio.sleep(0.02)


@pytest.fixture(scope="session")
def template(infra: Infra) -> Iterator[Template]:
    with template_database(infra.postgres.url, ["sync"]) as migrated:
        yield migrated


def sync_settings(database_url: str, steve: SteveSimulator, lago: SimulatedLago, **given: Any) -> SyncSettings:  # noqa: ANN401
    return SyncSettings(
        **{
            "database_url": database_url,
            "EXPRESSYNC_AMQP_URL": "amqp://guest:guest@127.0.0.1:1/",
            "port": 0,
            "ops_port": 0,
            "steve_id": STEVE_ID,
            "steve_url": steve.rest_url,
            "steve_user": "steve",
            "steve_password": "steve",
            "steve_version": "3.15",
            "lago_url": lago.url,
            "lago_api_key": lago.api_key,
            "count_after_s": 0,
            **given,
        }
    )


@asynccontextmanager
async def a_world(
    template: Template,
    *,
    steve: SteveSettings | None = None,
    lago: LagoSettings | None = None,
    **given: Any,  # noqa: ANN401
) -> AsyncIterator[World]:
    """A world with a database of its own; settings of sync by name. The simulators share its clock."""
    clock = Clock()
    async with AsyncExitStack() as stack:
        database = await asyncio.to_thread(stack.enter_context, template.copy())
        steve_settings = replace(steve or SteveSettings(auth_delay_ms=0), clock=clock)
        running_steve = await stack.enter_async_context(run_steve(steve_settings))
        lago_settings = replace(lago or LagoSettings(seed=LAGO_SEED), clock=clock)
        running_lago = await stack.enter_async_context(run_lago(lago_settings))
        settings = sync_settings(database.url("sync"), running_steve, running_lago, **given)
        service, rooms = await a_replica(stack, settings, clock)
        yield World(service, rooms, running_steve, running_lago, clock, database.admin_url, settings)


async def a_replica(stack: AsyncExitStack, settings: SyncSettings, clock: Clock) -> tuple[Service, Rooms]:
    """One more sync over the same database."""
    service = assemble("sync", settings, metadata, clock=clock)
    rooms = wire(service, settings)
    await service.database.open()
    stack.push_async_callback(service.database.close)
    for part in service.parts:
        if isinstance(part, HttpServer):
            stack.callback(part._listener.close)
    for close in service.closing:
        stack.push_async_callback(close)
    return service, rooms


Build = Callable[..., Awaitable[World]]


@pytest.fixture
async def build_world(template: Template) -> AsyncIterator[Build]:
    """Makes worlds: settings of sync by name, `steve=SteveSettings(...)`, `lago=LagoSettings(...)`."""
    async with AsyncExitStack() as stack:

        async def build(**given: Any) -> World:  # noqa: ANN401
            return await stack.enter_async_context(a_world(template, **given))

        yield build


@pytest.fixture
async def world(build_world: Build) -> World:
    return await build_world()
