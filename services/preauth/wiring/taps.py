"""The way of a tap, what follows it, and what operators ask about it."""

import os
import socket
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from services.preauth.chargers.cache import CacheCleaner
from services.preauth.clocks import Clocks
from services.preauth.decision.decider import TapDecider
from services.preauth.decision.group import GroupCommit
from services.preauth.decision.handlers import Taps
from services.preauth.decision.jobs import Matches, Months, Replay, Sweeper
from services.preauth.decision.spool import Spool
from services.preauth.decision.statement import Windows
from services.preauth.decision.switch import Switch
from services.preauth.decision.tap import MatchAnswered
from services.preauth.housekeeping import Housekeeping
from services.preauth.login.stream import Watch
from services.preauth.settings import PreauthSettings
from shared.contracts.requests import preauth as asked
from shared.runtime.service import Service
from shared.runtime.supervisor import Every
from shared.web.health import connected

SWEEP_EVERY_S = 1.0
CLOCK_EVERY_S = 2.0
REPLAY_EVERY_S = 0.5
HOUR_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TapParts:
    """The way of a tap, and what follows it."""

    group: GroupCommit
    spool: Spool
    matches: Matches
    decider: TapDecider
    sweeper: Sweeper
    replay: Replay


def wire_taps(service: Service, settings: PreauthSettings, watch: Watch, clocks: Clocks) -> TapParts:
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

    async def spool_is_usable() -> str | None:
        return spool.problem

    service.checks["spool"] = spool_is_usable

    async def close_spool() -> None:
        spool.close()

    service.closing.append(close_spool)
    journal = Taps(service.database, clock=clock, session_within=timedelta(seconds=settings.session_within_s))
    service.dispatcher.query(asked.SearchTaps, journal.search_taps)
    switch = Switch(service.database, service.outbox, clock=clock, qr_is_strong=settings.qr_is_strong)
    service.dispatcher.command(asked.SwitchInterception, switch.switch)
    service.dispatcher.query(asked.GetInterception, switch.show)
    return TapParts(group=group, spool=spool, matches=matches, decider=decider, sweeper=sweeper, replay=replay)


def spool_name(unique: UUID) -> str:
    """A file name of this process alone, that still says where it came from."""
    return f"{socket.gethostname()}-{os.getpid()}-{unique.hex[-8:]}"
