"""From a look at SteVe to a usage event that Lago counts."""

from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from services.sync.cards.mirror import Mirror
from services.sync.ledger.counting import Counting
from services.sync.ledger.decide import Terms
from services.sync.ledger.delivery import Delivery
from services.sync.ledger.held import HeldQueue
from services.sync.ledger.opening import Opening
from services.sync.ledger.progress import Progress, Steps
from services.sync.ledger.readback import ReadBack
from services.sync.ledger.repair import Repair
from services.sync.ledger.settle import Settler
from services.sync.runs.cadence import Intervals
from services.sync.runs.handlers import Runs
from services.sync.runs.loop import Lanes, Loop
from services.sync.runs.runner import Runner
from services.sync.sessions.events import ChargerHints, is_blocked_start
from services.sync.sessions.handlers import SessionQueries
from services.sync.sessions.observe import Observer
from services.sync.sessions.poll import Poller
from services.sync.sessions.rules import Limits
from services.sync.settings import SyncSettings
from services.sync.wiring.upstreams import Upstreams
from shared.contracts.events.preauth import ChargerSessionStarted, ChargerSessionStopped, TapDecided
from shared.contracts.requests import sync as requests
from shared.contracts.requests import sync_work as work
from shared.runtime.service import Service

# Due entries and sessions are looked for this often even when nobody called.
SETTLE_EVERY_S = 1.0
DELIVER_EVERY_S = 1.0
COUNT_EVERY_S = 1.0
# Billing comes first: of a backlog is proven meanwhile what a quarter of the time suffices for.
COUNT_REST = 3.0
PROGRESS_EVERY_S = 60.0


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
        object_to=partial(upstreams.health.object_to, "lago", "events"),
    )
    # One after the other finishes; what comes in meanwhile is taken up by those that are free.
    deliver = Lanes("ledger.deliver", delivery.lane, DELIVER_EVERY_S, count=settings.in_flight)
    counting = Counting(lago, upstreams.subscriptions, database, outbox, clock=clock)
    settler = Settler(
        database,
        outbox,
        upstreams.subscriptions,
        Opening(upstreams.gate, database, clock),
        terms=Terms(
            upstreams.gate.metric,
            settings.late_policy,
            Limits(settings.connector_kw, timedelta(hours=settings.open_hours), settings.charger_kw),
            timedelta(seconds=settings.subscription_age_s),
        ),
        clock=clock,
        deliver=deliver.wake,
    )
    settle = Loop("ledger.settle", lambda: settler.settle(settle.stopping), SETTLE_EVERY_S)
    count = Loop("ledger.count", counting.count_some, COUNT_EVERY_S, rest=COUNT_REST)
    queries = SessionQueries(database)
    dispatcher.query(requests.SearchSessions, queries.search_sessions)
    dispatcher.query(requests.GetSession, queries.get_session)
    poller = Poller(
        upstreams.steve,
        database,
        Observer(database, outbox, mirror, steve_id=settings.steve_id, clock=clock, settle=settle.wake),
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
        repair=Repair(ReadBack(lago), database, clock, upstreams.gate.metric),
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
    look = Loop("sessions.look", lambda: runner.turn(look.stopping), lambda: runner.interval_s)
    runs = Runs(database, steve_id=settings.steve_id, intervals=intervals, clock=clock, new_id=new_id, look=look.wake)
    dispatcher.command(work.StartRun, runs.start_run)
    dispatcher.query(work.ListRuns, runs.list_runs)
    dispatcher.query(work.GetRun, runs.get_run)
    dispatcher.command(work.PinCadence, runs.pin_cadence)

    def look_now() -> None:
        runner.hurry()
        look.wake()

    hints = ChargerHints(look=look_now, want=poller.want, steve_id=settings.steve_id, clock=clock)
    service.consumer.on(ChargerSessionStarted, hints.started)
    service.consumer.on(ChargerSessionStopped, hints.stopped)
    service.consumer.on(TapDecided, hints.tapped, where=is_blocked_start)
    service.parts += [
        look,
        Loop("sessions.stuck", poller.hold_stuck, 60.0),
        Loop("runs.forget", runner.forget, 3600.0),
        settle,
        *deliver.loops,
        count,
    ]
    return SessionRooms(poller, runner, runs, progress, settler, delivery, counting, held, look, settle, deliver, count)
