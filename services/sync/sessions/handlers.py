"""Answers to what others ask about sessions."""

from datetime import datetime

from services.sync.sessions import store
from shared.contracts.cursor import is_number, not_ours, read_number
from shared.contracts.identity import Cause
from shared.contracts.problem import Invalid, NotFound
from shared.contracts.requests.sync import GetSession, SearchSessions, SessionPage, SessionView
from shared.database.engine import Database


class SessionUnknown(NotFound):
    code, title = "session_unknown", "There is no such session"

    def __init__(self, session: str) -> None:
        super().__init__(
            f"No session {session} is known; a new one is seen within seconds of its start.", session=session
        )


def parse_session(session: str) -> tuple[str, int]:
    """`<steve_id>:<transaction pk>`. :raises SessionUnknown: for what is not written so."""
    steve_id, colon, pk = session.rpartition(":")
    if not (colon and steve_id and is_number(pk)):
        raise SessionUnknown(session)
    return steve_id, int(pk)


def read_cursor(cursor: str) -> tuple[datetime, int]:
    """:raises Invalid: on a cursor that did not come from a page before."""
    moment, _, pk = cursor.rpartition("/")
    try:
        return datetime.fromisoformat(moment), read_number(pk)
    except (ValueError, Invalid) as error:
        raise not_ours(cursor) from error


class SessionQueries:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def search_sessions(self, request: SearchSessions, _: Cause) -> SessionPage:
        before = read_cursor(request.cursor) if request.cursor else None
        async with self._database.read() as tx:
            found = await store.search(tx, request, before=before)
        if len(found) < request.limit:
            return SessionPage(sessions=found)
        last = found[-1]
        return SessionPage(
            sessions=found, next_cursor=f"{last.started_at.isoformat()}/{parse_session(last.session)[1]}"
        )

    async def get_session(self, request: GetSession, _: Cause) -> SessionView:
        async with self._database.read() as tx:
            found = await store.get(tx, *parse_session(request.session))
        if found is None:
            raise SessionUnknown(request.session)
        return found
