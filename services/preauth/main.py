"""Preauth decides taps and lets drivers in. The composition root: all wiring of the service is here."""

import os
import socket
import time
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from services.preauth.chargers.cache import CacheCleaner
from services.preauth.chargers.handlers import Chargers
from services.preauth.chargers.jobs import Newcomers, Readiness
from services.preauth.chargers.observer import Observer
from services.preauth.clocks import Clocks, Reads, database_time
from services.preauth.decision.decider import TapDecider
from services.preauth.decision.desk import GatewayDesk
from services.preauth.decision.group import GroupCommit
from services.preauth.decision.handlers import Taps
from services.preauth.decision.http import PATH, Hook
from services.preauth.decision.jobs import Matches, Months, Replay, Sweeper
from services.preauth.decision.projections import Projections
from services.preauth.decision.signature import parse_keys as parse_hook_keys
from services.preauth.decision.snapshot import Snapshot
from services.preauth.decision.spool import Spool
from services.preauth.decision.statement import Windows
from services.preauth.decision.switch import Switch
from services.preauth.decision.tap import MatchAnswered
from services.preauth.evidence.jobs import Evidence
from services.preauth.evidence.sight import Sight
from services.preauth.evidence.watchdog import Watchdog
from services.preauth.gateway.server import Gateway
from services.preauth.housekeeping import Housekeeping
from services.preauth.login.account import Account
from services.preauth.login.api import Api
from services.preauth.login.attempts import Attempts
from services.preauth.login.binding import Bindings
from services.preauth.login.browser import Browsers, parse_proxies
from services.preauth.login.completing import Login
from services.preauth.login.screens.binding import BindingPages
from services.preauth.login.screens.http import Pages
from services.preauth.login.screens.render import Screens
from services.preauth.login.stream import LOOK_EVERY_S, Watch
from services.preauth.login.tokens import Tokens, parse_audiences
from services.preauth.login.tokens import parse_keys as parse_token_keys
from services.preauth.pairing.arming import Arming
from services.preauth.pairing.handlers import Pairings
from services.preauth.pairing.kiosks import Kiosks
from services.preauth.pairing.pins import Pins
from services.preauth.pairing.qr import QrCodes
from services.preauth.pairing.rules import Budgets
from services.preauth.settings import PreauthSettings
from services.preauth.tables import metadata
from shared.bus.requests import NoAnswerError
from shared.contracts.events import sync
from shared.contracts.problem import Problem
from shared.contracts.requests import preauth as asked
from shared.runtime.clock import Clock, NewId, utc_now, uuid7
from shared.runtime.service import Service, assemble, run
from shared.runtime.supervisor import Every
from shared.web.health import connected
from shared.web.problems import on_crash, on_no_answer, on_problem
from shared.web.server import HttpServer, bind
from shared.web.tracing import Traced

SWEEP_EVERY_S = 1.0
CLOCK_EVERY_S = 2.0
EXPIRE_EVERY_S = 1.0
# Taps come first: a crowd of them is told to the others at a quarter of the pace at which it could be.
RELAY_REST = 3.0
REPLAY_EVERY_S = 0.5
HOUR_S = 3600.0
NOTE_EVERY_S = 10.0
CHECK_EVERY_S = 10.0
ANSWERS_EVERY_S = 0.5
JUDGE_EVERY_S = 5.0
RATES_EVERY_S = 60.0
# Until it is taken.
SNAPSHOT_EVERY_S = 2.0

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
        "login.forget",
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


@dataclass(frozen=True, slots=True, kw_only=True)
class TapParts:
    """The way of a tap, and what follows it."""

    group: GroupCommit
    spool: Spool
    matches: Matches
    decider: TapDecider
    sweeper: Sweeper
    replay: Replay


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverParts:
    """Pairings, presence and logins."""

    arming: Arming
    pairings: Pairings
    kiosks: Kiosks
    login: Login
    watch: Watch
    app: Starlette


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
    taps = build_taps(service, settings, watch, clocks)
    gateway = build_gateway(service, settings, taps.decider, listens="gateway" in served)
    follow_sync(service, settings)
    drivers = build_drivers(service, settings, watch)
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


def build_taps(service: Service, settings: PreauthSettings, watch: Watch, clocks: Clocks) -> TapParts:
    """Wire the way of a tap and what follows it."""
    clock, new_id = service.clock, service.new_id
    group = GroupCommit(
        settings.database_url.get_secret_value(),
        windows=Windows(repeat_s=settings.repeat_s, fresh_s=settings.fresh_s),
        silent_s=settings.breaker_after_ms / 1000,
        registry=service.registry,
    )
    spool = Spool(settings.spool_dir, name=spool_name(new_id()), max_bytes=settings.spool_max_mb * 1024 * 1024)
    matches = Matches(service.database, service.outbox, clock=clock, new_id=new_id)
    cleaner = CacheCleaner(service.requester, clock=clock, new_id=new_id)
    decider = TapDecider(
        group,
        spool,
        clock=clock,
        new_id=new_id,
        decide_within_s=settings.decide_within_ms / 1000,
        answer_within_s=settings.answer_within_ms / 1000,
        fresh_s=settings.fresh_s,
        on_match_answered=matches.add,
        on_blocked=cleaner.blocked,
        on_recorded=service.relay.wake,
        registry=service.registry,
    )

    def recorded(answered: MatchAnswered) -> None:
        decider.recorded(answered.decision.tap_id)
        if answered.decision.pairing_id is not None:
            watch.moved(answered.decision.pairing_id)

    matches.recorded = recorded
    sweeper = Sweeper(service.database, service.outbox, group, matches, clocks, clock=clock, new_id=new_id)
    replay = Replay(
        service.database, service.outbox, group, spool, clock=clock, new_id=new_id, registry=service.registry
    )
    months = Months(service.database, clock=clock, keep_days=settings.journal_kept_days)
    housekeeping = Housekeeping(
        service.database,
        clock=clock,
        journal_days=settings.journal_kept_days,
        logins_days=settings.logins_kept_days,
        devices_days=settings.devices_kept_days,
    )
    service.parts += [
        Every("journal.months", HOUR_S, months.keep),
        Every("old.forget", HOUR_S, housekeeping.forget),
        Every("clock", CLOCK_EVERY_S, clocks.look),
        Every("taps.sweep", SWEEP_EVERY_S, sweeper.sweep),
        Every("taps.replay", REPLAY_EVERY_S, replay.replay),
        cleaner,
        matches,
        group,
    ]
    service.checks["taps"] = connected("the taps' own database connection", lambda: group.available)

    async def close_spool() -> None:
        spool.close()

    service.closing.append(close_spool)
    journal = Taps(service.database, clock=clock, session_within=timedelta(seconds=settings.session_within_s))
    service.dispatcher.query(asked.SearchTaps, journal.search_taps)
    switch = Switch(service.database, service.outbox, clock=clock, qr_is_strong=settings.qr_is_strong)
    service.dispatcher.command(asked.SwitchInterception, switch.switch)
    service.dispatcher.query(asked.GetInterception, switch.show)
    return TapParts(group=group, spool=spool, matches=matches, decider=decider, sweeper=sweeper, replay=replay)


def build_gateway(service: Service, settings: PreauthSettings, decider: TapDecider, *, listens: bool) -> Gateway | None:
    """Wire what is known of chargers, and the gateway that sees them, where it shall listen."""
    database, outbox, clock, new_id = service.database, service.outbox, service.clock, service.new_id
    readiness = Readiness(database, outbox, service.requester, clock=clock, new_id=new_id)
    chargers, newcomers = Chargers(database, readiness.look), Newcomers(database, clock=clock)
    service.dispatcher.query(asked.GetCharger, chargers.get_charger)
    service.dispatcher.query(asked.ListChargers, chargers.list_chargers)
    service.consumer.on(sync.TransactionStarted, newcomers.session_started)
    observer = Observer(database, outbox, instance=new_id(), clock=clock, new_id=new_id)
    service.parts += [
        Every("chargers.note_tapped", NOTE_EVERY_S, newcomers.note_tapped),
        readiness,
        observer,
        Every("chargers.check", CHECK_EVERY_S, observer.check),
        Every("chargers.forget", HOUR_S, observer.forget),
    ]
    config = settings.gateway()
    if config is None or not listens:
        return None
    desk = GatewayDesk(decider, database)
    listener = bind(settings.host, settings.ocpp_port, setting="EXPRESSYNC_PREAUTH_OCPP_PORT")
    gateway = Gateway(
        config,
        listener,
        desk=desk,
        watcher=observer,
        clock=clock,
        new_id=new_id,
        registry=service.registry,
    )
    observer.alive = gateway.tunnels
    service.parts.append(Every("gateway.answers", ANSWERS_EVERY_S, desk.write_answers, at_stop="once more"))
    return gateway


def follow_sync(service: Service, settings: PreauthSettings) -> None:
    """Keep what a tap must know of cards and sessions, and judge by it what chargers did."""
    projections = Projections(service.database, clock=service.clock, new_id=service.new_id)
    service.consumer.on(sync.CardDiscovered, projections.card_discovered)
    service.consumer.on(sync.CardChanged, projections.card_changed)
    service.consumer.on(sync.CardParentChanged, projections.card_parent_changed)
    service.consumer.on(sync.TransactionStarted, projections.transaction_started)
    service.consumer.on(sync.TransactionStopped, projections.transaction_stopped)
    service.consumer.on(sync.ChargerOperationRequested, projections.operation_requested)
    evidence = Evidence(
        service.database,
        service.outbox,
        Sight(service.requester),
        clock=service.clock,
        new_id=service.new_id,
        stops=settings.stop_ignored,
        session_within=timedelta(seconds=settings.session_within_s),
    )
    service.consumer.on(sync.TransactionStarted, evidence.session_started)
    snapshot = Snapshot(service.database, service.requester, clock=service.clock)
    service.parts += [
        Every("projections.snapshot", SNAPSHOT_EVERY_S, snapshot.take, at_stop="abandon"),
        Every("projections.forget", HOUR_S, projections.forget),
        Every("evidence.judge", JUDGE_EVERY_S, evidence.judge),
        Every("evidence.rates", RATES_EVERY_S, evidence.watch_rates),
        Every("evidence.forget", HOUR_S, evidence.forget),
    ]
    if settings.stop_ignored:
        watchdog = Watchdog(service.database, service.requester, clock=service.clock)
        service.parts.append(Every("evidence.stop", JUDGE_EVERY_S, watchdog.bark, at_stop="abandon"))


def build_drivers(service: Service, settings: PreauthSettings, watch: Watch) -> DriverParts:
    """Wire pairings, presence and logins: what operators ask for on the bus, and drivers over HTTP."""
    database, outbox, clock, new_id = service.database, service.outbox, service.clock, service.new_id
    budgets = Budgets.of(
        charger=settings.scans_per_charger,
        kiosk=settings.scans_per_kiosk,
        source=settings.scans_per_source,
        cooldown_s=settings.cooldown_s,
    )
    arming = Arming(database, outbox, clock=clock, new_id=new_id, budgets=budgets, qr_is_strong=settings.qr_is_strong)
    pairings = Pairings(database, arming)
    qr_codes = QrCodes(database, outbox, clock=clock, public_url=settings.public_url)
    pins = Pins(database, outbox, clock=clock)
    answer = service.dispatcher
    answer.command(asked.ArmPairing, pairings.arm_pairing)
    answer.command(asked.CancelPairing, pairings.cancel_pairing)
    answer.query(asked.ListPairings, pairings.list_pairings)
    answer.command(asked.RotateChargerQr, qr_codes.rotate_charger_qr)
    answer.query(asked.PrintChargerQr, qr_codes.print_charger_qr)
    answer.command(asked.SetCardPin, pins.set_card_pin)
    login = Login(
        database,
        outbox,
        service.requester,
        pins,
        clock=clock,
        new_id=new_id,
        idle_s=settings.driver_idle_s,
        longest_s=settings.driver_longest_s,
    )
    kiosks = Kiosks(database, outbox, clock=clock, new_id=new_id, sign_out=login.end_at_kiosk)
    answer.command(asked.EnrolKiosk, kiosks.enrol_kiosk)
    answer.command(asked.RevokeKiosk, kiosks.revoke_kiosk)
    answer.query(asked.ListKiosks, kiosks.list_kiosks)
    service.parts += [
        Every("pairings.expire", EXPIRE_EVERY_S, pairings.expire),
        Every("pairings.watch", LOOK_EVERY_S, watch.look),
        watch,
        Every("login.end_old", EXPIRE_EVERY_S, login.end_old),
        Every("login.forget", HOUR_S, login.forget),
    ]
    tokens = Tokens(
        database,
        clock,
        new_id,
        issuer=settings.public_url,
        audiences=parse_audiences(settings.audiences),
        keys=parse_token_keys(settings.token_keys.get_secret_value()),
        valid_s=settings.token_valid_s,
    )
    browsers = Browsers(
        secure=settings.public_url.startswith("https://"),
        proxies=parse_proxies(settings.trusted_proxies),
    )
    api = Api(
        database=database,
        arming=arming,
        login=login,
        tokens=tokens,
        watch=watch,
        browsers=browsers,
        clock=clock,
    )
    screens = Screens()
    bindings = Bindings(
        database=database,
        outbox=outbox,
        clock=clock,
        idle=timedelta(seconds=settings.driver_idle_s),
        longest=timedelta(seconds=settings.driver_longest_s),
    )
    binding = BindingPages(
        bindings=bindings,
        login=login,
        browsers=browsers,
        attempts=Attempts(time.monotonic),
        screens=screens,
        public_url=settings.public_url,
    )
    pages = Pages(
        database=database,
        arming=arming,
        kiosks=kiosks,
        login=login,
        tokens=tokens,
        account=Account(service.requester),
        bindings=bindings,
        browsers=browsers,
        attempts=Attempts(time.monotonic),
        idle_s=settings.driver_idle_s,
        clock=clock,
        screens=screens,
    )
    handlers = {
        Problem: pages.or_else(on_problem),
        NoAnswerError: pages.or_else(on_no_answer),
        Exception: pages.or_else(on_crash),
    }
    app = Starlette(routes=[*api.routes(), *pages.routes(), *binding.routes()], exception_handlers=handlers)
    return DriverParts(arming=arming, pairings=pairings, kiosks=kiosks, login=login, watch=watch, app=app)


def spool_name(unique: UUID) -> str:
    """A file name of this process alone, that still says where it came from."""
    return f"{socket.gethostname()}-{os.getpid()}-{unique.hex[-8:]}"


def main() -> None:
    run("preauth", PreauthSettings, build)
