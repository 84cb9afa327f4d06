"""Stops, through SteVe, sessions that began although their card was told Blocked.

Operations are never repeated blindly. This one may be, a few times: a transaction is stopped once, however often it is
asked for, and sync asks only the SteVe that it knows, where the number is no other session's. Once the charger has
answered, it is not asked again.
"""

from typing import Final, Protocol
from uuid import UUID

from services.preauth.evidence import rules, store
from shared.bus.requests import NoAnswerError
from shared.contracts.identity import Actor
from shared.contracts.problem import RemoteProblem
from shared.contracts.requests.sync import OperateCharger, OperationOutcome, OperationResult
from shared.database.engine import Database
from shared.runtime.clock import Clock
from shared.runtime.log import get_logger

log = get_logger(__name__)

# SteVe itself waits up to 30 s for a charger.
ANSWER_WITHIN_S: Final = 35.0

_ACTOR: Final = Actor(kind="system", id="preauth")


class Asks(Protocol):
    """What the job needs of a `Requester`."""

    @property
    def connected(self) -> bool: ...

    async def ask(
        self, request: OperateCharger, *, actor: Actor, correlation_id: UUID, deadline_s: float, key: str
    ) -> OperationResult: ...


class Watchdog:
    """`bark` is called every few seconds. It may be cut anywhere: an attempt counts from before it is made."""

    def __init__(self, database: Database, requester: Asks, *, clock: Clock) -> None:
        self._database, self._requester, self._clock = database, requester, clock

    async def bark(self) -> None:
        """Stop what is due, one session after the other."""
        while self._requester.connected and await self._stop_next():
            continue

    async def _stop_next(self) -> bool:
        """False where nothing is due."""
        now = self._clock()
        async with self._database.write() as tx:
            row = await store.due_stop(tx, now)
            if row is None:
                return False
            if row.ended_at is not None:
                await store.set_stop(tx, row.tap_id, attempts=row.attempts, outcome="ended", due_at=None)
                return True
            attempts = row.attempts + 1
            again_at = rules.stop_again_at(attempts, now)
            await store.set_stop(tx, row.tap_id, attempts=attempts, outcome="unknown", due_at=again_at)
        outcome = await self._ask(row, attempts)
        if outcome in {"accepted", "rejected"}:
            again_at = None
        async with self._database.write() as tx:
            await store.set_stop(tx, row.tap_id, attempts=attempts, outcome=outcome, due_at=again_at)
        log.warning(
            "A session that ignored its Blocked was to be stopped.",
            action="watchdog.asked",
            charge_box_id=row.charge_box_id,
            transaction_id=row.transaction_id,
            outcome=outcome,
            again_at=again_at.isoformat() if again_at is not None else None,
        )
        return True

    async def _ask(self, row: store.Row, attempt: int) -> OperationOutcome:
        request = OperateCharger(
            charge_box_id=row.charge_box_id,
            operation="RemoteStopTransaction",
            parameters={"transactionId": row.transaction_id},
        )
        try:
            result = await self._requester.ask(
                request,
                actor=_ACTOR,
                correlation_id=row.tap_id,
                deadline_s=ANSWER_WITHIN_S,
                # A key's answer is kept: with the same one, sync would repeat that instead of asking again.
                key=f"watchdog/{row.tap_id}/{attempt}",
            )
        except NoAnswerError as error:
            log.info("Nobody told whether a session was stopped.", action="watchdog.no_answer", error=str(error))
            return "unknown"
        except RemoteProblem as error:
            log.info("Sync did not have a session stopped.", action="watchdog.refused", error=str(error))
            return "failed"
        return result.outcome
