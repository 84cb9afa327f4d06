"""What a browser is known by: a secret that was made here, and that changes whenever it comes to stand for a card."""

from datetime import datetime

from sqlalchemy.dialects import postgresql as pg

from services.preauth.pairing.secrets import digest, new_secret
from services.preauth.tables import bound_browser, issued_browser, known_device
from shared.database.engine import Write


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
        new = digest(secret)
        bound = bound_browser.update().where(bound_browser.c.browser == held).values(browser=new)
        cards = list((await tx.execute(bound.returning(bound_browser.c.id_tag))).scalars())
        if cards:
            known = known_device.update().where(known_device.c.id_tag.in_(cards), known_device.c.device == held)
            await tx.execute(known.values(device=new))
    return secret


async def forget(tx: Write, before: datetime) -> None:
    """Delete the secrets of browsers that were not seen for long."""
    await tx.execute(issued_browser.delete().where(issued_browser.c.seen_at < before))


async def _issue(tx: Write, at: datetime) -> str:
    secret = new_secret()
    await tx.execute(pg.insert(issued_browser).values(browser=digest(secret), seen_at=at))
    return secret
