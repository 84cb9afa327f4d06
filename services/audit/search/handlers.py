"""Answers to what others ask audit."""

from services.audit.search import store
from shared.contracts.identity import Cause
from shared.contracts.problem import Invalid, NotFound
from shared.contracts.requests.audit import EntryPage, EntryView, GetEntry, SearchEntries
from shared.database.engine import Database


class Search:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def search_entries(self, request: SearchEntries, _: Cause) -> EntryPage:
        """:raises Invalid: on a cursor that did not come from a previous page."""
        if request.cursor is not None and not request.cursor.isdigit():
            raise Invalid(f"The cursor {request.cursor!r} is none of ours; start again without one.")
        before = int(request.cursor) if request.cursor else None
        async with self._database.read() as tx:
            entries = await store.search(tx, request, before=before)
        more = len(entries) == request.limit
        return EntryPage(entries=entries, next_cursor=str(entries[-1].position) if more else None)

    async def get_entry(self, request: GetEntry, _: Cause) -> EntryView:
        """:raises NotFound: for an event that was not recorded (yet)."""
        async with self._database.read() as tx:
            found = await store.get(tx, request.event_id)
        if found is None:
            raise NotFound(f"No event {request.event_id} is recorded; it may still be on its way.")
        return found
