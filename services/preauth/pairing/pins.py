"""Card PINs: what makes a weak presence (a QR code) good enough for its card."""

import asyncio
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import sqlalchemy as sa
from argon2 import PasswordHasher
from argon2.exceptions import VerificationError
from sqlalchemy.dialects import postgresql as pg

from services.preauth.tables import bound_browser, card_pin
from shared.bus.outbox import Outbox
from shared.contracts.events.preauth import CardPinChanged
from shared.contracts.identity import Cause, IdTag
from shared.contracts.requests.preauth import PinState, SetCardPin
from shared.database.engine import Database, Read, Write
from shared.runtime.clock import Clock

MOST_FAILURES: Final = 5
LOCKED: Final = timedelta(minutes=15)

Verdict = Literal["right", "wrong", "locked"]

_hasher = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)  # OWASP's second choice for Argon2id


class Pins:
    def __init__(self, database: Database, outbox: Outbox, *, clock: Clock) -> None:
        self._database, self._outbox, self._clock = database, outbox, clock

    async def set_card_pin(self, tx: Write, request: SetCardPin, cause: Cause) -> PinState:
        """Set or remove the PIN. Browsers that were bound with the old one are forgotten."""
        await tx.execute(bound_browser.delete().where(bound_browser.c.id_tag == request.id_tag))
        if request.pin is None:
            await tx.execute(card_pin.delete().where(card_pin.c.id_tag == request.id_tag))
        else:
            values: dict[str, Any] = {
                "pin_hash": await asyncio.to_thread(_hasher.hash, request.pin),
                "changed_at": self._clock(),
                "failures": 0,
                "locked_until": None,
            }
            statement = pg.insert(card_pin).values(id_tag=request.id_tag, **values)
            await tx.execute(statement.on_conflict_do_update(index_elements=[card_pin.c.id_tag], set_=values))
        has_pin = request.pin is not None
        await self._outbox.add(tx, CardPinChanged(id_tag=request.id_tag, has_pin=has_pin), cause)
        return PinState(id_tag=request.id_tag, has_pin=has_pin)

    async def check(self, id_tag: IdTag, pin: str) -> Verdict:
        """Try a PIN. Five wrong ones lock it for a quarter of an hour, whoever tries and from where."""
        at = self._clock()
        async with self._database.write() as tx:
            # Counted before it is tried, so that trying many at once is no way around the limit.
            row = (
                await tx.execute(
                    card_pin.update()
                    .where(
                        card_pin.c.id_tag == id_tag,
                        sa.or_(card_pin.c.locked_until.is_(None), card_pin.c.locked_until <= at),
                    )
                    .values(
                        failures=card_pin.c.failures + 1,
                        locked_until=sa.case((card_pin.c.failures + 1 >= MOST_FAILURES, at + LOCKED), else_=None),
                    )
                    .returning(card_pin)
                )
            ).first()
        if row is None:
            return "locked"
        try:
            await asyncio.to_thread(_hasher.verify, row.pin_hash, pin)
        except VerificationError:
            return "wrong"
        async with self._database.write() as tx:
            await tx.execute(card_pin.update().where(card_pin.c.id_tag == id_tag).values(failures=0, locked_until=None))
        return "right"


async def is_bound(tx: Read, id_tag: IdTag, browser: bytes) -> bool:
    """Whether the card's owner bound this browser."""
    statement = sa.select(bound_browser.c.id_tag).where(
        bound_browser.c.id_tag == id_tag, bound_browser.c.browser == browser
    )
    return (await tx.execute(statement)).first() is not None


async def bound_to(tx: Read, id_tag: IdTag) -> list[sa.Row[Any]]:
    """The browsers that a card's owner bound, the latest first."""
    statement = sa.select(bound_browser).where(bound_browser.c.id_tag == id_tag)
    return list(await tx.execute(statement.order_by(bound_browser.c.bound_at.desc())))


async def seen(tx: Write, id_tag: IdTag, browser: bytes, at: datetime) -> None:
    """The owner signed in with this browser, if it is (still) bound."""
    mine = (bound_browser.c.id_tag == id_tag, bound_browser.c.browser == browser)
    await tx.execute(bound_browser.update().where(*mine).values(seen_at=at))


async def unbind(tx: Write, id_tag: IdTag, browser: bytes) -> None:
    mine = (bound_browser.c.id_tag == id_tag, bound_browser.c.browser == browser)
    await tx.execute(bound_browser.delete().where(*mine))


async def bind(tx: Write, id_tag: IdTag, browser: bytes, at: datetime) -> None:
    """From now on this browser stands for the card's owner, also behind a QR code."""
    statement = pg.insert(bound_browser).values(id_tag=id_tag, browser=browser, bound_at=at, seen_at=at)
    await tx.execute(
        statement.on_conflict_do_update(
            index_elements=[bound_browser.c.id_tag, bound_browser.c.browser], set_={"seen_at": at}
        )
    )


async def forget(tx: Write, before: datetime) -> None:
    """Unbind browsers that were not seen for long."""
    await tx.execute(bound_browser.delete().where(bound_browser.c.seen_at < before))
