"""Having SteVe call chargers: each call is made once, by nobody again, and its outcome is recorded."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

from services.sync.clocks import AHEAD
from services.sync.operations import rules, store
from services.sync.operations.rules import Outcome
from services.sync.steve.client import SteveClient
from services.sync.upstreams.errors import UpstreamError
from shared.bus.effects import Effect
from shared.bus.outbox import Outbox
from shared.contracts.configuration import FORMS, told_parameters, told_response
from shared.contracts.events.sync import ChargerOperationFinished, ChargerOperationRequested
from shared.contracts.identity import Actor, Cause
from shared.contracts.problem import Conflict, Invalid
from shared.contracts.requests.sync import OperateCharger, OperationResult
from shared.database.engine import Database, Write
from shared.runtime.clock import Clock, NewId
from shared.runtime.log import get_logger

log = get_logger(__name__)

# Both, and the moment in between, end before the database gives up the command's transaction, which waits meanwhile
# (`IDLE_IN_TRANSACTION_MS`): its outcome could not be recorded any more.
SAME_STEVE_WITHIN_S: Final = 8.0
# SteVe answers within 30 s, and is waited for for 35; one that trickles must not take longer either.
CALL_WITHIN_S: Final = 38.0
# What has no outcome after this was under way in a process that died, or lost its database, by whichever clock.
ABANDONED_AFTER: Final = timedelta(seconds=90) + AHEAD


class OperationRunning(Conflict):
    code, title = "operation_running", "The same operation is under way"

    def __init__(self, request: OperateCharger) -> None:
        super().__init__(
            f"{request.operation} of {request.charge_box_id} has been asked for and has no outcome yet. Wait for it."
        )


class Operations:
    """`same_steve` raises where the SteVe that answers is another one, whose chargers are not ours. It goes on where it
    is not waited for any longer.
    """

    def __init__(
        self,
        steve: SteveClient,
        database: Database,
        outbox: Outbox,
        *,
        clock: Clock,
        new_id: NewId,
        same_steve: Callable[[], Awaitable[None]],
    ) -> None:
        self._steve, self._database, self._outbox = steve, database, outbox
        self._clock, self._new_id, self._same_steve = clock, new_id, same_steve

    async def operate_charger(
        self, tx: Write, request: OperateCharger, cause: Cause, effect: Effect
    ) -> OperationResult:
        """Call the charger and wait for its answer.

        What was asked for is committed before the call; its outcome is recorded however late it comes. What may be a
        secret goes to SteVe and nowhere else, so two that differ in nothing but that are the same.

        :raises Invalid: SteVe's form of the operation has no such parameter.
        :raises OperationRunning: somebody has the same under way.
        """
        _refuse_others(request)
        # Before it counts as begun: this may take long, and `abandoned` is reckoned from the beginning.
        obstacle = await self._obstacle()
        asked_at, operation_id = self._clock(), self._new_id()
        because, told = cause, told_parameters(request.parameters)

        async def note(beside: Write) -> None:
            nonlocal because
            await store.lock_charger(beside, request.charge_box_id)
            if await store.running(beside, request.charge_box_id, request.operation, told) is not None:
                raise OperationRunning(request)
            await store.begin(
                beside,
                operation_id=operation_id,
                charge_box_id=request.charge_box_id,
                name=request.operation,
                parameters=told,
                by=cause.actor.id,
                at=asked_at,
            )
            requested = ChargerOperationRequested(
                operation_id=operation_id,
                charge_box_id=request.charge_box_id,
                operation=request.operation,
                parameters=told,
            )
            requested_id = await self._outbox.add(beside, requested, cause)
            because = cause.model_copy(update={"causation_id": requested_id})

        await effect.begin(note)
        outcome, response, problem = obstacle or await self._call(request, quoting=told == request.parameters)
        answered_at = self._clock()
        recorded = await store.finish(
            tx, operation_id, outcome=outcome, response=told_response(response), problem=problem, at=answered_at
        )
        if recorded:
            finished = ChargerOperationFinished(
                operation_id=operation_id,
                charge_box_id=request.charge_box_id,
                operation=request.operation,
                outcome=outcome,
                problem=problem,
            )
            await self._outbox.add(tx, finished, because)
        return OperationResult(
            charge_box_id=request.charge_box_id,
            operation=request.operation,
            outcome=outcome,
            response=response,
            problem=problem,
            asked_at=asked_at,
            answered_at=answered_at,
        )

    async def _obstacle(self) -> Outcome | None:
        """Why no charger is to be called, if so."""
        if not self._steve.version.has_operations:
            return "failed", {}, "This SteVe has no operations in its API; it takes release 3.11 or later."
        try:
            async with asyncio.timeout(SAME_STEVE_WITHIN_S):
                await self._same_steve()
        except UpstreamError as error:
            return "failed", {}, f"SteVe {error.explanation}; nothing was done."
        except TimeoutError:
            return "failed", {}, "SteVe did not answer in time; nothing was done."
        return None

    async def _call(self, request: OperateCharger, *, quoting: bool) -> Outcome:
        parameters = {**request.parameters, "chargeBoxIdList": [request.charge_box_id]}
        try:
            async with asyncio.timeout(CALL_WITHIN_S):
                result = await self._steve.operate(request.operation, parameters, quoting=quoting)
        except UpstreamError as error:
            return rules.outcome_of_error(error)
        except TimeoutError:
            return "unknown", {}, "SteVe did not answer in time; it may have been done."
        return rules.outcome_of(result, quoting=quoting)

    async def close_abandoned(self) -> None:
        """Operations of a process that died, or could not record their outcome: nobody knows, and it is said so."""
        async with self._database.write() as tx:
            now = self._clock()
            for row in await store.abandoned(tx, before=now - ABANDONED_AFTER):
                problem = "ExpresSync was stopped, or lost its database, before the answer came; it may have been done."
                if await store.finish(tx, row.operation_id, outcome="unknown", response={}, problem=problem, at=now):
                    finished = ChargerOperationFinished(
                        operation_id=row.operation_id,
                        charge_box_id=row.charge_box_id,
                        operation=row.operation,
                        outcome="unknown",
                        problem=problem,
                    )
                    cause = Cause(actor=Actor(kind="system", id="sync"), correlation_id=self._new_id())
                    await self._outbox.add(tx, finished, cause)


def _refuse_others(request: OperateCharger) -> None:
    """:raises Invalid: for a name that SteVe would not read, and say at best that another one is missing."""
    form = FORMS[request.operation]
    others = sorted(set(request.parameters) - form)
    if others:
        what = f"{', '.join(others)} {'is no parameter' if len(others) == 1 else 'are no parameters'}"
        takes = f"It takes {', '.join(sorted(form))}" if form else "It takes none"
        raise Invalid(f"{what} of {request.operation}. {takes}; upper and lower case differ. Nothing was done.")
