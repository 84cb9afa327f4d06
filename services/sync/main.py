"""Sync speaks to SteVe's REST and to Lago. The composition root: all wiring of the service is here."""

import time
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from starlette.applications import Starlette

from services.sync.cards.commands import Cards
from services.sync.cards.handlers import CardQueries
from services.sync.cards.mirror import Mirror
from services.sync.cards.policy import Policy
from services.sync.cards.writing import TagWriter
from services.sync.lago.client import LagoClient
from services.sync.lago.gate import Gate
from services.sync.lago.subscriptions import Subscriptions
from services.sync.ledger.counting import Counting
from services.sync.ledger.decide import Terms
from services.sync.ledger.delivery import Delivery
from services.sync.ledger.held import HeldQueue
from services.sync.ledger.linking import Linking
from services.sync.ledger.progress import Progress, Steps
from services.sync.ledger.readback import ReadBack
from services.sync.ledger.repair import Repair
from services.sync.ledger.settle import Settler
from services.sync.links.follow import Follow
from services.sync.links.handlers import Links
from services.sync.links.undo import Undo
from services.sync.operations.handlers import Operations
from services.sync.reconcile.check import Check
from services.sync.reconcile.handlers import Reconciler
from services.sync.runs.cadence import Intervals
from services.sync.runs.handlers import Runs
from services.sync.runs.loop import Lanes, Loop
from services.sync.runs.runner import Runner
from services.sync.sessions.events import GatewayHints
from services.sync.sessions.handlers import SessionQueries
from services.sync.sessions.identity import Identity
from services.sync.sessions.observe import Observer
from services.sync.sessions.poll import Poller
from services.sync.sessions.rules import Limits
from services.sync.settings import SyncSettings
from services.sync.steve.client import SteveClient, SteveVersion
from services.sync.tables import metadata
from services.sync.upstreams.breaker import Breaker
from services.sync.upstreams.health import Health
from services.sync.webhooks.dispatch import Dispatch
from services.sync.webhooks.handlers import WebhookQueries, WebhookReplay
from services.sync.webhooks.http import Intake
from services.sync.webhooks.issuer import IssuerCache
from services.sync.webhooks.signature import parse_keys
from shared.contracts.events.preauth import ChargerSessionStarted, ChargerSessionStopped
from shared.contracts.requests import sync as requests
from shared.contracts.requests import sync_cards as card_requests
from shared.contracts.requests import sync_work as work
from shared.runtime.clock import Clock, NewId, utc_now, uuid7
from shared.runtime.service import Service, assemble, run
from shared.runtime.supervisor import Every
from shared.web.server import HttpServer, bind
from shared.web.tracing import Traced

# Due entries and sessions are looked for this often even when nobody called.
SETTLE_EVERY_S = 1.0
DELIVER_EVERY_S = 1.0
COUNT_EVERY_S = 1.0
FOLLOW_EVERY_S = 30.0
PROGRESS_EVERY_S = 60.0
DISPATCH_EVERY_S = 1.0
COMPARE_EVERY_S = 30.0
# Requests may hold a connection while a charger thinks for 30 s; the work of the house goes on beside them.
POOL_SIZE = 20
# Billing comes first: a backlog of sessions is told to the others at a quarter of the pace at which it could be.
RELAY_REST = 3.0


@dataclass(frozen=True)
class Upstreams:
    health: Health
    steve: SteveClient
    identity: Identity
    lago: LagoClient
    gate: Gate
    subscriptions: Subscriptions


@dataclass(frozen=True)
class CardRooms:
    mirror: Mirror
    card_queries: CardQueries
    cards: Cards
    policy: Policy
    links: Links
    undo: Undo
    follow: Follow


@dataclass(frozen=True)
class SessionRooms:
    """`look` has SteVe asked now; `settle`, `deliver` and `count` have what is due done now."""

    poller: Poller
    runner: Runner
    runs: Runs
    progress: Progress
    settler: Settler
    delivery: Delivery
    counting: Counting
    held: HeldQueue
    look: Loop
    settle: Loop
    deliver: Lanes
    count: Loop


@dataclass(frozen=True)
class ProofRooms:
    intake: Intake
    dispatch: Dispatch
    reconciler: Reconciler


@dataclass(frozen=True)
class Rooms(Upstreams, CardRooms, SessionRooms, ProofRooms):
    """What does the work; the service's parts call it in turns, and tests call it turn by turn."""

    operations: Operations
    linking: Linking


def build(settings: SyncSettings, *, clock: Clock = utc_now, new_id: NewId = uuid7) -> Service:
    service = assemble(
        "sync", settings, metadata, clock=clock, new_id=new_id, pool_size=POOL_SIZE, relay_rest=RELAY_REST
    )
    intake = wire(service, settings).intake
    listener = bind(settings.host, settings.port, setting="EXPRESSYNC_SYNC_PORT")
    # Last to start and first to stop: what it takes in, the parts above it finish.
    service.parts.append(HttpServer("http", Traced(Starlette(routes=[intake.route()])), listener))
    return service


def wire(service: Service, settings: SyncSettings) -> Rooms:
    """Put the rooms together and into the service."""
    upstreams = wire_upstreams(service, settings)
    cards = wire_cards(service, settings, upstreams)
    sessions = wire_sessions(service, settings, upstreams, cards.mirror)
    proof = wire_proof(service, settings, upstreams, sessions)
    operations = wire_operations(service, upstreams)
    linking = Linking(cards.links, sessions.held)
    service.dispatcher.command(requests.LinkCard, linking.link_card)
    service.dispatcher.command(card_requests.RelinkCard, linking.relink_card)
    return Rooms(
        **vars(upstreams),
        **vars(cards),
        **vars(sessions),
        **vars(proof),
        operations=operations,
        linking=linking,
    )


def wire_upstreams(service: Service, settings: SyncSettings) -> Upstreams:
    clock = service.clock
    health = Health(service.database, service.outbox, clock=clock, new_id=service.new_id)
    steve = SteveClient(
        settings.steve_url,
        user=settings.steve_user,
        password=settings.steve_password.get_secret_value(),
        api_key=settings.steve_api_key.get_secret_value(),
        version=SteveVersion.parse(settings.steve_version),
        timeout_s=settings.steve_timeout_s,
        breaker=Breaker(time.monotonic),
        watch=health.note,
    )
    lago = LagoClient(
        settings.lago_url,
        api_key=settings.lago_api_key.get_secret_value(),
        timeout_s=settings.lago_timeout_s,
        requests_per_s=settings.lago_requests_per_s,
        breaker=Breaker(time.monotonic),
        watch=health.note,
    )
    health.probes = {"steve": steve.probe, "lago": lago.probe}
    service.closing += [steve.close, lago.close]
    service.parts.append(health)
    gate = Gate(
        lago,
        metric_code=settings.metric_code,
        metric_property=settings.metric_property,
        clock=clock,
        object_to=partial(health.object_to, "lago", "billing"),
    )
    subscriptions = Subscriptions(lago, service.database, metric_code=settings.metric_code, clock=clock)
    identity = Identity(
        steve,
        service.database,
        steve_id=settings.steve_id,
        clock=clock,
        object_to=partial(health.object_to, "steve", "identity"),
    )
    return Upstreams(health, steve, identity, lago, gate, subscriptions)


def wire_cards(service: Service, settings: SyncSettings, upstreams: Upstreams) -> CardRooms:
    database, outbox, dispatcher = service.database, service.outbox, service.dispatcher
    clock, new_id, steve = service.clock, service.new_id, upstreams.steve

    # Somebody waits, so it is asked even while the circuit is open.
    same_steve = partial(upstreams.identity.check, urgent=True)
    mirror = Mirror(
        steve,
        database,
        outbox,
        steve_id=settings.steve_id,
        clock=clock,
        new_id=new_id,
        same_steve=upstreams.identity.check,
        object_to=partial(upstreams.health.object_to, "steve", "tags"),
    )
    service.parts.append(Loop("cards.mirror", mirror.refresh, settings.cards_every_s))
    queries = CardQueries(database, steve, clock, same_steve=same_steve)
    dispatcher.query(requests.GetCard, queries.get_card)
    dispatcher.query(requests.SearchCards, queries.search_cards)
    dispatcher.query(requests.ReadCardInSteve, queries.read_card_in_steve)
    dispatcher.query(card_requests.SnapshotCards, queries.snapshot_cards)

    enforce = settings.card_policy == "enforce"
    writer = TagWriter(steve, clock, same_steve=same_steve)
    cards = Cards(database, writer, outbox, enforce=enforce, clock=clock, new_id=new_id)
    dispatcher.effect(card_requests.CreateCard, cards.create_card)
    dispatcher.command(card_requests.ChangeCard, cards.change_card)
    dispatcher.effect(card_requests.BlockCard, cards.block_card)
    dispatcher.effect(card_requests.UnblockCard, cards.unblock_card)
    dispatcher.effect(card_requests.ChangeParent, cards.change_parent)
    dispatcher.effect(card_requests.SetExpiry, cards.set_expiry)
    policy = Policy(database, cards, clock=clock, new_id=new_id)
    if enforce:
        service.parts.append(Loop("cards.policy", policy.enforce, settings.cards_every_s))

    links = Links(upstreams.lago, database, cards, outbox, clock=clock, new_id=new_id)
    undo = Undo(cards, links, clock)
    dispatcher.command(card_requests.UnlinkCard, links.unlink_card)
    dispatcher.effect(card_requests.UndoChange, undo.undo_change)
    dispatcher.query(card_requests.PreviewLink, links.preview_link)
    dispatcher.query(card_requests.GetPortalUrl, links.get_portal_url)
    dispatcher.query(requests.SearchCustomers, links.search_customers)
    dispatcher.query(requests.GetSubscription, links.get_subscription)
    follow = Follow(database, upstreams.subscriptions, cards, links, clock=clock, new_id=new_id)
    service.parts.append(Loop("links.follow", follow.follow, FOLLOW_EVERY_S))
    return CardRooms(mirror, queries, cards, policy, links, undo, follow)


def wire_sessions(service: Service, settings: SyncSettings, upstreams: Upstreams, mirror: Mirror) -> SessionRooms:
    database, outbox, dispatcher = service.database, service.outbox, service.dispatcher
    clock, new_id, lago = service.clock, service.new_id, upstreams.lago

    delivery = Delivery(
        lago,
        upstreams.gate,
        upstreams.subscriptions,
        database,
        outbox,
        in_flight=settings.in_flight,
        count_after=timedelta(seconds=settings.count_after_s),
        clock=clock,
        new_id=new_id,
    )
    # One after the other finishes; what comes in meanwhile is taken up by those that are free.
    deliver = Lanes("ledger.deliver", delivery.lane, DELIVER_EVERY_S, count=settings.in_flight)
    counting = Counting(lago, database, outbox, clock=clock, new_id=new_id)
    settler = Settler(
        database,
        outbox,
        upstreams.subscriptions,
        metric_code=settings.metric_code,
        metric_property=settings.metric_property,
        terms=Terms(
            settings.late_policy,
            Limits(settings.connector_kw, timedelta(hours=settings.open_hours)),
            timedelta(seconds=settings.subscription_age_s),
        ),
        clock=clock,
        new_id=new_id,
        deliver=deliver.wake,
    )
    settle = Loop("ledger.settle", settler.settle, SETTLE_EVERY_S)
    count = Loop("ledger.count", counting.count_some, COUNT_EVERY_S, drain=True)
    queries = SessionQueries(database)
    dispatcher.query(requests.SearchSessions, queries.search_sessions)
    dispatcher.query(requests.GetSession, queries.get_session)
    poller = Poller(
        upstreams.steve,
        database,
        Observer(database, outbox, mirror, steve_id=settings.steve_id, clock=clock, new_id=new_id, settle=settle.wake),
        upstreams.identity,
        steve_id=settings.steve_id,
        page_size=settings.page_size,
        open_for=timedelta(hours=settings.open_hours),
        clock=clock,
        object_to=partial(upstreams.health.object_to, "steve", "transactions"),
    )

    held = HeldQueue(
        database,
        outbox,
        steve_id=settings.steve_id,
        reread=poller.reread,
        repair=Repair(ReadBack(lago), database, clock),
        clock=clock,
        settle=settle.wake,
        deliver=deliver.wake,
    )
    dispatcher.query(work.SearchHeld, held.search_held)
    dispatcher.command(work.RetryHeld, held.retry_held)
    dispatcher.command(work.IgnoreHeld, held.ignore_held)
    dispatcher.command(work.ReleaseHeld, held.release_held)

    progress = Progress(
        upstreams.steve,
        upstreams.identity,
        database,
        settler,
        steve_id=settings.steve_id,
        steps=Steps(timedelta(minutes=settings.incremental_minutes), settings.incremental_kwh * 1000),
        clock=clock,
    )
    service.parts.append(Loop("ledger.progress", progress.bill_running, PROGRESS_EVERY_S))
    intervals = Intervals(settings.poll_s, max(settings.idle_poll_s, settings.poll_s), settings.dormant_poll_s)
    runner = Runner(
        database,
        outbox,
        poller,
        settler,
        delivery,
        steve_id=settings.steve_id,
        intervals=intervals,
        sweep_every=timedelta(seconds=settings.sweep_every_s),
        refresh_cards=mirror.refresh,
        clock=clock,
        new_id=new_id,
    )
    service.closing.append(runner.close)
    look = Loop("sessions.look", runner.turn, lambda: runner.interval_s)
    runs = Runs(database, steve_id=settings.steve_id, intervals=intervals, clock=clock, new_id=new_id, look=look.wake)
    dispatcher.command(work.StartRun, runs.start_run)
    dispatcher.query(work.ListRuns, runs.list_runs)
    dispatcher.query(work.GetRun, runs.get_run)
    dispatcher.command(work.PinCadence, runs.pin_cadence)

    def look_now() -> None:
        runner.hurry()
        look.wake()

    hints = GatewayHints(look=look_now, want=poller.want, steve_id=settings.steve_id, clock=clock)
    service.consumer.on(ChargerSessionStarted, hints.started)
    service.consumer.on(ChargerSessionStopped, hints.stopped)
    service.parts += [
        look,
        Loop("sessions.stuck", poller.hold_stuck, 60.0),
        Loop("runs.forget", runner.forget, 3600.0),
        settle,
        *deliver.loops,
        count,
    ]
    return SessionRooms(poller, runner, runs, progress, settler, delivery, counting, held, look, settle, deliver, count)


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


def wire_operations(service: Service, upstreams: Upstreams) -> Operations:
    operations = Operations(
        upstreams.steve,
        service.database,
        service.outbox,
        clock=service.clock,
        new_id=service.new_id,
        same_steve=partial(upstreams.identity.check, urgent=True),
    )
    service.dispatcher.effect(requests.OperateCharger, operations.operate_charger)
    service.parts.append(Loop("operations.abandoned", operations.close_abandoned, 30.0))
    return operations


def main() -> None:
    run("sync", SyncSettings, build)
