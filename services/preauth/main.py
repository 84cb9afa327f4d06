"""Preauth decides taps and lets drivers in. The composition root: all wiring of the service is here."""

import os
import socket
from uuid import UUID

from starlette.applications import Starlette
from starlette.routing import BaseRoute

from services.preauth.chargers.handlers import Chargers
from services.preauth.chargers.jobs import Newcomers, Readiness
from services.preauth.chargers.observer import Observer
from services.preauth.decision.decider import TapDecider
from services.preauth.decision.desk import GatewayDesk
from services.preauth.decision.group import GroupCommit
from services.preauth.decision.handlers import Taps
from services.preauth.decision.http import Hook
from services.preauth.decision.jobs import Matches, Months, Replay, Sweeper
from services.preauth.decision.projections import Projections
from services.preauth.decision.signature import parse_keys
from services.preauth.decision.spool import Spool
from services.preauth.decision.statement import Windows
from services.preauth.decision.switch import Switch
from services.preauth.gateway.server import Gateway
from services.preauth.pairing.handlers import Pairings
from services.preauth.settings import PreauthSettings
from services.preauth.tables import metadata
from shared.contracts.events import sync
from shared.contracts.requests.preauth import (
    ArmPairing,
    CancelPairing,
    GetCharger,
    ListChargers,
    ListPairings,
    SearchTaps,
    SwitchInterception,
)
from shared.runtime.clock import Clock, NewId, utc_now, uuid7
from shared.runtime.service import Service, assemble, run
from shared.runtime.supervisor import Every
from shared.web.health import connected
from shared.web.server import HttpServer, bind

SWEEP_EVERY_S = 1.0
EXPIRE_EVERY_S = 1.0
REPLAY_EVERY_S = 0.5
MONTHS_EVERY_S = 3600.0
FORGET_EVERY_S = 3600.0
ANSWERS_EVERY_S = 0.5
CHARGERS_CHECKED_EVERY_S = 10.0


def build(settings: PreauthSettings, *, clock: Clock = utc_now, new_id: NewId = uuid7) -> Service:
    service = assemble("preauth", settings, metadata, clock=clock, new_id=new_id)
    decider = build_decider(service, settings)
    hook = Hook(decider, parse_keys(settings.hook_keys.get_secret_value()), registry=service.registry)
    pairings = Pairings(service.database, service.outbox, clock=clock, new_id=new_id)
    service.dispatcher.command(ArmPairing, pairings.arm_pairing)
    service.dispatcher.command(CancelPairing, pairings.cancel_pairing)
    service.dispatcher.query(ListPairings, pairings.list_pairings)
    service.dispatcher.query(SearchTaps, Taps(service.database).search_taps)
    service.dispatcher.command(SwitchInterception, Switch(service.outbox, clock=clock).switch)
    projections = Projections(service.database, clock=clock)
    service.consumer.on(sync.CardDiscovered, projections.card_discovered)
    service.consumer.on(sync.CardChanged, projections.card_changed)
    service.consumer.on(sync.TransactionStarted, projections.transaction_started)
    service.consumer.on(sync.TransactionStopped, projections.transaction_stopped)
    service.parts.append(Every("projections.forget", FORGET_EVERY_S, projections.forget))
    service.parts.append(Every("pairings.expire", EXPIRE_EVERY_S, pairings.expire))
    routes: list[BaseRoute] = [hook.route()]
    listener = bind(settings.host, settings.port, setting="EXPRESSYNC_PREAUTH_PORT")
    observer = build_chargers(service)
    # Last to start and first to stop: what they take in, the parts above them finish.
    service.parts.append(HttpServer("http", Starlette(routes=routes), listener))
    build_gateway(service, settings, decider, observer)
    return service


def build_decider(service: Service, settings: PreauthSettings) -> TapDecider:
    """Wire the way of a tap and what follows it."""
    windows = Windows(repeat_s=settings.repeat_s, fresh_s=settings.fresh_s)
    group = GroupCommit(
        settings.database_url.get_secret_value(),
        windows=windows,
        silent_s=settings.breaker_after_ms / 1000,
        registry=service.registry,
    )
    spool = Spool(settings.spool_dir, name=spool_name(service.new_id()), max_bytes=settings.spool_max_mb * 1024 * 1024)
    clock, new_id = service.clock, service.new_id
    matches = Matches(service.database, service.outbox, clock=clock, new_id=new_id)
    decider = TapDecider(
        group,
        spool,
        clock=clock,
        new_id=new_id,
        decide_within_s=settings.decide_within_ms / 1000,
        answer_within_s=settings.answer_within_ms / 1000,
        fresh_s=settings.fresh_s,
        on_match_answered=matches.add,
        on_recorded=service.relay.wake,
        registry=service.registry,
    )
    matches.recorded = decider.recorded
    sweeper = Sweeper(service.database, service.outbox, group, matches, clock=clock, new_id=new_id)
    replay = Replay(
        service.database, service.outbox, group, spool, clock=clock, new_id=new_id, registry=service.registry
    )
    months = Months(service.database, clock=service.clock, keep_days=settings.journal_kept_days)
    service.parts += [
        Every("journal.months", MONTHS_EVERY_S, months.keep),
        Every("taps.sweep", SWEEP_EVERY_S, sweeper.sweep),
        Every("taps.replay", REPLAY_EVERY_S, replay.replay),
        matches,
        group,
    ]
    service.checks["taps"] = connected("the taps' own database connection", lambda: group.available)

    async def close_spool() -> None:
        spool.close()

    service.closing.append(close_spool)
    return decider


def build_chargers(service: Service) -> Observer:
    """Wire what is known of chargers."""
    clock, new_id = service.clock, service.new_id
    observer = Observer(service.database, service.outbox, instance=new_id(), clock=clock, new_id=new_id)
    readiness = Readiness(service.database, service.outbox, service.requester, clock=clock, new_id=new_id)
    newcomers = Newcomers(service.database, clock=clock)
    chargers = Chargers(service.database)
    service.dispatcher.query(GetCharger, chargers.get_charger)
    service.dispatcher.query(ListChargers, chargers.list_chargers)
    service.consumer.on(sync.TransactionStarted, newcomers.session_started)
    service.parts += [
        Every("chargers.forget", FORGET_EVERY_S, observer.forget),
        Every("chargers.newcomers", CHARGERS_CHECKED_EVERY_S, newcomers.note_tapped),
        readiness,
        Every("chargers.check", CHARGERS_CHECKED_EVERY_S, observer.check),
        observer,
    ]
    return observer


def build_gateway(service: Service, settings: PreauthSettings, decider: TapDecider, observer: Observer) -> None:
    """Wire the OCPP-J gateway, where SteVe's endpoint is set."""
    config = settings.gateway()
    if config is None:
        return
    desk = GatewayDesk(decider, service.database)
    gateway = Gateway(
        config,
        bind(settings.host, settings.ocpp_port, setting="EXPRESSYNC_PREAUTH_OCPP_PORT"),
        desk=desk,
        watcher=observer,
        clock=service.clock,
        new_id=service.new_id,
        registry=service.registry,
    )
    observer.alive = gateway.tunnels
    service.parts += [Every("gateway.answers", ANSWERS_EVERY_S, desk.write_answers), gateway]


def spool_name(unique: UUID) -> str:
    """A file name of this process alone, that still says where it came from."""
    return f"{socket.gethostname()}-{os.getpid()}-{unique.hex[-8:]}"


def main() -> None:
    run("preauth", PreauthSettings, build)
