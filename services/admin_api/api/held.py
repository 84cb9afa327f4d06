"""The held queue: sessions that are not billed, why, and what can be done about each."""

from typing import Annotated, Self

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, Field, model_validator

from services.admin_api.api.deps import AsOperator, AsViewer, Cursor, Key, Limit
from services.admin_api.api.paging import Page
from services.admin_api.api.problems import documented
from services.admin_api.asking import Ask
from shared.contracts.identity import Frozen
from shared.contracts.request import MAX_ROWS
from shared.contracts.requests.sync_work import (
    HeldChanged,
    HeldClass,
    HeldView,
    IgnoreHeld,
    ReleaseHeld,
    RetryHeld,
    SearchHeld,
)


class HeldList(Page[HeldView]):
    """`classes` are over the whole queue, whatever the filter."""

    classes: list[HeldClass]


class RetryBody(Frozen):
    """Exactly one of the three."""

    sessions: list[str] = Field(default_factory=list, max_length=MAX_ROWS)
    reason: str | None = Field(None, max_length=100, description="all that are held for it")
    everything: bool = False

    @model_validator(mode="after")
    def _one(self) -> Self:
        if [bool(self.sessions), self.reason is not None, self.everything].count(True) != 1:
            raise ValueError("give either sessions, or a reason, or everything")
        return self


class IgnoreBody(Frozen):
    sessions: list[str] = Field(min_length=1, max_length=MAX_ROWS)
    note: str = Field(min_length=1, max_length=1000, description="why they are not to be billed")


class ReleaseBody(Frozen):
    """Either sessions, or a card and since when: then only what never had an owner."""

    sessions: list[str] = Field(default_factory=list, max_length=MAX_ROWS)
    card: str | None = Field(None, min_length=1, max_length=64, description="idTag")
    since: AwareDatetime | None = Field(None, description="sessions of the card that began then or later")
    change_owner: bool = Field(
        default=False,
        description="also sessions that are another customer's than the card's of now; only with sessions",
    )
    note: str | None = Field(None, max_length=1000)

    @model_validator(mode="after")
    def _either(self) -> Self:
        by_card = self.card is not None and self.since is not None
        if by_card == bool(self.sessions) or (self.card is None) != (self.since is None):
            raise ValueError("give either sessions, or a card and since when")
        if self.change_owner and not self.sessions:
            raise ValueError("only sessions that are named change their owner")
        return self


async def list_held(
    ask: Ask,
    *,
    reason: str | None = None,
    card: str | None = None,
    charger: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> HeldList:
    """Longest held first. :raises NoAnswerError, RemoteProblem: sync does not answer, or refuses."""
    found = await ask(SearchHeld(reason=reason, id_tag=card, charge_box_id=charger, limit=limit, cursor=cursor))
    return HeldList(items=found.held, classes=found.classes, next_cursor=found.next_cursor)


async def release_held(ask: Ask, body: ReleaseBody, key: str) -> HeldChanged:
    """:raises NoAnswerError: unknown whether it was done; the same key finds out. :raises RemoteProblem: refused."""
    request = ReleaseHeld(
        sessions=body.sessions, id_tag=body.card, since=body.since, change_owner=body.change_owner, note=body.note
    )
    return await ask.change(request, key)


router = APIRouter(prefix="/held", tags=["held"], responses=documented(401, 403, 422, 503, 504))
_changing = documented(400, 404, 409)


@router.get("")
async def get_held(
    ask: AsViewer,
    *,
    reason: Annotated[str | None, Query(max_length=100, description="such as card_unlinked")] = None,
    card: Annotated[str | None, Query(max_length=64, description="idTag")] = None,
    charger: Annotated[str | None, Query(max_length=255, description="chargeBoxId")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> HeldList:
    """Held sessions, longest held first, with what waits in each, and the whole queue by reason."""
    return await list_held(ask, reason=reason, card=card, charger=charger, limit=limit, cursor=cursor)


@router.post("/retry", responses=_changing)
async def post_retry(ask: AsOperator, body: RetryBody, key: Key) -> HeldChanged:
    """Decide again about sessions, about all held for one reason, or about all. Nothing is let pass.

    Of a session that is named and was ignored, that is taken back.
    """
    return await ask.change(RetryHeld(sessions=body.sessions, reason=body.reason, everything=body.everything), key)


@router.post("/ignore", responses=_changing)
async def post_ignore(ask: AsOperator, body: IgnoreBody, key: Key) -> HeldChanged:
    """Decide that sessions are not billed; the note stays with them. A retry that names them takes it back."""
    return await ask.change(IgnoreHeld(sessions=body.sessions, note=body.note), key)


@router.post("/release", responses=_changing)
async def post_release(ask: AsOperator, body: ReleaseBody, key: Key) -> HeldChanged:
    """Bill sessions although they are held: what they are held for is let pass, or they get the card's owner of now.

    One that is another customer's already is refused, or with `change_owner` told in `owners_changed`.
    """
    return await release_held(ask, body, key)
