"""What sync tells of cards and sessions, and what is judged by it."""

from datetime import timedelta

from services.preauth.decision.projections import Projections
from services.preauth.decision.snapshot import Snapshot
from services.preauth.evidence.jobs import Evidence
from services.preauth.evidence.sight import Sight
from services.preauth.evidence.watchdog import Watchdog
from services.preauth.settings import PreauthSettings
from services.preauth.wiring.taps import TapParts
from shared.contracts.events import sync
from shared.runtime.service import Service
from shared.runtime.supervisor import Every

HOUR_S = 3600.0
JUDGE_EVERY_S = 5.0
LOOK_EVERY_S = 5.0
RATES_EVERY_S = 60.0
# So long after an outage other processes have connected again, too, and brought their spools into the journal.
REPLAYED_AFTER_S = 15.0
# Until it is taken.
SNAPSHOT_EVERY_S = 2.0


def wire_evidence(service: Service, settings: PreauthSettings, taps: TapParts) -> None:
    """Keep what a tap must know of cards and sessions, and judge by it what chargers did."""
    projections = Projections(service.database, clock=service.clock)
    service.consumer.on(sync.CardDiscovered, projections.card_discovered)
    service.consumer.on(sync.CardChanged, projections.card_changed)
    service.consumer.on(sync.CardParentChanged, projections.card_parent_changed)
    service.consumer.on(sync.TransactionStarted, projections.transaction_started)
    service.consumer.on(sync.TransactionStopped, projections.transaction_stopped)
    service.consumer.on(sync.ChargerOperationRequested, projections.operation_requested)
    service.consumer.on(sync.ChargerOperationFinished, projections.operation_finished)
    evidence = Evidence(
        service.database,
        service.outbox,
        Sight(service.requester),
        clock=service.clock,
        new_id=service.new_id,
        stops=settings.stop_ignored,
        session_within=timedelta(seconds=settings.session_within_s),
        journal_is_whole=lambda: len(taps.spool) == 0 and taps.group.healthy_for_s() >= REPLAYED_AFTER_S,
    )
    service.consumer.on(sync.TransactionStarted, evidence.session_told)
    # One that sync found finished has no start.
    service.consumer.on(sync.TransactionStopped, evidence.session_told)
    taps.replay.written = evidence.taps_came_late
    snapshot = Snapshot(service.database, service.requester, clock=service.clock)
    service.parts += [
        Every("projections.snapshot", SNAPSHOT_EVERY_S, snapshot.take, at_stop="abandon"),
        Every("projections.forget", HOUR_S, projections.forget),
        Every("evidence.sight", LOOK_EVERY_S, evidence.look, at_stop="abandon"),
        Every("evidence.judge", JUDGE_EVERY_S, evidence.judge),
        Every("evidence.rates", RATES_EVERY_S, evidence.watch_rates),
        Every("evidence.forget", HOUR_S, evidence.forget),
    ]
    if settings.stop_ignored:
        watchdog = Watchdog(service.database, service.requester, clock=service.clock)
        service.parts.append(Every("evidence.stop", JUDGE_EVERY_S, watchdog.bark, at_stop="abandon"))
