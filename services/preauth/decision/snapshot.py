"""Where the projections start: the cards and open sessions that there were before their events were followed."""

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
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
                    now = self._clock()
                    for session in some_sessions:
                        is_told = now - SESSIONS_OF < session.started_at <= now
                        await session_started(
                            tx,
                            charge_box_id=session.charge_box_id,
                            transaction_id=transaction_id_of(session.session),
                            connector_id=session.connector_id,
                            id_tag=IdTag(session.id_tag),
                            started_at=session.started_at,
                            # When it was seen is not told, unless by a station whose clock may be right.
                            seen_at=session.started_at if is_told else now,
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
        """Those of the last day. A station's clock may be decades off, so SteVe's own count says what is older: it is
        what was counted before the first session that began since. Where none did, it is what was counted up to the
        newest one that is older, by another station's clock; where there is none either, nobody can say, and all are
        open.
        """
        since, now = self._clock() - SESSIONS_OF, self._clock()
        first: dict[str, int] = {}
        older: defaultdict[str, dict[str, int]] = defaultdict(dict)
        async for some in self._sessions(open_only=False):
            for one in some:
                if since < one.started_at <= now:
                    steve, pk = _counted(one)
                    first[steve] = min(pk, first.get(steve, pk))
                elif one.started_at <= since:
                    older[_counted(one)[0]].setdefault(one.charge_box_id, _counted(one)[1])
            if some and some[-1].started_at <= since:
                break
        async for some in self._sessions(open_only=True):
            yield [one for one in some if _counted(one)[1] >= _from(one, first, older)]

    async def _sessions(self, *, open_only: bool) -> AsyncIterator[list[SessionView]]:
        """Newest first, as their stations say."""
        cursor: str | None = None
        while True:
            request = SearchSessions(open_only=open_only, limit=PAGE, cursor=cursor)
            page = await self._requester.ask(request, actor=_ACTOR)
            yield page.sessions
            if (cursor := page.next_cursor) is None:
                return


def _from(session: SessionView, first: Mapping[str, int], older: Mapping[str, Mapping[str, int]]) -> int:
    """The lowest number at its SteVe that is of the last day."""
    steve, _ = _counted(session)
    if steve in first:
        return first[steve]
    others = (pk + 1 for charge_box_id, pk in older.get(steve, {}).items() if charge_box_id != session.charge_box_id)
    return next(others, 0)


def _counted(session: SessionView) -> tuple[str, int]:
    """Which SteVe's, and its number there."""
    return session.session.rpartition(":")[0], transaction_id_of(session.session)
