"""Answers to what others ask about taps."""

from datetime import datetime, timedelta
from uuid import UUID

from services.preauth.decision import store
from services.preauth.decision.projections import sessions_known_until
from shared.contracts.identity import Cause
from shared.contracts.problem import Invalid
from shared.contracts.requests.preauth import SearchTaps, TapPage
from shared.database.engine import Database
from shared.runtime.clock import Clock


class Taps:
    """`session_within`: a session that begins later after a tap is not the tap's."""

    def __init__(self, database: Database, *, clock: Clock, session_within: timedelta) -> None:
        self._database, self._clock, self._session_within = database, clock, session_within

    async def search_taps(self, request: SearchTaps, _: Cause) -> TapPage:
        """:raises Invalid: on a cursor that did not come from a previous page."""
        before = position(request.cursor) if request.cursor else None
        async with self._database.read() as tx:
            # That sync told of no session says nothing of a time that it has not looked at.
            known_until = await sessions_known_until(tx)
            none_before = None if known_until is None else min(known_until, self._clock()) - self._session_within
            taps = await store.search(tx, request, before=before, none_before=none_before)
            last = taps[-1] if len(taps) == request.limit else None
            gaps = await store.gaps(
                tx,
                since=last.tapped_at if last else request.since,
                until=before[0] if before else request.until,
            )
        cursor = f"{last.tapped_at.isoformat()}_{last.tap_id}" if last else None
        return TapPage(taps=taps, gaps=gaps, next_cursor=cursor)


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
