"""What is put off, and for how long at most."""

from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa

from services.sync.due import Due, Kind
from services.sync.ledger import counting, delivery, settle
from services.sync.ledger.rules import NOT_SET_UP
from services.sync.ledger.tables import entry
from services.sync.reconcile import handlers as reconcile
from services.sync.reconcile.tables import subject
from services.sync.runs.loop import Loop
from services.sync.sessions.tables import session
from services.sync.settings import SyncSettings
from services.sync.upstreams.http import LONGEST_RESET_S
from services.sync.webhooks import dispatch
from services.sync.webhooks.rules import LONGEST_PAUSE_S
from services.sync.webhooks.tables import webhook
from shared.runtime.service import Service

BRING_FORWARD_EVERY_S = 60.0


@dataclass(frozen=True)
class DueRooms:
    due: Due


def wire_due(service: Service, settings: SyncSettings) -> DueRooms:
    to_send = timedelta(seconds=max(delivery.LONGEST_BACKOFF_S, LONGEST_RESET_S))
    count_after, prove_every = timedelta(seconds=settings.count_after_s), timedelta(seconds=settings.reconcile_every_s)
    kinds = [
        Kind(
            session.c.settle_at,
            session.c.hold_reason.is_distinct_from(NOT_SET_UP),
            max(settle.LONGEST_WAIT, settle.RECHECK_EVERY),
        ),
        Kind(session.c.settle_at, session.c.hold_reason == NOT_SET_UP, settle.SLEEP),
        Kind(entry.c.due_at, entry.c.state.in_(("pending", "sending")), max(to_send, delivery.LEASE)),
        Kind(
            entry.c.due_at,
            entry.c.state == "delivered",
            max(counting.LONGEST_PAUSE, counting.LEASE, count_after),
        ),
        Kind(
            webhook.c.next_attempt_at,
            webhook.c.state == "waiting",
            max(timedelta(seconds=LONGEST_PAUSE_S), dispatch.LEASE),
        ),
        Kind(
            subject.c.due_at,
            sa.true(),
            max(prove_every, reconcile.ENDED_EVERY, reconcile.LONGEST_PAUSE),
        ),
    ]
    due = Due(service.database, kinds, clock=service.clock)
    service.parts.append(Loop("due.forward", due.bring_forward, BRING_FORWARD_EVERY_S))
    return DueRooms(due)
