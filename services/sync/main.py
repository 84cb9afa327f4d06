"""Sync speaks to SteVe's REST and to Lago. The composition root: all wiring of the service is here."""

import time
from dataclasses import dataclass
from datetime import timedelta

from services.sync.cards.handlers import CardQueries
from services.sync.cards.mirror import Mirror
from services.sync.lago.client import LagoClient
from services.sync.lago.gate import Gate
from services.sync.lago.subscriptions import Subscriptions
from services.sync.ledger.counting import Counting
from services.sync.ledger.delivery import Delivery
from services.sync.ledger.held import HeldQueue
from services.sync.ledger.settle import Settler
from services.sync.links.handlers import Links
from services.sync.operations.handlers import Operations
from services.sync.runs.loop import Loop
from services.sync.sessions.events import GatewayHints
from services.sync.sessions.handlers import SessionQueries
from services.sync.sessions.observe import Observer
from services.sync.sessions.poll import Poller
from services.sync.sessions.rules import Limits
from services.sync.settings import SyncSettings
from services.sync.steve.client import SteveClient, SteveVersion
from services.sync.tables import metadata
from services.sync.upstreams.breaker import Breaker
from services.sync.upstreams.health import Health
from shared.contracts.events.preauth import ChargerSessionStarted, ChargerSessionStopped
from shared.contracts.requests import sync as requests
from shared.contracts.requests import sync_work as work
from shared.runtime.clock import Clock, NewId, utc_now, uuid7
from shared.runtime.service import Service, assemble, run

# Due entries and sessions are looked for this often even when nobody called.
SETTLE_EVERY_S = 1.0
# Requests may hold a connection while a charger thinks for 30 s; the work of the house goes on beside them.
POOL_SIZE = 20
DELIVER_EVERY_S = 1.0
COUNT_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Rooms:
    """What does the work; the service's parts call it in turns, and tests call it turn by turn."""

    health: Health
    steve: SteveClient
    lago: LagoClient
    mirror: Mirror
    links: Links
    poller: Poller
    settler: Settler
    gate: Gate
    delivery: Delivery
    counting: Counting
    held: HeldQueue
    operations: Operations


def build(settings: SyncSettings, *, clock: Clock = utc_now, new_id: NewId = uuid7) -> Service:
    service = assemble("sync", settings, metadata, clock=clock, new_id=new_id, pool_size=POOL_SIZE)
    wire(service, settings)
    return service


def wire(service: Service, settings: SyncSettings) -> Rooms:
    """Put the rooms together and into the service."""
    database, outbox, dispatcher = service.database, service.outbox, service.dispatcher
    clock, new_id = service.clock, service.new_id

    health = Health(database, outbox, clock=clock, new_id=new_id)
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
    dispatcher.query(requests.GetUpstreams, health.get_upstreams)

    mirror = Mirror(steve, database, outbox, steve_id=settings.steve_id, clock=clock, new_id=new_id)
    cards = CardQueries(database, steve, clock)
    dispatcher.query(requests.GetCard, cards.get_card)
    dispatcher.query(requests.SearchCards, cards.search_cards)
    dispatcher.query(requests.ReadCardInSteve, cards.read_card_in_steve)

    links = Links(lago, outbox, clock=clock, new_id=new_id)
    dispatcher.command(requests.LinkCard, links.link_card)
    dispatcher.query(requests.SearchCustomers, links.search_customers)
    dispatcher.query(requests.GetSubscription, links.get_subscription)

    sessions = SessionQueries(database)
    dispatcher.query(requests.SearchSessions, sessions.search_sessions)
    dispatcher.query(requests.GetSession, sessions.get_session)
    observer = Observer(database, outbox, mirror, steve_id=settings.steve_id, clock=clock, new_id=new_id)
    poller = Poller(
        steve,
        database,
        observer,
        steve_id=settings.steve_id,
        page_size=settings.page_size,
        open_for=timedelta(hours=settings.open_hours),
        clock=clock,
        refuse=lambda error: health.object_to("steve", error),
    )

    operations = Operations(steve, database, outbox, clock=clock, new_id=new_id)
    dispatcher.command(requests.OperateCharger, operations.operate_charger)

    gate = Gate(
        lago,
        metric_code=settings.metric_code,
        metric_property=settings.metric_property,
        clock=clock,
        object_to=lambda error: health.object_to("lago", error),
    )
    delivery = Delivery(
        lago,
        gate,
        database,
        outbox,
        in_flight=settings.in_flight,
        count_after=timedelta(seconds=settings.count_after_s),
        clock=clock,
        new_id=new_id,
    )
    counting = Counting(lago, database, outbox, clock=clock, new_id=new_id)
    deliver = Loop("ledger.deliver", delivery.deliver, DELIVER_EVERY_S)
    settler = Settler(
        database,
        outbox,
        Subscriptions(lago, database, metric_code=settings.metric_code, clock=clock),
        metric_code=settings.metric_code,
        metric_property=settings.metric_property,
        late_policy=settings.late_policy,
        limits=Limits(settings.connector_kw, timedelta(hours=settings.open_hours)),
        subscription_age=timedelta(seconds=settings.subscription_age_s),
        clock=clock,
        new_id=new_id,
        deliver=deliver.wake,
    )
    settle = Loop("ledger.settle", settler.settle, SETTLE_EVERY_S)

    held = HeldQueue(database, outbox, clock=clock, settle=settle.wake, deliver=deliver.wake)
    dispatcher.query(work.SearchHeld, held.search_held)
    dispatcher.command(work.RetryHeld, held.retry_held)
    dispatcher.command(work.IgnoreHeld, held.ignore_held)
    dispatcher.command(work.ReleaseHeld, held.release_held)

    async def poll() -> None:
        if await poller.poll():
            settle.wake()

    looking = Loop("sessions.poll", poll, settings.poll_s)
    hints = GatewayHints(looking.wake, steve_id=settings.steve_id, clock=clock)
    service.consumer.on(ChargerSessionStarted, hints.started)
    service.consumer.on(ChargerSessionStopped, hints.stopped)
    service.parts += [
        health,
        Loop("cards.mirror", mirror.refresh, settings.cards_every_s),
        looking,
        Loop("sessions.stuck", poller.hold_stuck, 60.0),
        settle,
        deliver,
        Loop("ledger.count", counting.count, COUNT_EVERY_S),
        Loop("operations.abandoned", operations.close_abandoned, 30.0),
    ]
    return Rooms(health, steve, lago, mirror, links, poller, settler, gate, delivery, counting, held, operations)


def main() -> None:
    run("sync", SyncSettings, build)
