"""Where the projections start: the cards and open sessions that there were before their events were followed."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Final, Protocol, TypeVar

from pydantic import BaseModel
from sqlalchemy.dialects import postgresql as pg

from services.preauth.decision.projections import put_parent, session_started, transaction_id_of
from services.preauth.tables import snapshot
from shared.bus.requests import NoAnswerError
from shared.contracts.identity import Actor, IdTag
from shared.contracts.problem import RemoteProblem
from shared.contracts.request import Request
from shared.contracts.requests.sync import SearchSessions, SessionView
from shared.contracts.requests.sync_cards import CardSnapshot, SnapshotCards
from shared.database.engine import Database
from shared.runtime.clock import Clock
from shared.runtime.log import get_logger

log = get_logger(__name__)

R = TypeVar("R", bound=BaseModel)

# Older ones do not count at a tap any more.
SESSIONS_OF: Final = timedelta(days=1)
PAGE: Final = 200

_WHAT: Final = "cards and open sessions"
_ACTOR: Final = Actor(kind="system", id="preauth")


class Asks(Protocol):
    """What the job needs of a `Requester`, which is connected when the queue for the events that follow is bound."""

    @property
    def connected(self) -> bool: ...

    async def ask(self, request: Request[R], *, actor: Actor) -> R: ...


class Snapshot:
    """Taken once in the life of the database; `take` is called until it is."""

    def __init__(self, database: Database, requester: Asks, *, clock: Clock) -> None:
        self._database, self._requester, self._clock = database, requester, clock
        self._taken = False

    async def take(self) -> None:
        """Ask sync for everything, page by page. Nobody there: the next turn asks again, from the beginning."""
        if self._taken or not self._requester.connected:
            return
        async with self._database.read() as tx:
            self._taken = (await tx.execute(snapshot.select().where(snapshot.c.what == _WHAT))).first() is not None
        if self._taken:
            return
        cards = sessions = 0
        try:
            async for some_cards in self._cards():
                async with self._database.write() as tx:
                    for one in some_cards:
                        await put_parent(tx, IdTag(one.id_tag), one.parent_id_tag, one.subject_version)
                cards += len(some_cards)
            async for some_sessions in self._open_sessions():
                async with self._database.write() as tx:
                    for session in some_sessions:
                        await session_started(
                            tx,
                            charge_box_id=session.charge_box_id,
                            transaction_id=transaction_id_of(session.session),
                            connector_id=session.connector_id,
                            id_tag=IdTag(session.id_tag),
                            started_at=session.started_at,
                            # When it was seen is not told; what is to come was not seen yet.
                            seen_at=min(session.started_at, self._clock()),
                            session=session.session,
                        )
                sessions += len(some_sessions)
        except (NoAnswerError, RemoteProblem) as error:
            log.info("What sync knows of cards was not told yet.", action="snapshot.not_taken", error=str(error))
            return
        async with self._database.write() as tx:
            await tx.execute(pg.insert(snapshot).values(what=_WHAT, taken_at=self._clock()).on_conflict_do_nothing())
        self._taken = True
        log.info("Cards and open sessions are known.", action="snapshot.taken", cards=cards, open_sessions=sessions)

    async def _cards(self) -> AsyncIterator[list[CardSnapshot]]:
        cursor: str | None = None
        while True:
            page = await self._requester.ask(SnapshotCards(limit=PAGE, cursor=cursor), actor=_ACTOR)
            yield page.cards
            if (cursor := page.next_cursor) is None:
                return

    async def _open_sessions(self) -> AsyncIterator[list[SessionView]]:
        """Newest first, as far back as they matter."""
        since, cursor = self._clock() - SESSIONS_OF, None
        while True:
            request = SearchSessions(open_only=True, limit=PAGE, cursor=cursor)
            page = await self._requester.ask(request, actor=_ACTOR)
            found = [one for one in page.sessions if one.started_at > since]
            yield found
            if (cursor := page.next_cursor) is None or len(found) < len(page.sessions):
                return
