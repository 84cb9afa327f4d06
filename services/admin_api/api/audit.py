"""The audit log: everything that happened, as it was recorded."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import AwareDatetime

from services.admin_api.api.deps import AsViewer, Cursor, Limit
from services.admin_api.api.paging import Page
from services.admin_api.api.problems import documented
from services.admin_api.asking import Ask
from shared.contracts.identity import ActorKind
from shared.contracts.requests.audit import EntryView, GetEntry, SearchEntries


async def list_entries(
    ask: Ask,
    *,
    subject: str | None = None,
    type_: str | None = None,
    actor_kind: ActorKind | None = None,
    actor_id: str | None = None,
    correlation_id: UUID | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[EntryView]:
    """Entries, newest first. :raises NoAnswerError, RemoteProblem: audit does not answer, or refuses."""
    found = await ask(
        SearchEntries(
            subject=subject,
            type=type_,
            actor_kind=actor_kind,
            actor_id=actor_id,
            correlation_id=correlation_id,
            since=since,
            until=until,
            limit=limit,
            cursor=cursor,
        )
    )
    return Page(items=found.entries, next_cursor=found.next_cursor)


async def show_entry(ask: Ask, event_id: UUID) -> EntryView:
    """:raises RemoteProblem: 404 for an event that was not recorded (yet)."""
    return await ask(GetEntry(event_id=event_id))


router = APIRouter(prefix="/audit/entries", tags=["audit"], responses=documented(401, 403, 422, 503, 504))

Text = Annotated[str | None, Query(max_length=300)]


@router.get("")
async def get_entries(
    ask: AsViewer,
    *,
    subject: Annotated[str | None, Query(max_length=300, description="such as `card/04A1B2C3`, exactly")] = None,
    type: Text = None,  # noqa: A002 - CloudEvents' name for it
    actor_kind: ActorKind | None = None,
    actor_id: Text = None,
    correlation_id: UUID | None = None,
    since: AwareDatetime | None = None,
    until: AwareDatetime | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[EntryView]:
    """Recorded events, newest first; each filter that is given must match."""
    return await list_entries(
        ask,
        subject=subject,
        type_=type,
        actor_kind=actor_kind,
        actor_id=actor_id,
        correlation_id=correlation_id,
        since=since,
        until=until,
        limit=limit,
        cursor=cursor,
    )


@router.get("/{event_id}", responses=documented(404))
async def get_entry(ask: AsViewer, event_id: UUID) -> EntryView:
    """One recorded event."""
    return await show_entry(ask, event_id)
