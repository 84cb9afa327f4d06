"""Asking the owners on behalf of whoever asked us."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar
from uuid import UUID

from pydantic import BaseModel

from services.admin_api.access.caller import Caller
from services.admin_api.answers import Answered, Part, silent
from shared.bus.requests import NoAnswerError, Requester
from shared.contracts.identity import Cause
from shared.contracts.problem import RemoteProblem
from shared.contracts.request import Request
from shared.contracts.requests.sync import OperateCharger
from shared.contracts.requests.sync_work import Reconcile
from shared.runtime.clock import Clock

R = TypeVar("R", bound=BaseModel)

# Without a broker an answer comes only if it returns at once; a page should not wait for it to its deadline.
DEADLINE_WITHOUT_BROKER_S: Final = 0.5
# Requests whose owner itself waits for others, longer than a page usually does.
PATIENCE_S: Final[Mapping[str, float]] = {
    Reconcile.name: 60.0,  # every subscription is read from SteVe and from Lago
    OperateCharger.name: 35.0,  # SteVe waits 30 s for a charger
}


@dataclass(frozen=True, slots=True)
class Ask:
    """One caller's questions and changes, all part of one chain (`correlation_id`).

    Deadlines in seconds; those in `PATIENCE_S` get theirs where it is longer.
    """

    requester: Requester
    caller: Caller
    correlation_id: UUID
    clock: Clock
    read_s: float
    change_s: float

    @property
    def cause(self) -> Cause:
        """The cause of what this caller makes happen here."""
        return Cause(actor=self.caller.actor, correlation_id=self.correlation_id)

    async def __call__(self, request: Request[R]) -> R:
        """:raises NoAnswerError: unknown. :raises RemoteProblem: refused."""
        return await self._ask(request, self.read_s, None)

    async def change(self, request: Request[R], key: str) -> R:
        """Have the owner change something, once per `key`.

        :raises NoAnswerError: unknown whether it was done; the same key finds out. :raises RemoteProblem: refused.
        """
        return await self._ask(request, self.change_s, key)

    async def part(self, request: Request[R]) -> Part[R]:
        """The answer as a part of a whole: neither silence nor a refusal spoils the rest."""
        asked_at = self.clock()
        try:
            return Answered(value=await self(request), as_of=asked_at)
        except NoAnswerError as error:
            return silent(error.owner, error.why, asked_at)
        except RemoteProblem as problem:
            return silent(request.owner, problem.detail, asked_at)

    async def part_or_none(self, request: Request[R]) -> Part[R | None]:
        """The same, where "there is none of that name" is an answer."""
        asked_at = self.clock()
        try:
            return Answered[R | None](value=await self(request), as_of=asked_at)
        except NoAnswerError as error:
            return silent(error.owner, error.why, asked_at)
        except RemoteProblem as problem:
            if problem.status == 404:
                return Answered[R | None](value=None, as_of=asked_at)
            return silent(request.owner, problem.detail, asked_at)

    async def _ask(self, request: Request[R], deadline_s: float, key: str | None) -> R:
        deadline_s = max(deadline_s, PATIENCE_S.get(request.name, 0.0))
        if not self.requester.connected:
            deadline_s = min(deadline_s, DEADLINE_WITHOUT_BROKER_S)
        return await self.requester.ask(
            request, actor=self.caller.actor, correlation_id=self.correlation_id, deadline_s=deadline_s, key=key
        )
