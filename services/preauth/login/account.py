"""What a driver sees of the own card: asked of sync, and shown as unknown where sync does not answer."""

import asyncio
from dataclasses import dataclass
from typing import Final, TypeVar
from uuid import UUID

from pydantic import BaseModel

from shared.bus.requests import NoAnswerError, Requester
from shared.contracts.identity import Actor
from shared.contracts.problem import RemoteProblem
from shared.contracts.request import Request
from shared.contracts.requests.sync import CardView, GetCard, SearchSessions, SessionView
from shared.contracts.requests.sync_cards import GetPortalUrl

ASK_S: Final = 3.0
SESSIONS: Final = 10


NO_PORTAL: Final = ""

R = TypeVar("R", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class View:
    """`sessions` is None where nobody answered, and so is `portal`, which is `NO_PORTAL` where the card has none."""

    name: str | None
    answered: bool
    sessions: list[SessionView] | None
    portal: str | None


@dataclass(frozen=True, slots=True)
class Account:
    requester: Requester

    async def of(self, id_tag: str, session_id: UUID) -> View:
        """Never raises: what is not answered is None."""
        actor = Actor(kind="driver", id=str(session_id))
        (card, portal), page = await asyncio.gather(
            self._card(id_tag, actor), self._ask(SearchSessions(id_tag=id_tag, limit=SESSIONS), actor)
        )
        return View(
            name=card.display_name if card is not None else None,
            answered=card is not None,
            sessions=page.sessions if page is not None else None,
            portal=portal,
        )

    async def _card(self, id_tag: str, actor: Actor) -> tuple[CardView | None, str | None]:
        """The card, and the customer page of whom it is linked to."""
        card = await self._ask(GetCard(id_tag=id_tag), actor)
        if card is None:
            return None, None
        if card.link is None:
            return card, NO_PORTAL
        answer = await self._ask(GetPortalUrl(external_customer_id=card.link.external_customer_id), actor)
        if answer is None or not answer.answered:
            return card, None
        return card, address_of(answer.url)

    async def _ask(self, request: Request[R], actor: Actor) -> R | None:
        try:
            return await self.requester.ask(request, actor=actor, deadline_s=ASK_S)
        except (NoAnswerError, RemoteProblem):
            return None


def address_of(url: str | None) -> str:
    """The address, where a page may link to it: nothing but http and https."""
    return url if url is not None and url.lower().startswith(("https://", "http://")) else NO_PORTAL
