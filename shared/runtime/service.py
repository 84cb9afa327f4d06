"""How a service lives: settings, logs, database, bus and rooms are wired, run, and taken down in order."""

import asyncio
import gc
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import sqlalchemy as sa
import uvloop
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from shared.bus.commands import Dispatcher
from shared.bus.housekeeping import forget
from shared.bus.inbox import Consumer
from shared.bus.outbox import Outbox
from shared.bus.relay import Relay
from shared.bus.requests import Requester, RequestServer
from shared.bus.topology import OWNERS, SUBSCRIPTIONS, Topology
from shared.database.engine import Database
from shared.runtime import log as logging
from shared.runtime import settings as configuration
from shared.runtime import tracing
from shared.runtime.clock import Clock, NewId, utc_now, uuid7
from shared.runtime.settings import BadConfigurationError, ServiceSettings
from shared.runtime.supervisor import Every, Part, Supervisor
from shared.web.health import Check, answers, connected, ops_app
from shared.web.server import HttpServer, PortTakenError, bind

log = logging.get_logger(__name__)

S = TypeVar("S", bound=ServiceSettings)

MEASURE_EVERY_S = 5.0
FORGET_EVERY_S = 3600.0


@dataclass(slots=True)
class Service:
    """A wired service. Rooms are given `database`, `outbox` and so on; `main.py` adds its parts to it.

    Parts start in the order of `parts` and stop in reverse, those named in `doors` before all others and together; the
    database closes last.
    """

    name: str
    settings: ServiceSettings
    metadata: sa.MetaData
    clock: Clock
    new_id: NewId
    topology: Topology
    registry: CollectorRegistry
    database: Database
    relay: Relay
    outbox: Outbox
    consumer: Consumer
    dispatcher: Dispatcher
    requester: Requester
    parts: list[Part] = field(default_factory=list)
    doors: set[str] = field(default_factory=set)
    checks: dict[str, Check] = field(default_factory=dict)
    notes: dict[str, Check] = field(default_factory=dict)
    closing: list[Callable[[], Awaitable[object]]] = field(default_factory=list)
    opening: list[Callable[[], Awaitable[object]]] = field(default_factory=list)

    async def run(self, stop: asyncio.Event) -> None:
        """Start everything, run until `stop`, take everything down in order."""
        supervisor = Supervisor()
        await self.database.open()
        for start in self.opening:
            await start()
        # Not before all is wired: what lives now lives until the end, and a full collection over it would stall a
        # tap for tens of milliseconds (facts: what a prototype reached).
        gc.collect()
        gc.freeze()
        gc.enable()
        for part in self.parts:
            supervisor.start(part, door=part.name in self.doors)
        log.info("Running.", action="service.started", port=self.settings.port, ops_port=self.settings.ops_port)
        try:
            await stop.wait()
        finally:
            log.info("Stopping.", action="service.stopping")
            await supervisor.stop(self.settings.stop_grace_s)
            for close in reversed(self.closing):
                await close()
            await self.database.close()
            log.info("Stopped.", action="service.stopped")


def assemble(
    name: str,
    settings: ServiceSettings,
    metadata: sa.MetaData,
    *,
    clock: Clock = utc_now,
    new_id: NewId = uuid7,
    topology: Topology | None = None,
    pool_size: int = 8,
    asks: bool = False,
    relay_rest: float = 0.0,
) -> Service:
    """Wire what every service has: database, outbox and relay, inbox, requests, health and metrics.

    `asks`: it cannot do its work without asking other services, so it is not ready where it cannot ask.

    :raises PortTakenError: when someone else listens on the private port.
    """
    topology = topology or Topology()
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    amqp_url = settings.amqp_url.get_secret_value()
    database = Database(
        settings.database_url.get_secret_value(),
        application=f"expressync-{name}",
        schema=str(metadata.schema),
        pool_size=pool_size,
    )
    relay = Relay(database, amqp_url, service=name, topology=topology, registry=registry, rest=relay_rest)
    service = Service(
        name=name,
        settings=settings,
        metadata=metadata,
        clock=clock,
        new_id=new_id,
        topology=topology,
        registry=registry,
        database=database,
        relay=relay,
        outbox=Outbox(metadata, clock=clock, new_id=new_id, wake=relay.wake),
        consumer=Consumer(database, amqp_url, service=name, metadata=metadata, topology=topology, registry=registry),
        dispatcher=Dispatcher(database, metadata=metadata, clock=clock, registry=registry),
        requester=Requester(amqp_url, service=name, topology=topology, clock=clock),
    )
    service.parts += [
        relay,
        Every("outbox.measure", MEASURE_EVERY_S, relay.measure),
        Every("bus.forget", FORGET_EVERY_S, lambda: forget(database, metadata)),
        service.requester,
    ]
    service.checks["database"] = answers("the database", database.ready)
    service.checks["broker"] = connected("the broker", lambda: relay.connected)
    if asks:
        service.checks["asking"] = connected("the connection for asking others", lambda: service.requester.connected)
    if name in SUBSCRIPTIONS:
        service.parts.append(service.consumer)
        service.checks["events"] = connected("the event queue", lambda: service.consumer.connected)
    if name in OWNERS:
        server = RequestServer(amqp_url, service=name, topology=topology, clock=clock, answer=service.dispatcher.answer)
        service.parts.append(server)
        service.checks["requests"] = connected("the request queue", lambda: server.connected)
    ops = bind(settings.ops_host, settings.ops_port, setting=f"EXPRESSYNC_{name.upper()}_OPS_PORT")
    # Health comes up first and goes down last: it is how others see the rest start and stop.
    service.parts.insert(0, HttpServer("ops", ops_app(service.checks, registry, service.notes), ops))
    return service


def run(name: str, settings_class: type[S], build: Callable[[S], Service]) -> None:
    """A service's process, from its environment to its last line of log. Exits 2 on bad configuration."""
    try:
        settings = configuration.load(settings_class)
    except BadConfigurationError as error:
        configuration.stop_with(error, f"expressync {name}")
    logging.configure(name, log_format=settings.log_format, level=settings.log_level)
    tracing.configure(name)
    os.nice(settings.niceness())

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await build(settings).run(stop)

    try:
        uvloop.run(main())
    except PortTakenError as error:
        log.error("Not started: %s.", error, action="service.port_taken")  # noqa: TRY400 - the sentence says it all
        raise SystemExit(2) from None
