from datetime import datetime
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.preauth.login.rules import UNTAKEN
from services.preauth.tables import binding_offer, driver_session, known_device, login_code, pairing, tap
from shared.contracts.identity import IdTag
from shared.database.engine import Read, Write

Row = sa.Row[Any]


# Why cards that were held to the charger since it waited were not taken.
_PASSED_BY: Final = (
    sa.select(
        sa.func.coalesce(sa.func.array_agg(pg.aggregate_order_by(tap.c.reason, tap.c.received_at)), sa.text("'{}'"))
    )
    .where(
        tap.c.pairing_id == pairing.c.pairing_id,
        tap.c.received_at >= pairing.c.armed_at,
        tap.c.reason.in_(UNTAKEN),
    )
    .correlate(pairing)
    .scalar_subquery()
    .label("passed_by")
)


async def own_pairing(tx: Read, pairing_id: UUID, browser: bytes) -> Row | None:
    """The pairing, for the browser that armed it and nobody else, and why cards `passed_by` it, in their order."""
    statement = sa.select(pairing, _PASSED_BY).where(pairing.c.pairing_id == pairing_id, pairing.c.browser == browser)
    found: Row | None = (await tx.execute(statement)).first()
    return found


async def states(tx: Read, pairing_ids: list[UUID]) -> dict[UUID, tuple[str, int]]:
    """Each one's state, and how many cards passed by it."""
    statement = sa.select(pairing.c.pairing_id, pairing.c.state, _PASSED_BY)
    found = await tx.execute(statement.where(pairing.c.pairing_id.in_(pairing_ids)))
    return {row.pairing_id: (row.state, len(row.passed_by)) for row in found}


async def consume(tx: Write, pairing_id: UUID, *, result: str, at: datetime) -> Row | None:
    """Use an intercepted login, once: the scan. None when somebody else was faster, or it is no login."""
    statement = (
        pairing.update()
        .where(
            pairing.c.pairing_id == pairing_id,
            pairing.c.state == "intercepted",
            pairing.c.purpose == "login",
        )
        .values(state="consumed", result=result, ended_at=at)
        .returning(pairing)
    )
    found: Row | None = (await tx.execute(statement)).first()
    return found


async def give_up(tx: Write, *, told_before: datetime, at: datetime) -> list[Row]:
    """End logins that nobody completed; returns them."""
    statement = (
        pairing.update()
        .where(pairing.c.state == "intercepted", pairing.c.purpose == "login", pairing.c.told_at < told_before)
        .values(state="consumed", result="not_completed", ended_at=at)
        .returning(pairing)
    )
    return list(await tx.execute(statement))


async def add_session(tx: Write, values: dict[str, Any]) -> None:
    await tx.execute(driver_session.insert().values(values))


async def renew_token(tx: Write, pairing_id: UUID, token_hash: bytes) -> Row | None:
    """Give the session of this pairing a new token; the old one is worthless. None when it has ended."""
    statement = (
        driver_session.update()
        .where(driver_session.c.pairing_id == pairing_id, driver_session.c.ended_at.is_(None))
        .values(token_hash=token_hash)
        .returning(driver_session)
    )
    found: Row | None = (await tx.execute(statement)).first()
    return found


async def living(tx: Read, token_hash: bytes, *, idle_since: datetime, began_after: datetime) -> Row | None:
    """The living session that holds this token."""
    statement = sa.select(driver_session).where(*_lives(idle_since, began_after))
    found: Row | None = (await tx.execute(statement.where(driver_session.c.token_hash == token_hash))).first()
    return found


async def touch(
    tx: Write, token_hash: bytes, *, at: datetime, idle_since: datetime, began_after: datetime
) -> Row | None:
    """The same, marked as seen."""
    statement = driver_session.update().where(*_lives(idle_since, began_after)).values(seen_at=at)
    statement = statement.where(driver_session.c.token_hash == token_hash)
    found: Row | None = (await tx.execute(statement.returning(driver_session))).first()
    return found


def _lives(idle_since: datetime, began_after: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    session = driver_session.c
    return session.ended_at.is_(None), session.seen_at > idle_since, session.created_at > began_after


async def end_session(tx: Write, token_hash: bytes, *, at: datetime, reason: str) -> Row | None:
    statement = (
        driver_session.update()
        .where(driver_session.c.token_hash == token_hash, driver_session.c.ended_at.is_(None))
        .values(ended_at=at, end_reason=reason)
        .returning(driver_session)
    )
    found: Row | None = (await tx.execute(statement)).first()
    return found


async def end_sessions_at(tx: Write, kiosk_id: UUID, *, at: datetime, reason: str) -> list[Row]:
    """End the living sessions that began at this kiosk."""
    statement = (
        driver_session.update()
        .where(driver_session.c.kiosk_id == kiosk_id, driver_session.c.ended_at.is_(None))
        .values(ended_at=at, end_reason=reason)
        .returning(driver_session)
    )
    return list(await tx.execute(statement))


async def end_old_sessions(tx: Write, *, at: datetime, idle_since: datetime, began_before: datetime) -> list[Row]:
    """End sessions that nobody uses, or that lasted long enough."""
    idle = driver_session.c.seen_at <= idle_since
    statement = (
        driver_session.update()
        .where(driver_session.c.ended_at.is_(None), sa.or_(idle, driver_session.c.created_at <= began_before))
        .values(ended_at=at, end_reason=sa.case((idle, "idle"), else_="too_long"))
        .returning(driver_session)
    )
    return list(await tx.execute(statement))


async def is_first_time(tx: Write, id_tag: IdTag, device: bytes, at: datetime) -> bool:
    """Whether this card was never seen at this kiosk or browser before; remembers it."""
    known = known_device.c
    seen = known_device.update().where(known.id_tag == id_tag, known.device == device).values(seen_at=at)
    if (await tx.execute(seen.returning(known.id_tag))).first() is not None:
        return False
    first = pg.insert(known_device).values(id_tag=id_tag, device=device, first_at=at, seen_at=at)
    return (await tx.execute(first.on_conflict_do_nothing().returning(known.id_tag))).first() is not None


async def add_code(tx: Write, values: dict[str, Any]) -> None:
    await tx.execute(login_code.insert().values(values))


async def use_code(tx: Write, code_hash: bytes, *, at: datetime) -> Row | None:
    """Take a code, once, whether or not what comes with it is right; None for one that is used, old or unknown."""
    statement = (
        login_code.update()
        .where(login_code.c.code_hash == code_hash, login_code.c.used_at.is_(None), login_code.c.expires_at > at)
        .values(used_at=at)
        .returning(login_code)
    )
    code: Row | None = (await tx.execute(statement)).first()
    return code


async def offer_binding(tx: Write, *, code_hash: bytes, id_tag: IdTag, session_id: UUID, expires_at: datetime) -> None:
    """Offer to bind a browser to the card; the session's offers before it are gone."""
    await tx.execute(
        binding_offer.delete().where(binding_offer.c.session_id == session_id, binding_offer.c.used_at.is_(None))
    )
    values = {"code_hash": code_hash, "id_tag": id_tag, "session_id": session_id, "expires_at": expires_at}
    await tx.execute(binding_offer.insert().values(values))


async def use_offer(
    tx: Write, code_hash: bytes, *, at: datetime, idle_since: datetime, began_after: datetime
) -> Row | None:
    """Take an offer, once, while its session lives; None for one that is used, old or unknown."""
    statement = (
        binding_offer.update()
        .where(
            binding_offer.c.code_hash == code_hash,
            binding_offer.c.used_at.is_(None),
            binding_offer.c.expires_at > at,
            driver_session.c.session_id == binding_offer.c.session_id,
            *_lives(idle_since, began_after),
        )
        .values(used_at=at)
        .returning(binding_offer)
    )
    found: Row | None = (await tx.execute(statement)).first()
    return found


async def living_session(tx: Read, session_id: UUID) -> Row | None:
    statement = sa.select(driver_session).where(
        driver_session.c.session_id == session_id, driver_session.c.ended_at.is_(None)
    )
    found: Row | None = (await tx.execute(statement)).first()
    return found


async def forget(tx: Write, before: datetime) -> None:
    """Delete sessions, codes and offers that ended long ago."""
    await tx.execute(binding_offer.delete().where(binding_offer.c.expires_at < before))
    await tx.execute(login_code.delete().where(login_code.c.expires_at < before))
    await tx.execute(driver_session.delete().where(driver_session.c.ended_at < before))


async def forget_devices(tx: Write, before: datetime) -> None:
    """Delete where cards were not seen for long; the next login there is told as a new one."""
    await tx.execute(known_device.delete().where(known_device.c.seen_at < before))
