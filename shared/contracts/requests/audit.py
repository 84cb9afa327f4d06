"""What others may ask audit."""

from typing import Any, ClassVar
from uuid import UUID

from pydantic import AwareDatetime, Field

from shared.contracts.identity import ActorKind, Frozen
from shared.contracts.request import MAX_ROWS, Request


class EntryView(Frozen):
    """An event as it was recorded. `known` is False for a type or schema version newer than this program."""

    position: int
    event_id: UUID
    type: str
    source: str
    subject: str
    subject_version: int
    time: AwareDatetime
    recorded_at: AwareDatetime
    actor_kind: ActorKind
    actor_id: str
    correlation_id: UUID
    causation_id: UUID | None
    data_schema: str
    known: bool
    data: dict[str, Any]


class EntryPage(Frozen):
    entries: list[EntryView]
    next_cursor: str | None = None


class SearchEntries(Request[EntryPage]):
    """Newest first. Each filter that is given must match; `subject` matches exactly (`card/04A1B2C3`)."""

    name: ClassVar[str] = "search_entries"
    owner: ClassVar[str] = "audit"
    reply = EntryPage
    subject: str | None = None
    type: str | None = None
    actor_kind: ActorKind | None = None
    actor_id: str | None = None
    correlation_id: UUID | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    limit: int = Field(50, ge=1, le=MAX_ROWS)
    cursor: str | None = None


class GetEntry(Request[EntryView]):
    name: ClassVar[str] = "get_entry"
    owner: ClassVar[str] = "audit"
    reply = EntryView
    event_id: UUID
