"""What a tap's decision must know of cards and sessions, kept beside the journal: parents and open sessions."""

from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.preauth.tables import card, open_session, remote_start, snapshot
from shared.contracts.event import Envelope
from shared.contracts.events.sync import (
    CardChanged,
    CardDiscovered,
    CardParentChanged,
    ChargerOperationFinished,
    ChargerOperationRequested,
    TransactionStarted,
    TransactionStopped,
)
from shared.contracts.identity import IdTag, id_tag_key
from shared.database.engine import Database, Read, Write
from shared.runtime.clock import Clock

KEPT: Final = timedelta(days=7)
# A station's clock that was further ahead of ours when its session was seen tells nothing of what came after.
AHEAD: Final = timedelta(minutes=1)
# A station may round its times, and what it tells takes a moment.
ROUNDED: Final = timedelta(seconds=10)
# A session is known so soon after it began; one that had run for longer may have begun while its charger was offline.
KNOWN_WITHIN: Final = timedelta(seconds=120)
# Sync looks at least every 20 s: what runs before our eyes was seen so soon after it began.
LOOKED_WITHIN: Final = timedelta(seconds=20) + ROUNDED
_NOT_STARTED: Final = frozenset({"rejected", "not_connected", "failed"})


class Projections:
    """Follows sync's events, and what the gateway saw. A lower version of a subject is old news and is ignored."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database, self._clock = database, clock

    async def card_discovered(self, tx: Write, event: CardDiscovered, envelope: Envelope) -> None:
        await put_parent(tx, IdTag(event.id_tag), event.parent_id_tag, envelope.subjectversion)

    async def card_changed(self, tx: Write, event: CardChanged, envelope: Envelope) -> None:
        if "parent_id_tag" in event.after:
            await put_parent(tx, IdTag(event.id_tag), event.after["parent_id_tag"], envelope.subjectversion)

    async def card_parent_changed(self, tx: Write, event: CardParentChanged, envelope: Envelope) -> None:
        await put_parent(tx, IdTag(event.id_tag), event.after, envelope.subjectversion)

    async def transaction_started(self, tx: Write, event: TransactionStarted, envelope: Envelope) -> None:
        await session_started(
            tx,
            charge_box_id=event.charge_box_id,
            transaction_id=transaction_id_of(event.session),
            connector_id=event.connector_id,
            id_tag=IdTag(event.id_tag),
            started_at=event.started_at,
            seen_at=self._seen_at(envelope),
            session=event.session,
            seen_running=True,
        )

    async def transaction_stopped(self, tx: Write, event: TransactionStopped, envelope: Envelope) -> None:
        # Both, so that a stop that overtakes its start leaves no session open.
        transaction_id = transaction_id_of(event.session)
        await session_started(
            tx,
            charge_box_id=event.charge_box_id,
            transaction_id=transaction_id,
            connector_id=event.connector_id,
            id_tag=IdTag(event.id_tag),
            started_at=event.started_at,
            seen_at=self._seen_at(envelope),
            session=event.session,
        )
        await session_stopped(
            tx,
            charge_box_id=event.charge_box_id,
            transaction_id=transaction_id,
            stopped_at=event.stopped_at,
            seen_at=self._seen_at(envelope),
            energy_wh=None if event.stop_wh is None or event.start_wh is None else event.stop_wh - event.start_wh,
        )

    async def operation_requested(self, tx: Write, event: ChargerOperationRequested, envelope: Envelope) -> None:
        """A remote start of this house; the gateway sees SteVe's other ones as well, where the charger is behind it."""
        card = event.parameters.get("idTag")
        if event.operation == "RemoteStartTransaction" and isinstance(card, str):
            await remote_start_asked(
                tx,
                charge_box_id=event.charge_box_id,
                id_tag=id_tag_key(card),
                # Its Authorize comes after it, whatever sync's clock says.
                at=self._seen_at(envelope),
                remote_start_id=event.operation_id,
            )

    async def operation_finished(self, tx: Write, event: ChargerOperationFinished, _: Envelope) -> None:
        """A remote start of this house that came to nothing; one without an answer may still be carried out."""
        if event.operation == "RemoteStartTransaction" and event.outcome in _NOT_STARTED:
            await remote_start_void(
                tx, charge_box_id=event.charge_box_id, at=self._clock(), remote_start_id=event.operation_id
            )

    def _seen_at(self, envelope: Envelope) -> datetime:
        """When sync saw it, by its own clock, which may be ahead of ours."""
        return min(envelope.time, self._clock())

    async def forget(self) -> None:
        """Delete sessions and remote starts that matter to no tap any more."""
        before = self._clock() - KEPT
        async with self._database.write() as tx:
            await tx.execute(open_session.delete().where(open_session.c.started_at < before))
            await tx.execute(remote_start.delete().where(remote_start.c.asked_at < before))


async def put_parent(tx: Write, id_tag: IdTag, parent: str | None, version: int) -> None:
    """Note a card's parent as of this version of its subject, unless a later one is known."""
    values: dict[str, Any] = {
        "parent_id_tag": id_tag_key(parent) if parent else None,
        "subject_version": version,
    }
    statement = pg.insert(card).values(id_tag=id_tag, **values)
    await tx.execute(
        statement.on_conflict_do_update(
            index_elements=[card.c.id_tag], set_=values, where=card.c.subject_version < version
        )
    )


async def session_started(
    tx: Write,
    *,
    charge_box_id: str,
    transaction_id: int,
    connector_id: int,
    id_tag: IdTag,
    started_at: datetime,
    seen_at: datetime,
    session: str | None = None,
    seen_running: bool = False,
) -> None:
    """A card began to charge, by SteVe's record or as the gateway saw it, whichever is known first.

    `started_at` is the station's clock; `seen_at` ours; `session` its whole name, where that is known; `seen_running`:
    SteVe had no end of it. The gateway alone cannot say so: a charger that was offline tells the end right after.

    The gateway cannot know which SteVe database an id is of, so an id may come again after SteVe was installed anew:
    what began later, and cannot be the session that is known, takes its place. Later as the station says, unless what
    it said of the known one was still to come when that was seen.
    """
    values: dict[str, Any] = {
        "connector_id": connector_id,
        "id_tag": id_tag,
        "started_at": seen_at,
        "station_started_at": started_at,
        "session": session,
        "seen_running": seen_running,
    }
    known = open_session.c
    statement = pg.insert(open_session).values(charge_box_id=charge_box_id, transaction_id=transaction_id, **values)
    later = sa.case(
        (known.station_started_at > known.started_at + AHEAD, known.started_at < seen_at),
        else_=known.station_started_at < started_at,
    )
    another = sa.or_(known.stopped_at < started_at, known.id_tag != id_tag, known.connector_id != connector_id)
    await tx.execute(
        statement.on_conflict_do_update(
            index_elements=[known.charge_box_id, known.transaction_id],
            set_={**values, "stopped_at": None, "energy_wh": None},
            where=sa.and_(later, another),
        )
    )
    if session is not None:
        # The gateway saw it first.
        nameless = open_session.update().where(
            known.charge_box_id == charge_box_id,
            known.transaction_id == transaction_id,
            known.id_tag == id_tag,
            known.session.is_(None),
        )
        # Whether one that the gateway saw end had run before our eyes, was said then.
        ran = sa.or_(known.seen_running, sa.and_(sa.literal(seen_running), known.stopped_at.is_(None)))
        await tx.execute(nameless.values(session=session, seen_running=ran))


async def session_stopped(
    tx: Write,
    *,
    charge_box_id: str,
    transaction_id: int,
    stopped_at: datetime,
    seen_at: datetime,
    live: bool = False,
    energy_wh: int | None = None,
) -> None:
    """A session ended; what flowed is known where its meter was read at both ends. `live`: the gateway saw it pass.

    The station's clock tells how long it ran, whatever it says the time was. Where that is far longer than it was seen,
    it was not seen from its beginning, though SteVe had no end of it for the moment between two messages. So it is
    where it is a little longer, too, and the station says that it was at another time.
    """
    seen_running, by_station = open_session.c.seen_running, open_session.c.station_started_at
    unseen = stopped_at - by_station - (sa.literal(seen_at) - open_session.c.started_at)
    dated_here = by_station.between(open_session.c.started_at - KNOWN_WITHIN, open_session.c.started_at + KNOWN_WITHIN)
    await tx.execute(
        open_session.update()
        .where(
            open_session.c.charge_box_id == charge_box_id,
            open_session.c.transaction_id == transaction_id,
        )
        .values(
            stopped_at=sa.func.coalesce(open_session.c.stopped_at, stopped_at),
            energy_wh=sa.func.coalesce(energy_wh, open_session.c.energy_wh),
            seen_running=sa.case(
                # That it ended now only the first word of its end says.
                (open_session.c.stopped_at.is_not(None), seen_running),
                (unseen > sa.case((dated_here, KNOWN_WITHIN), else_=LOOKED_WITHIN), sa.false()),
                else_=sa.or_(seen_running, unseen <= ROUNDED) if live else seen_running,
            ),
        )
    )


async def remote_start_asked(
    tx: Write, *, charge_box_id: str, id_tag: IdTag, at: datetime, remote_start_id: UUID
) -> None:
    """A remote start is under way: the card's next Authorize or start there is no tap."""
    values = {"remote_start_id": remote_start_id, "charge_box_id": charge_box_id, "id_tag": id_tag, "asked_at": at}
    await tx.execute(pg.insert(remote_start).values(values).on_conflict_do_nothing())


async def remote_start_void(tx: Write, *, charge_box_id: str, at: datetime, remote_start_id: UUID) -> None:
    """A remote start was not carried out. Its row stays, for no card: that it was asked for may be told after."""
    values = {"remote_start_id": remote_start_id, "charge_box_id": charge_box_id, "id_tag": "", "asked_at": at}
    statement = pg.insert(remote_start).values(values)
    await tx.execute(statement.on_conflict_do_update(index_elements=["remote_start_id"], set_={"id_tag": ""}))


async def remote_start_refused(tx: Write, *, charge_box_id: str, id_tag: IdTag, at: datetime) -> None:
    """The charger will not start for the card, whoever asked it to: what is presented there after this is a tap."""
    await tx.execute(
        remote_start.delete().where(
            remote_start.c.charge_box_id == charge_box_id,
            remote_start.c.id_tag == id_tag,
            remote_start.c.asked_at <= at,
        )
    )


_SESSIONS: Final = "what sessions did"


async def sessions_are_known(tx: Write, until: datetime, *, now: datetime) -> None:
    """Sync has asked SteVe since then, and what it found was told of. That stays true while it is away, unless it was
    noted of a time that is still to come, by a clock that was ahead.
    """
    noted = snapshot.c.taken_at
    statement = pg.insert(snapshot).values(what=_SESSIONS, taken_at=until)
    await tx.execute(
        statement.on_conflict_do_update(
            index_elements=[snapshot.c.what], set_={"taken_at": until}, where=sa.or_(noted < until, noted > now)
        )
    )


async def sessions_known_until(tx: Read) -> datetime | None:
    """What sessions did later may not be known yet. None: nothing need be known."""
    found: datetime | None = (
        await tx.execute(sa.select(snapshot.c.taken_at).where(snapshot.c.what == _SESSIONS))
    ).scalar()
    return found


def transaction_id_of(session: str) -> int:
    return int(session.rpartition(":")[2])
