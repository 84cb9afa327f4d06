"""Lago's webhooks, and the proof that it counts what SteVe recorded."""

from dataclasses import dataclass
from datetime import timedelta

from services.sync.reconcile.check import Check
from services.sync.reconcile.handlers import Reconciler
from services.sync.runs.loop import Loop
from services.sync.settings import SyncSettings
from services.sync.webhooks.dispatch import Dispatch
from services.sync.webhooks.handlers import WebhookQueries, WebhookReplay
from services.sync.webhooks.http import Intake
from services.sync.webhooks.issuer import IssuerCache
from services.sync.webhooks.signature import parse_keys
from services.sync.wiring.sessions import SessionRooms
from services.sync.wiring.upstreams import Upstreams
from shared.contracts.requests import sync as requests
from shared.contracts.requests import sync_work as work
from shared.runtime.service import Service
from shared.runtime.supervisor import Every

DISPATCH_EVERY_S = 1.0
COMPARE_EVERY_S = 30.0


@dataclass(frozen=True)
class ProofRooms:
    intake: Intake
    dispatch: Dispatch
    reconciler: Reconciler


def wire_proof(service: Service, settings: SyncSettings, upstreams: Upstreams, sessions: SessionRooms) -> ProofRooms:
    """Lago's webhooks, and the proof that it counts what SteVe recorded."""
    database, outbox, clock, new_id = service.database, service.outbox, service.clock, service.new_id
    dispatch = Dispatch(
        database,
        upstreams.subscriptions,
        clock=clock,
        settle=sessions.settle.wake,
        count=sessions.count.wake,
        registry=service.registry,
    )
    dispatching = Loop("webhooks.dispatch", dispatch.dispatch, DISPATCH_EVERY_S)
    intake = Intake(
        database,
        outbox,
        IssuerCache(upstreams.lago, clock=clock),
        keys=parse_keys(settings.lago_webhook_key.get_secret_value()),
        issued_by=settings.lago_webhook_issuer or settings.lago_url.removesuffix("/api/v1"),
        clock=clock,
        new_id=new_id,
        dispatch=dispatching.wake,
        registry=service.registry,
    )
    check = Check(
        upstreams.lago,
        database,
        steve_id=settings.steve_id,
        metric_code=settings.metric_code,
        metric_property=settings.metric_property,
        reread=sessions.poller.reread,
        clock=clock,
    )
    reconciler = Reconciler(
        check,
        database,
        outbox,
        every=timedelta(seconds=settings.reconcile_every_s),
        clock=clock,
        new_id=new_id,
        registry=service.registry,
    )
    service.dispatcher.query(work.Reconcile, reconciler.reconcile)
    queries = WebhookQueries(database, upstreams.health.get_upstreams)
    service.dispatcher.query(requests.GetUpstreams, queries.get_upstreams)
    replay = WebhookReplay(clock=clock, dispatch=dispatching.wake)
    service.dispatcher.command(requests.ReplayWebhooks, replay.replay_webhooks)
    service.parts += [
        dispatching,
        Every("webhooks.measure", 5.0, dispatch.measure),
        Every("webhooks.forget", 3600.0, dispatch.forget),
        Loop("reconcile.compare", reconciler.run_due, COMPARE_EVERY_S),
    ]
    return ProofRooms(intake, dispatch, reconciler)
