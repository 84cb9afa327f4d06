"""Asks chargers, through sync, whether tap-to-login can work there; notes chargers that others tell of."""

import asyncio
from datetime import timedelta
from typing import Final, Protocol
from uuid import UUID

from services.preauth.chargers import store
from services.preauth.chargers.rules import READINESS_KEYS, Verdict, readiness
from services.preauth.decision.projections import transaction_id_of
from shared.bus.outbox import Outbox
from shared.bus.requests import NoAnswerError
from shared.contracts.event import Envelope
from shared.contracts.events.preauth import ChargerReadinessChanged
from shared.contracts.events.sync import ChargerOperationFinished, TransactionStarted
from shared.contracts.identity import Actor, Cause
from shared.contracts.problem import RemoteProblem
from shared.contracts.requests.sync import OperateCharger, OperationResult
from shared.database.engine import Database, Write
from shared.runtime.clock import Clock, NewId
from shared.runtime.log import get_logger

log = get_logger(__name__)

# What a charger told is believed for a day, and until it boots.
STALE: Final = timedelta(hours=24)
RETRY: Final = timedelta(minutes=15)
# Of a charger that bypasses the gateway SteVe alone knows whether it is online. While somebody looks, that is no older.
LOOKED_AT_STALE: Final = timedelta(minutes=1)
MOST_LOOKED_AT: Final = 100
ASK_EVERY_S: Final = 5.0
# A few each time: every one is a call to a charger, and SteVe may wait for it.
AT_ONCE: Final = 5
# SteVe itself waits up to 30 s for a charger.
ANSWER_WITHIN_S: Final = 35.0
# Taps are looked at a little further back than the last time, so that one whose commit was slow is not missed.
LOOK_BACK: Final = timedelta(minutes=2)

_ACTOR: Final = Actor(kind="system", id="preauth")


class Asks(Protocol):
    """What the job needs of a `Requester`."""

    @property
    def connected(self) -> bool: ...

    async def ask(
        self, request: OperateCharger, *, actor: Actor, correlation_id: UUID, deadline_s: float, key: str
    ) -> OperationResult: ...


class Readiness:
    """A supervised part that asks those whose answer is missing or old, and lets each rest in between."""

    name = "chargers.readiness"

    def __init__(self, database: Database, outbox: Outbox, requester: Asks, *, clock: Clock, new_id: NewId) -> None:
        self._database, self._outbox, self._requester = database, outbox, requester
        self._clock, self._new_id = clock, new_id
        self._looked_at: set[str] = set()
        self._wake = asyncio.Event()

    def look(self, charge_box_id: str) -> None:
        """Somebody looks at a charger and has been told what was known: ask anew, behind that answer."""
        if len(self._looked_at) < MOST_LOOKED_AT:
            self._looked_at.add(charge_box_id)
            self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Ask, every few seconds, and at once where somebody looks.

        A stop does not wait for chargers: what is not known now is asked later.
        """
        stopping = asyncio.ensure_future(stop.wait())
        stopping.add_done_callback(lambda _: self._wake.set())
        try:
            while not stop.is_set():
                self._wake.clear()
                asking = asyncio.ensure_future(self.ask())
                await asyncio.wait({asking, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not asking.done():
                    asking.cancel()
                    await asyncio.gather(asking, return_exceptions=True)
                elif (error := asking.exception()) is not None:
                    log.warning("Chargers could not be asked.", action="chargers.ask_failed", error=repr(error))
                await self._rest()
        finally:
            stopping.cancel()

    async def ask(self) -> None:
        """Ask those who are due."""
        if not self._requester.connected:
            return
        await self._ask_looked_at()
        async with self._database.write() as tx:
            due = await store.claim_readiness(tx, self._clock(), stale=STALE, retry=RETRY, limit=AT_ONCE)
        for charge_box_id, subprotocol in due:
            await self._ask(charge_box_id, subprotocol)
            # Each may take its half minute, and somebody waits for these.
            await self._ask_looked_at()

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(ASK_EVERY_S):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _ask_looked_at(self) -> None:
        while self._looked_at:
            charge_box_id = self._looked_at.pop()
            async with self._database.write() as tx:
                due = await store.claim_online(tx, charge_box_id, self._clock(), stale=LOOKED_AT_STALE)
            if due is not None:
                await self._ask(*due)

    async def _ask(self, charge_box_id: str, subprotocol: str | None) -> None:
        correlation_id = self._new_id()
        request = OperateCharger(
            charge_box_id=charge_box_id,
            operation="GetConfiguration",
            parameters={"commaSeparatedCustomConfKeys": ",".join(READINESS_KEYS)},
        )
        try:
            result = await self._requester.ask(
                request,
                actor=_ACTOR,
                correlation_id=correlation_id,
                deadline_s=ANSWER_WITHIN_S,
                key=f"readiness:{correlation_id}",
            )
        except (NoAnswerError, RemoteProblem) as error:
            # What was known stays known, with its age.
            log.info("A charger's configuration was not told.", action="chargers.not_asked", error=str(error))
            return
        async with self._database.write() as tx:
            await self._note(tx, result, subprotocol, correlation_id)

    async def _note(self, tx: Write, result: OperationResult, subprotocol: str | None, correlation_id: UUID) -> None:
        charge_box_id, now = result.charge_box_id, self._clock()
        if result.outcome in ("accepted", "rejected", "not_connected"):
            await store.set_online(tx, charge_box_id, now, online=result.outcome != "not_connected")
        configuration = result.response.get("configurationKeys")
        if result.outcome != "accepted" or not isinstance(configuration, list):
            return
        verdict = readiness([one for one in configuration if isinstance(one, dict)], subprotocol)
        await self._tell(tx, charge_box_id, verdict, correlation_id)

    async def _tell(self, tx: Write, charge_box_id: str, verdict: Verdict, correlation_id: UUID) -> None:
        now = self._clock()
        before = await store.set_readiness(tx, charge_box_id, verdict, now)
        if before == verdict.ready:
            return
        event = ChargerReadinessChanged(
            charge_box_id=charge_box_id,
            before=before,
            after=verdict.ready,
            keys=dict(verdict.keys),
            reason=verdict.reason,
            checked_at=now,
        )
        await self._outbox.add(tx, event, Cause(actor=_ACTOR, correlation_id=correlation_id))

    async def operation_finished(self, tx: Write, event: ChargerOperationFinished, _: Envelope) -> None:
        """Whatever its outcome: one that was not answered may have been done."""
        if event.operation == "ChangeConfiguration":
            await store.ask_anew(tx, event.charge_box_id)


class Newcomers:
    """Chargers that do not come through the gateway are known from taps (the hook) and from SteVe's sessions; also
    those that do not any more.
    """

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database, self._clock = database, clock

    async def note_tapped(self) -> None:
        async with self._database.write() as tx:
            at = self._clock()
            await store.note_tapped(tx, at - LOOK_BACK, at)
            await store.leave_tapped(tx, at - LOOK_BACK)

    async def session_started(self, tx: Write, event: TransactionStarted, envelope: Envelope) -> None:
        at = self._clock()
        # By sync's own clock, which may be ahead of ours.
        await store.note(tx, event.charge_box_id, min(envelope.time, at), at)
        await store.leave_started(tx, event.charge_box_id, transaction_id_of(event.session), event.started_at)
