"""How far sync sees: silence about a session, or its end, says something only of a time that sync has looked at."""

from datetime import datetime, timedelta
from typing import Final, Protocol

from shared.bus.requests import NoAnswerError
from shared.contracts.identity import Actor
from shared.contracts.problem import RemoteProblem
from shared.contracts.requests.sync import GetUpstreams, UpstreamList
from shared.runtime.log import get_logger

log = get_logger(__name__)

# SteVe is asked for sessions every few seconds, and what was found is on its way for a moment.
SETTLES: Final = timedelta(seconds=30)
ANSWER_WITHIN_S: Final = 3.0

_ACTOR: Final = Actor(kind="system", id="preauth")


class Asks(Protocol):
    """What is needed of a `Requester`."""

    async def ask(self, request: GetUpstreams, *, actor: Actor, deadline_s: float, at_once: bool) -> UpstreamList: ...


class Sight:
    """Sync's, asked for when it is needed."""

    def __init__(self, requester: Asks) -> None:
        self._requester = requester

    async def reaches(self) -> datetime | None:
        """What sessions in SteVe did until then is known; None: nobody can say, or SteVe does not answer sync."""
        try:
            found = await self._requester.ask(GetUpstreams(), actor=_ACTOR, deadline_s=ANSWER_WITHIN_S, at_once=True)
        except (NoAnswerError, RemoteProblem) as error:
            log.debug("Sync does not say how far it sees.", action="evidence.no_sight", error=str(error))
            return None
        for upstream in found.upstreams:
            if upstream.upstream == "steve" and upstream.state == "ok" and upstream.checked_at is not None:
                return upstream.checked_at - SETTLES
        return None
