"""Kiosks: an operator makes a one-time code, a screen exchanges it for a key, and then vouches for presence."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

import sqlalchemy as sa

from services.preauth.pairing.secrets import digest, new_secret, new_typed_code, typed
from services.preauth.pairing.withdrawing import withdraw
from services.preauth.tables import kiosk, pairing
from shared.bus.outbox import Outbox
from shared.contracts.events.preauth import KioskEnrolled, KioskRevoked
from shared.contracts.identity import Actor, Cause
from shared.contracts.problem import NotFound
from shared.contracts.request import MAX_ROWS
from shared.contracts.requests.preauth import (
    EnrolKiosk,
    KioskEnrolment,
    KioskList,
    KioskView,
    ListKiosks,
    RevokeKiosk,
)
from shared.database.engine import Database, Read, Write
from shared.runtime.clock import Clock, NewId

CODE_VALID: Final = timedelta(minutes=10)

Row = sa.Row[Any]


class Kiosks:
    """`sign_out` ends the drivers' sessions that began at a kiosk, in the transaction that revokes it."""

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        *,
        clock: Clock,
        new_id: NewId,
        sign_out: Callable[[Write, UUID, Cause], Awaitable[None]],
    ) -> None:
        self._database, self._outbox, self._clock, self._new_id = database, outbox, clock, new_id
        self._sign_out = sign_out

    async def enrol_kiosk(self, tx: Write, request: EnrolKiosk, cause: Cause) -> KioskEnrolment:
        at, code = self._clock(), new_typed_code()
        statement = kiosk.insert().values(
            kiosk_id=self._new_id(),
            name=request.kiosk_name,
            charge_box_ids=sorted(set(request.charge_box_ids)),
            created_at=at,
            created_by=f"{cause.actor.kind}/{cause.actor.id}",
            code_hash=digest(code),
            code_expires_at=at + CODE_VALID,
        )
        row = (await tx.execute(statement.returning(kiosk))).one()
        return KioskEnrolment(kiosk=_view(row, at), code=code, code_expires_at=row.code_expires_at)

    async def revoke_kiosk(self, tx: Write, request: RevokeKiosk, cause: Cause) -> KioskView:
        """From now on it opens nothing: a scan that it armed takes no card any more, and completes no login; and
        who signed in there is signed out.

        :raises NotFound: for an unknown kiosk. Revoking it again changes nothing.
        """
        at = self._clock()
        statement = kiosk.update().where(kiosk.c.kiosk_id == request.kiosk_id, kiosk.c.revoked_at.is_(None))
        row = (await tx.execute(statement.values(revoked_at=at, key_hash=None).returning(kiosk))).first()
        if row is not None:
            await self._outbox.add(tx, KioskRevoked(kiosk_id=row.kiosk_id, name=row.name), cause)
            by_it = pairing.c.kiosk_id == row.kiosk_id
            await withdraw(tx, self._outbox, by_it, why="kiosk_revoked", at=at, cause=cause)
            await self._sign_out(tx, row.kiosk_id, cause)
            return _view(row, at)
        known = (await tx.execute(sa.select(kiosk).where(kiosk.c.kiosk_id == request.kiosk_id))).first()
        if known is None:
            raise NotFound(f"There is no kiosk {request.kiosk_id}.")
        return _view(known, at)

    async def list_kiosks(self, _: ListKiosks, __: Cause) -> KioskList:
        at = self._clock()
        async with self._database.read() as tx:
            rows = await tx.execute(sa.select(kiosk).order_by(kiosk.c.created_at.desc()).limit(MAX_ROWS))
            return KioskList(kiosks=[_view(row, at) for row in rows])

    async def exchange(self, code: str) -> str | None:
        """The key for an enrolment code, once; None for a code that is wrong, used, or too old."""
        at, key = self._clock(), new_secret()
        async with self._database.write() as tx:
            statement = (
                kiosk.update()
                .where(
                    kiosk.c.code_hash == digest(typed(code)),
                    kiosk.c.code_expires_at > at,
                    kiosk.c.enrolled_at.is_(None),
                    kiosk.c.revoked_at.is_(None),
                )
                .values(key_hash=digest(key), enrolled_at=at, seen_at=at)
            )
            row = (await tx.execute(statement.returning(kiosk))).first()
            if row is None:
                return None
            event = KioskEnrolled(kiosk_id=row.kiosk_id, name=row.name, charge_box_ids=row.charge_box_ids)
            actor = Actor(kind="kiosk", id=str(row.kiosk_id))
            await self._outbox.add(tx, event, Cause(actor=actor, correlation_id=row.kiosk_id))
        return key

    async def seen(self, kiosk_id: UUID) -> None:
        async with self._database.write() as tx:
            await tx.execute(kiosk.update().where(kiosk.c.kiosk_id == kiosk_id).values(seen_at=self._clock()))


async def by_key(tx: Read, key: str) -> Row | None:
    """The enrolled kiosk that holds this key."""
    found: Row | None = (await tx.execute(_by_key(key))).first()
    return found


async def held_by_key(tx: Write, key: str) -> Row | None:
    """The same, and it stays enrolled until `tx` ends: who revokes it then finds what was armed with it."""
    found: Row | None = (await tx.execute(_by_key(key).with_for_update(read=True))).first()
    return found


async def hold(tx: Write, kiosk_id: UUID) -> bool:
    """Whether it is still enrolled, which it stays until `tx` ends: who revokes it then finds what became of a scan."""
    statement = sa.select(kiosk.c.kiosk_id).where(kiosk.c.kiosk_id == kiosk_id, kiosk.c.revoked_at.is_(None))
    return (await tx.execute(statement.with_for_update(read=True))).first() is not None


async def is_revoked(tx: Read, kiosk_id: UUID) -> bool:
    statement = sa.select(kiosk.c.kiosk_id).where(kiosk.c.kiosk_id == kiosk_id, kiosk.c.revoked_at.is_not(None))
    return (await tx.execute(statement)).first() is not None


def _by_key(key: str) -> sa.Select[Any]:
    return sa.select(kiosk).where(kiosk.c.key_hash == digest(key), kiosk.c.revoked_at.is_(None))


def _state(row: Row, at: datetime) -> Literal["waiting", "enrolled", "lapsed", "revoked"]:
    if row.revoked_at is not None:
        return "revoked"
    if row.enrolled_at is not None:
        return "enrolled"
    return "waiting" if row.code_expires_at > at else "lapsed"


def _view(row: Row, at: datetime) -> KioskView:
    return KioskView(
        kiosk_id=row.kiosk_id,
        name=row.name,
        charge_box_ids=row.charge_box_ids,
        state=_state(row, at),
        created_at=row.created_at,
        created_by=row.created_by,
        enrolled_at=row.enrolled_at,
        seen_at=row.seen_at,
        revoked_at=row.revoked_at,
    )
