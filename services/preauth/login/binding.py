"""Binding a phone: who signed in at a kiosk says which browser stands for the card's owner behind a QR code."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from services.preauth.login import rules, store
from services.preauth.pairing import browsers, pins
from services.preauth.pairing.secrets import digest, new_typed_code, typed
from shared.bus.outbox import Outbox
from shared.contracts.events.preauth import LoginNewDevice
from shared.contracts.identity import Actor, Cause, IdTag
from shared.database.engine import Database
from shared.runtime.clock import Clock

OFFERED: Final = timedelta(seconds=120)


@dataclass(frozen=True, slots=True)
class Binding:
    """A bound browser. `handle` names it to its owner; it opens nothing."""

    handle: str
    bound_at: datetime
    seen_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Bindings:
    """`idle` and `longest` bound a session that may still offer."""

    database: Database
    outbox: Outbox
    clock: Clock
    idle: timedelta
    longest: timedelta

    async def offer(self, session: store.Row) -> str:
        """A one-time code for the phone; the one before it is worthless.

        :raises NotAtKiosk: for a session that began elsewhere: its browser could be anybody's with the code's photo.
        """
        if session.kiosk_id is None:
            raise rules.NotAtKiosk("Sign in at the screen beside the charger to bind a phone.")
        code = new_typed_code()
        async with self.database.write() as tx:
            await store.offer_binding(
                tx,
                code_hash=digest(code),
                id_tag=IdTag(session.id_tag),
                session_id=session.session_id,
                expires_at=self.clock() + OFFERED,
            )
        return code

    async def confirm(self, code: str, held: str | None) -> str | None:
        """Bind the browser that `held` this: what it holds from now on. None for a code that is wrong, used or too old,
        or whose driver has signed out.
        """
        at = self.clock()
        async with self.database.write() as tx:
            offer = await store.use_offer(
                tx, digest(typed(code)), at=at, idle_since=at - self.idle, began_after=at - self.longest
            )
            if offer is None:
                return None
            id_tag = IdTag(offer.id_tag)
            secret = await browsers.renew(tx, digest(held) if held else None, at)
            browser = digest(secret)
            if not await pins.is_bound(tx, id_tag, browser):
                await pins.bind(tx, id_tag, browser, at)
                await store.is_first_time(tx, id_tag, browser, at)
                event = LoginNewDevice(id_tag=id_tag, session_id=offer.session_id, device="browser")
                actor = Actor(kind="driver", id=str(offer.session_id))
                await self.outbox.add(tx, event, Cause(actor=actor, correlation_id=offer.session_id))
        return secret

    async def of(self, id_tag: IdTag) -> list[Binding]:
        """The browsers that are bound, the latest first."""
        async with self.database.read() as tx:
            rows = await pins.bound_to(tx, id_tag)
        return [Binding(_handle(row.browser), row.bound_at, row.seen_at) for row in rows]

    async def forget(self, id_tag: IdTag, handle: str) -> None:
        """From now on that browser needs the card's PIN again. One that is not bound is forgotten already."""
        async with self.database.write() as tx:
            for row in await pins.bound_to(tx, id_tag):
                if _handle(row.browser) == handle:
                    await pins.unbind(tx, id_tag, row.browser)


def _handle(browser: bytes) -> str:
    return digest(browser.hex()).hex()[:16]
