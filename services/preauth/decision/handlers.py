"""Answers to what others ask about taps."""

from datetime import datetime
from uuid import UUID

from services.preauth.decision import store
from shared.contracts.identity import Cause
from shared.contracts.problem import Invalid
from shared.contracts.requests.preauth import SearchTaps, TapPage
from shared.database.engine import Database


class Taps:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def search_taps(self, request: SearchTaps, _: Cause) -> TapPage:
        """:raises Invalid: on a cursor that did not come from a previous page."""
        before = position(request.cursor) if request.cursor else None
        async with self._database.read() as tx:
            taps = await store.search(tx, request, before=before)
        more = len(taps) == request.limit
        last = taps[-1] if taps else None
        return TapPage(taps=taps, next_cursor=f"{last.tapped_at.isoformat()}_{last.tap_id}" if more and last else None)


def position(cursor: str) -> tuple[datetime, UUID]:
    """Where a page ended, as `<time>_<id>`.

    :raises Invalid: when it is none of ours.
    """
    try:
        at, _, row_id = cursor.partition("_")
        found = datetime.fromisoformat(at), UUID(row_id)
    except ValueError:
        found = None
    if found is None or found[0].tzinfo is None:
        raise Invalid(f"The cursor {cursor!r} is none of ours; start again without one.")
    return found
