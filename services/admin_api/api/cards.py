"""Cards: the list, one card with all that is known of it, and to whom it is billed."""

import asyncio
from typing import Annotated, Final

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, Field

from services.admin_api.answers import Part, Silent
from services.admin_api.api.deps import AsOperator, AsViewer, CardPath, Cursor, Key, Limit
from services.admin_api.api.paging import Page
from services.admin_api.api.problems import documented
from services.admin_api.asking import Ask
from services.admin_api.diagnosis.evidence import gather
from services.admin_api.diagnosis.model import Diagnosis, Evidence, SteveNow
from services.admin_api.diagnosis.rules import diagnose
from shared.contracts.identity import Frozen
from shared.contracts.problem import NotFound
from shared.contracts.requests.audit import EntryView
from shared.contracts.requests.preauth import ChargerView, GapView, PairingView, TapView
from shared.contracts.requests.sync import CardView, GetCard, LinkCard, SearchCards, SessionView, SubscriptionView
from shared.contracts.requests.sync_cards import LinkPreview, PreviewLink, RelinkCard


class NoSuchCard(NotFound):
    code, title = "no_such_card", "Nobody knows this card"

    def __init__(self, id_tag: str) -> None:
        super().__init__(
            f"Neither SteVe nor ExpresSync knows {id_tag}, and no tap of it was seen. Compare it with the idTag on the "
            "card; a new card is known after its first tap."
        )


CHILDREN_SHOWN: Final = 12


class CardDetails(Frozen):
    """All that is known of a card, each part answered or not. `card`: what ExpresSync keeps; `steve`: asked now."""

    id_tag: str
    card: Part[CardView | None]
    steve: Part[SteveNow]
    subscription: Part[SubscriptionView | None] | None = Field(
        description="of the link that applies; null where there is none"
    )
    above: Part[CardView | None] | None = Field(
        None, description="the nearest card above it that has a link, where it has none: that link applies"
    )
    children: list[Part[CardView | None]] = Field(
        description=f"the first {CHILDREN_SHOWN} cards below it, as last read from SteVe; `card` names them all"
    )
    sessions: Part[list[SessionView]]
    taps: Part[list[TapView]]
    gaps: list[GapView] = Field(default_factory=list, description="taps that are missing between these, of any card")
    charger: Part[ChargerView | None] | None = Field(description="where it was tapped last; null where it never was")
    pairings: Part[list[PairingView]] = Field(description="armed now, at any charger")
    timeline: Part[list[EntryView]] = Field(description="what was recorded about the card, newest first")
    diagnosis: Diagnosis


class LinkBody(Frozen):
    external_customer_id: str = Field(min_length=1, max_length=255)
    external_subscription_id: str = Field(min_length=1, max_length=255)
    valid_from: AwareDatetime | None = Field(None, description="default: now")
    release_from: AwareDatetime | None = Field(
        None, description="also bill what is held for want of this link and began then or later; null: nothing"
    )


async def list_cards(
    ask: Ask, *, text: str | None = None, linked: bool | None = None, limit: int = 50, cursor: str | None = None
) -> Page[CardView]:
    """Cards by idTag. :raises NoAnswerError, RemoteProblem: sync does not answer, or refuses."""
    found = await ask(SearchCards(text=text, linked=linked, limit=limit, cursor=cursor))
    return Page(items=found.cards, next_cursor=found.next_cursor)


async def find_card(ask: Ask, id_tag: str) -> CardView:
    """What ExpresSync keeps of one card. :raises NoAnswerError: unknown. :raises RemoteProblem: 404, no such card."""
    return await ask(GetCard(id_tag=id_tag))


async def show_card(ask: Ask, id_tag: str) -> tuple[CardDetails, Evidence]:
    """Everything about one card, and the evidence behind its diagnosis.

    :raises NoSuchCard: where everybody answered, and nobody knows it.
    """
    evidence = await gather(ask, id_tag)
    if _nobody_knows(evidence):
        raise NoSuchCard(evidence.id_tag)
    details = CardDetails(
        id_tag=evidence.id_tag,
        card=evidence.known,
        steve=evidence.steve,
        subscription=evidence.subscription,
        above=evidence.above,
        children=await _children(ask, evidence),
        sessions=evidence.sessions,
        taps=evidence.taps,
        gaps=evidence.gaps,
        charger=evidence.charger,
        pairings=evidence.pairings,
        timeline=evidence.changes,
        diagnosis=diagnose(evidence),
    )
    return details, evidence


async def link_card(ask: Ask, id_tag: str, body: LinkBody, key: str, *, again: bool = False) -> CardView:
    """Bill the card's sessions to a subscription from a time on; `again` where it is linked already.

    :raises NoAnswerError: unknown whether it was done; the same key finds out. :raises RemoteProblem: refused.
    """
    request = RelinkCard if again else LinkCard
    return await ask.change(request(id_tag=id_tag, **body.model_dump()), key)


async def preview_link(ask: Ask, id_tag: str, body: LinkBody) -> LinkPreview:
    """What a link would change. :raises NoAnswerError, RemoteProblem: sync does not answer, or refuses."""
    return await ask(PreviewLink(id_tag=id_tag, **body.model_dump()))


async def _children(ask: Ask, evidence: Evidence) -> list[Part[CardView | None]]:
    known = evidence.known
    names = [] if isinstance(known, Silent) or known.value is None else known.value.children[:CHILDREN_SHOWN]
    return list(await asyncio.gather(*(ask.part_or_none(GetCard(id_tag=name)) for name in names)))


def _nobody_knows(evidence: Evidence) -> bool:
    known, steve, taps, sessions = evidence.known, evidence.steve, evidence.taps, evidence.sessions
    if isinstance(known, Silent) or isinstance(steve, Silent) or isinstance(taps, Silent):
        return False
    nothing = known.value is None and steve.value.card is None and not taps.value
    return nothing and not isinstance(sessions, Silent) and not sessions.value


router = APIRouter(prefix="/cards", tags=["cards"], responses=documented(401, 403, 422, 503))


@router.get("", responses=documented(504))
async def get_cards(
    ask: AsViewer,
    q: Annotated[str | None, Query(max_length=100, description="part of the idTag or of the display name")] = None,
    linked: Annotated[bool | None, Query(description="only cards that are, or are not, linked")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[CardView]:
    """Cards, ordered by idTag."""
    return await list_cards(ask, text=q, linked=linked, limit=limit, cursor=cursor)


@router.get("/{id_tag}", responses=documented(404))
async def get_card(ask: AsViewer, id_tag: CardPath) -> CardDetails:
    """One card: what ExpresSync keeps, what SteVe and Lago say now, sessions, taps, timeline, diagnosis.

    A part whose owner does not answer says so; the others are there all the same.
    """
    details, _ = await show_card(ask, id_tag)
    return details


@router.post("/{id_tag}/link", responses=documented(400, 404, 409, 504))
async def post_link(ask: AsOperator, id_tag: CardPath, body: LinkBody, key: Key) -> CardView:
    """Link the card: sessions that start at or after `valid_from` are billed to the subscription."""
    return await link_card(ask, id_tag, body, key)


@router.post("/{id_tag}/relink", responses=documented(400, 404, 409, 504))
async def post_relink(ask: AsOperator, id_tag: CardPath, body: LinkBody, key: Key) -> CardView:
    """Move a linked card: sessions that start at or after `valid_from` are billed to the other subscription."""
    return await link_card(ask, id_tag, body, key, again=True)


@router.get("/{id_tag}/link-preview", responses=documented(404, 504))
async def get_link_preview(
    ask: AsViewer,
    id_tag: CardPath,
    *,
    external_customer_id: Annotated[str, Query(min_length=1, max_length=255)],
    external_subscription_id: Annotated[str, Query(min_length=1, max_length=255)],
    valid_from: AwareDatetime | None = None,
    release_from: Annotated[AwareDatetime | None, Query(description="default: valid_from")] = None,
) -> LinkPreview:
    """What a link would change, and why it would be refused. Changes nothing."""
    body = LinkBody(
        external_customer_id=external_customer_id,
        external_subscription_id=external_subscription_id,
        valid_from=valid_from,
        release_from=release_from,
    )
    return await preview_link(ask, id_tag, body)
