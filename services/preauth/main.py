"""Preauth decides taps and lets drivers in. The composition root: its rooms are wired in `wiring`, and here to one."""

from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from services.preauth.clocks import Clocks, Reads, database_time
from services.preauth.decision.http import PATH, Hook
from services.preauth.decision.signature import parse_keys as parse_hook_keys
from services.preauth.gateway.server import Gateway
from services.preauth.login.stream import Watch
from services.preauth.settings import PreauthSettings
from services.preauth.tables import metadata
from services.preauth.wiring.drivers import DriverParts, wire_drivers
from services.preauth.wiring.evidence import wire_evidence
from services.preauth.wiring.gateway import wire_gateway
from services.preauth.wiring.taps import TapParts, wire_taps
from shared.runtime.clock import Clock, NewId, utc_now, uuid7
from shared.runtime.service import Service, assemble, run
from shared.web.server import HttpServer, bind
from shared.web.tracing import Traced

# Taps come first: a crowd of them is told to the others at a quarter of the pace at which it could be.
RELAY_REST = 3.0

# What no caller waits for, and what therefore may happen in another process than the one that serves taps.
WORK = frozenset(
    {
        "relay",
        "outbox.measure",
        "bus.forget",
        "consumer",
        "requests",
        "journal.months",
        "old.forget",
        "taps.sweep",
        "pairings.expire",
        "login.end_old",
        "projections.snapshot",
        "projections.forget",
        "evidence.judge",
        "evidence.rates",
        "evidence.stop",
        "evidence.forget",
        "chargers.note_tapped",
        "chargers.readiness",
        "chargers.forget",
    }
)


class Front:
    """The hook before everything else: no router, no middleware stands between a tap and its answer."""

    def __init__(self, hook: Hook | None, pages: ASGIApp) -> None:
        self._hook, self._pages = hook, pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._hook is not None and scope["type"] == "http" and scope["path"] == PATH and scope["method"] == "POST":
            await self._hook(scope, receive, send)
        else:
            await self._pages(scope, receive, send)


def build(settings: PreauthSettings) -> Service:
    return wire(settings)[0]


def wire(
    settings: PreauthSettings,
    *,
    clock: Clock = utc_now,
    new_id: NewId = uuid7,
    database_time: Reads = database_time,
) -> tuple[Service, TapParts, DriverParts]:
    """The service, and the parts that its rooms consist of.

    What does not face outwards (requests, events, periodic work) is "work": of several processes that do it, any may
    take a turn, and it is done once.
    """
    service = assemble("preauth", settings, metadata, clock=clock, new_id=new_id, asks=True, relay_rest=RELAY_REST)
    clocks = Clocks(service.database, instance=new_id(), clock=clock, database_time=database_time)
    service.clock = clocks.now
    served = settings.served()
    watch = Watch(service.database)
    taps = wire_taps(service, settings, watch, clocks)
    gateway = wire_gateway(service, settings, taps, listens="gateway" in served)
    wire_evidence(service, settings, taps)
    drivers = wire_drivers(service, settings, watch)
    keys = parse_hook_keys(settings.hook_keys.get_secret_value())
    hook = Hook(taps.decider, keys, registry=service.registry) if "hook" in served else None
    pages = Traced(drivers.app if "pages" in served else Starlette())
    if hook is not None or "pages" in served:
        listener = bind(settings.host, settings.port, setting="EXPRESSYNC_PREAUTH_PORT")
        # Last to start and first to stop: what it takes in, the parts above it finish.
        service.parts.append(HttpServer("http", Front(hook, pages), listener))
    if gateway is not None:
        service.parts.append(gateway)
    service.doors = {"http", Gateway.name, Watch.name}
    if not served & {"hook", "gateway"}:
        # It decides no taps, so that none of its own can come to wait.
        service.checks.pop("spool")
    if "work" not in served:
        leave_work(service, waits_for_answers="pages" in served)
    return service, taps, drivers


def leave_work(service: Service, *, waits_for_answers: bool) -> None:
    """Keep only what this process itself serves; another one relays its events and does what is periodic.

    Whoever tells Blocked asks to clear caches, but taps do not wait for that: only pages are not ready without answers.
    """
    service.parts = [part for part in service.parts if part.name not in WORK]
    for check in ("broker", "events", "requests", *(() if waits_for_answers else ("asking",))):
        service.checks.pop(check, None)


def main() -> None:
    run("preauth", PreauthSettings, build)
