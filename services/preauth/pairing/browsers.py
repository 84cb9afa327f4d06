"""What a browser is known by: a secret that was made here, and that changes whenever it comes to stand for a card."""

from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.preauth.pairing.secrets import digest, new_secret
from services.preauth.tables import bound_browser, issued_browser, known_device, pairing
from shared.database.engine import Write

# No scan is open for as long as this: its window and the time to complete it are minutes.
SCANS_LAST: Final = timedelta(hours=1)


async def recognise(tx: Write, held: str | None, at: datetime) -> str:
    """The secret that this browser holds, if it was made here, else one that is made now."""
    if held is not None:
        known = issued_browser.update().where(issued_browser.c.browser == digest(held)).values(seen_at=at)
        if (await tx.execute(known)).rowcount:
            return held
    return await _issue(tx, at)


async def renew(tx: Write, held: bytes | None, at: datetime) -> str:
    """Another secret, for a browser that is about to be bound. What it stood for before, it stands for with this one;
    with the one that it `held`, nobody does any more: whoever knew it (decision 24).
    """
    secret = await _issue(tx, at)
    if held is not None:
        await hold(tx, held)
        new = digest(secret)
        bound = bound_browser.update().where(bound_browser.c.browser == held).values(browser=new)
        cards = list((await tx.execute(bound.returning(bound_browser.c.id_tag))).scalars())
        if cards:
            known = known_device.update().where(known_device.c.id_tag.in_(cards), known_device.c.device == held)
            await tx.execute(known.values(device=new))
        # One that is consumed stays: where the answer to its login was lost, it is asked for again with what was held.
        open_scans = pairing.update().where(
            pairing.c.browser == held,
            pairing.c.state.in_(("armed", "matched", "intercepted")),
            pairing.c.armed_at > at - SCANS_LAST,
        )
        await tx.execute(open_scans.values(browser=new))
    return secret


async def hold(tx: Write, held: bytes) -> None:
    """Wait until nobody else arms a scan from this browser or renews it, and keep others waiting until `tx` ends. To be
    called before a scan of it is changed: two that are completed at once would else wait for each other's.
    """
    await tx.execute(sa.select(issued_browser.c.browser).where(issued_browser.c.browser == held).with_for_update())


async def forget(tx: Write, before: datetime) -> None:
    """Delete the secrets of browsers that were not seen for long."""
    await tx.execute(issued_browser.delete().where(issued_browser.c.seen_at < before))


async def _issue(tx: Write, at: datetime) -> str:
    secret = new_secret()
    await tx.execute(pg.insert(issued_browser).values(browser=digest(secret), seen_at=at))
    return secret
