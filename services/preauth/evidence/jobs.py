"""Judges what chargers did with a Blocked, has the watchdog stop what should not run, and watches rates."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

from services.preauth.chargers.store import override_not_disproven, override_proven
from services.preauth.decision.projections import sessions_are_known
from services.preauth.decision.store import in_turn_with_late_taps
from services.preauth.evidence import rules, store
from services.preauth.evidence.rules import Judgement
from services.preauth.evidence.sight import Sight
from shared.bus.outbox import Outbox
from shared.contracts.event import Envelope
from shared.contracts.events.preauth import InterceptionRateUnusual, Readiness, ScanInterceptionIgnored
from shared.contracts.events.sync import TransactionStarted, TransactionStopped
from shared.contracts.identity import Actor, Cause
from shared.database.engine import Database, Write
from shared.runtime.clock import Clock, NewId
from shared.runtime.log import get_logger

log = get_logger(__name__)

# A session may be known late: SteVe is asked every few seconds, and may have been away for hours.
LOOK_BACK: Final = timedelta(hours=24)
AT_ONCE: Final = 200
KEPT: Final = timedelta(days=7)
RATE_WINDOW: Final = timedelta(minutes=10)
USUAL_OVER: Final = timedelta(days=7)
TELL_AGAIN_AFTER: Final = timedelta(hours=1)

ACTOR: Final = Actor(kind="system", id="preauth")


class Evidence:
    """`stops`: whether a session that ignored its Blocked is left to the watchdog. `journal_is_whole`: whether no tap
    waits in a spool.
    """

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        sight: Sight,
        *,
        clock: Clock,
        new_id: NewId,
        stops: bool,
        session_within: timedelta,
        journal_is_whole: Callable[[], bool],
    ) -> None:
        self._database, self._outbox, self._sight = database, outbox, sight
        self._clock, self._new_id, self._stops, self._session_within = clock, new_id, stops, session_within
        self._journal_is_whole = journal_is_whole

    async def look(self) -> None:
        """Note how far sync sees, for those who ask what followed a tap: they wait for no other service."""
        known_until = await self._sight.reaches()
        if known_until is not None:
            now = self._clock()
            async with self._database.write() as tx:
                # Its clock may be ahead of ours.
                await sessions_are_known(tx, min(known_until, now), now=now)

    async def judge(self) -> None:
        """One turn over the taps that were told Blocked, once what explains a session is in the journal, too."""
        if not self._journal_is_whole():
            return
        now = self._clock()
        async with self._database.read() as tx:
            waiting = await store.unjudged(tx, since=now - LOOK_BACK, limit=AT_ONCE)
        known_until = None
        if any(rules.needs_sight(blocked, now) for _, blocked in waiting):
            known_until = await self._sight.reaches()
        for row, blocked in waiting:
            judgement = rules.judge(blocked, now, known_until)
            if judgement is None:
                continue
            async with self._database.write() as tx:
                if not await store.add_outcome(tx, row, judgement, now):
                    continue
                await self._note(tx, row, judgement)
                if judgement.outcome == "ignored" and self._stops and row.stopped_at is None:
                    await store.add_stop(tx, row, now)

    async def session_told(self, tx: Write, event: TransactionStarted | TransactionStopped, _: Envelope) -> None:
        """Put the session, which is among the known ones already, beside the tap that it followed."""
        await in_turn_with_late_taps(tx)
        found = await store.session_named(tx, event.charge_box_id, event.session)
        if found is None:
            return
        # By its end the card's last tap may be the one that ended it: also by the time that its start is heard of.
        anew = isinstance(event, TransactionStarted) or store.may_have_ended_by_then(found, since_seen=True)
        if anew or not await store.is_noted(tx, found, within=self._session_within):
            await store.note_session(tx, found, within=self._session_within)

    async def taps_came_late(self, tx: Write, rows: Sequence[store.Row]) -> None:
        """The same for taps that were not in the journal yet when their sessions were told of."""
        await store.note_sessions_of(tx, rows, within=self._session_within)

    async def watch_rates(self) -> None:
        """Tell of chargers that take far more scans than they used to."""
        now = self._clock()
        async with self._database.write() as tx:
            for row in await store.scan_rates(tx, now=now, window=RATE_WINDOW, usual_over=USUAL_OVER):
                usual = row.before * (RATE_WINDOW / USUAL_OVER)
                if not rules.is_unusual(row.scans, usual):
                    continue
                if await store.may_tell_rate(tx, row.charge_box_id, now=now, again_after=TELL_AGAIN_AFTER):
                    await self._tell_rate(tx, row.charge_box_id, row.scans, usual)

    async def forget(self) -> None:
        async with self._database.write() as tx:
            await store.forget(tx, self._clock() - KEPT)

    async def _note(self, tx: Write, row: store.Row, judgement: Judgement) -> None:
        if judgement.outcome == "explained":
            return
        if row.transaction_id is None:
            await override_not_disproven(tx, row.charge_box_id, row.received_at)
        else:
            honours: Readiness = "no" if judgement.outcome == "ignored" else "yes"
            await override_proven(tx, row.charge_box_id, honours, row.received_at)
        if judgement.outcome == "ignored":
            event = ScanInterceptionIgnored(
                tap_id=row.tap_id,
                pairing_id=row.pairing_id,
                charge_box_id=row.charge_box_id,
                id_tag=row.id_tag,
                transaction_id=row.transaction_id,
                evidence=judgement.evidence,
            )
            await self._outbox.add(tx, event, Cause(actor=ACTOR, correlation_id=row.pairing_id or row.tap_id))
            log.warning(
                "A charger was told Blocked and charged all the same.",
                action="scan.interception_ignored",
                charge_box_id=row.charge_box_id,
                evidence=judgement.evidence,
            )

    async def _tell_rate(self, tx: Write, charge_box_id: str, scans: int, usual: float) -> None:
        event = InterceptionRateUnusual(
            charge_box_id=charge_box_id,
            intercepted=scans,
            window_s=int(RATE_WINDOW.total_seconds()),
            usual_per_window=round(usual, 2),
        )
        await self._outbox.add(tx, event, Cause(actor=ACTOR, correlation_id=self._new_id()))
        log.warning("A charger takes unusually many scans.", action="interception.rate_unusual", charger=charge_box_id)
