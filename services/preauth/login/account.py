"""What a driver sees of the own card: asked of sync, and shown as unknown where sync does not answer."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from shared.bus.requests import NoAnswerError, Requester
from shared.contracts.identity import Actor
from shared.contracts.problem import RemoteProblem
from shared.contracts.requests.sync import GetCard, SearchSessions, SessionView

ASK_S: Final = 3.0
SESSIONS: Final = 10


@dataclass(frozen=True, slots=True)
class Account:
    requester: Requester

    async def of(self, id_tag: str, session_id: UUID) -> "View":
        """Never raises: what is not answered is None."""
        actor = Actor(kind="driver", id=str(session_id))
        name, answered = None, True
        try:
            card = await self.requester.ask(GetCard(id_tag=id_tag), actor=actor, deadline_s=ASK_S)
            name = card.display_name
        except (NoAnswerError, RemoteProblem):
            answered = False
        try:
            page = await self.requester.ask(
                SearchSessions(id_tag=id_tag, limit=SESSIONS), actor=actor, deadline_s=ASK_S
            )
        except (NoAnswerError, RemoteProblem):
            return View(name, answered, None)
        return View(name, answered, [Row(session) for session in page.sessions])


@dataclass(frozen=True, slots=True)
class Row:
    session: SessionView


@dataclass(frozen=True, slots=True)
class View:
    """`sessions` is None where nobody answered."""

    name: str | None
    answered: bool
    sessions: list[Row] | None
