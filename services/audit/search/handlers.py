"""Answers to what others ask audit."""

from typing import Final

from services.audit.search import store
from shared.contracts.cursor import read_number
from shared.contracts.identity import Cause
from shared.contracts.problem import NotFound
from shared.contracts.request import MAX_REPLY_BYTES
from shared.contracts.requests.audit import EntryPage, EntryView, GetEntry, SearchEntries
from shared.database.engine import Database

PAGE_BYTES: Final = MAX_REPLY_BYTES - 1024
"""What the entries of a page may take; the rest is for what stands around them."""


class Search:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def search_entries(self, request: SearchEntries, _: Cause) -> EntryPage:
        """A page ends where it is full, by number or by size; the cursor goes on from there.

        :raises Invalid: on a cursor that did not come from a previous page.
        """
        before = read_number(request.cursor) if request.cursor is not None else None
        async with self._database.read() as tx:
            found = await store.search(tx, request, before=before)
        entries = fitting(found)
        more = len(found) == request.limit or len(entries) < len(found)
        return EntryPage(entries=entries, next_cursor=str(entries[-1].position) if more else None)

    async def get_entry(self, request: GetEntry, _: Cause) -> EntryView:
        """:raises NotFound: for an event that was not recorded (yet)."""
        async with self._database.read() as tx:
            found = await store.get(tx, request.event_id)
        if found is None:
            raise NotFound(f"No event {request.event_id} is recorded; it may still be on its way.")
        return portable(found)


def fitting(found: list[EntryView]) -> list[EntryView]:
    """As many of the first entries as one reply can carry, at least one of those there are."""
    kept: list[EntryView] = []
    left = PAGE_BYTES
    for entry in map(portable, found):
        left -= _size(entry)
        if left < 0:
            break
        kept.append(entry)
    return kept


def portable(entry: EntryView) -> EntryView:
    """The entry, or what can be told of it where no reply could carry its data: it must not block the pages."""
    size = _size(entry)
    if size <= PAGE_BYTES:
        return entry
    return entry.model_copy(update={"data": {"omitted": f"{size} bytes, more than one reply can carry"}})


def _size(entry: EntryView) -> int:
    """Bytes on the wire, with the comma."""
    return len(entry.model_dump_json().encode()) + 1
