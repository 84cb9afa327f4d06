from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.preauth.chargers.tables import charger
from services.preauth.pairing.rules import Recent
from services.preauth.tables import bound_browser, interception_off, pairing
from shared.contracts.requests.preauth import ListPairings, PairingView
from shared.database.engine import Read, Write

Row = sa.Row[Any]


def view(row: Row) -> PairingView:
    return PairingView(
        pairing_id=row.pairing_id,
        charge_box_id=row.charge_box_id,
        connector_id=row.connector_id,
        purpose=row.purpose,
        state=row.state,
        code=row.code,
        armed_at=row.armed_at,
        armed_by=f"{row.armed_by_kind}/{row.armed_by_id}",
        expires_at=row.expires_at,
        id_tag=row.id_tag,
        tap_id=row.tap_id,
    )


async def arm(tx: Write, values: dict[str, Any]) -> Row | None:
    """Arm, or None while another pairing is open at this charger: the constraint decides, also between replicas."""
    statement = pg.insert(pairing).values(**values, state="armed")
    statement = statement.on_conflict_do_nothing(
        index_elements=[pairing.c.charge_box_id], index_where=sa.text("state IN ('armed', 'matched')")
    )
    found: Row | None = (await tx.execute(statement.returning(pairing))).first()
    return found


async def in_turn(tx: Write, *budgets: str) -> None:
    """Wait until nobody else counts what is left of these budgets, and keep others waiting until `tx` ends. All name
    them in the same order: the charger's first.
    """
    for budget in budgets:
        name = f"preauth.budget {budget}"
        await tx.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(name, 0))))


async def recent(
    tx: Read, *, charge_box_id: str, weak: bool, kiosk_id: UUID | None, source: str | None, since: datetime
) -> Recent:
    """What drivers armed since then, for the budgets."""
    at_charger = pairing.c.charge_box_id == charge_box_id
    alike = sa.and_(at_charger, pairing.c.presence != "operator", pairing.c.weak == weak)
    by_kiosk = pairing.c.kiosk_id == kiosk_id if kiosk_id else sa.false()
    from_source = sa.and_(pairing.c.presence == "qr", pairing.c.source == source) if source else sa.false()

    def times(where: sa.ColumnElement[bool]) -> sa.ColumnElement[Any]:
        newest_first = pg.aggregate_order_by(pairing.c.armed_at, pairing.c.armed_at.desc())
        return sa.func.coalesce(sa.func.array_agg(newest_first).filter(where), sa.text("'{}'::timestamptz[]"))

    own = sa.and_(alike, pairing.c.source == source) if source else sa.false()
    others = sa.and_(alike, pairing.c.source != source) if source else sa.false()
    statement = sa.select(
        times(alike).label("charger"),
        sa.func.count().filter(own).label("own"),
        (sa.func.count(sa.distinct(pairing.c.source)).filter(others) + 1).label("sources"),
        times(by_kiosk).label("kiosk"),
        times(from_source).label("source"),
        sa.func.max(pairing.c.told_at).filter(at_charger).label("last_scan_at"),
    ).where(pairing.c.armed_at > since)
    row = (await tx.execute(statement)).one()
    return Recent(**row._asdict())


async def give_way(
    tx: Write,
    charge_box_id: str,
    *,
    to_weak: bool,
    browser: bytes | None,
    source: str | None,
    since: datetime,
    at: datetime,
) -> Row | None:
    """Cancel the armed scan here that has less to show for it than the one that comes now; returns it.

    A photo of a QR code must not keep out who stands there, nor a browser that a card's owner bound. Nor must one
    stranger keep out the others by coming again and again: of two, who had fewer turns here `since` then goes first.
    """

    def bound(to: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
        return sa.exists().where(bound_browser.c.browser == to)

    def turns(of: sa.ColumnElement[Any]) -> sa.ScalarSelect[int]:
        earlier = pairing.alias()
        here = (earlier.c.charge_box_id == charge_box_id, earlier.c.weak, earlier.c.armed_at > since)
        return sa.select(sa.func.count()).where(*here, earlier.c.source == of).scalar_subquery()

    statement = pairing.update().where(
        pairing.c.charge_box_id == charge_box_id, pairing.c.state == "armed", pairing.c.weak
    )
    if to_weak:
        mine, theirs = bound(sa.literal(browser)), bound(pairing.c.browser)
        # The turn that it has now is one of them.
        had_more = turns(pairing.c.source) - 1 > turns(sa.literal(source))
        statement = statement.where(sa.or_(sa.and_(mine, ~theirs), sa.and_(mine == theirs, had_more)))
    statement = statement.values(state="cancelled", result="gave_way", ended_at=at).returning(pairing)
    found: Row | None = (await tx.execute(statement)).first()
    return found


async def try_pin(tx: Write, pairing_id: UUID, *, most: int) -> bool:
    """Count one more PIN at this scan; False when it had its tries."""
    statement = (
        pairing.update()
        .where(pairing.c.pairing_id == pairing_id, pairing.c.state == "intercepted", pairing.c.pin_tries < most)
        .values(pin_tries=pairing.c.pin_tries + 1)
    )
    return (await tx.execute(statement)).rowcount == 1


async def end_for_pins(
    tx: Write, pairing_id: UUID, *, result: Literal["pins_spent", "pin_locked"], tries: int, at: datetime
) -> bool:
    """End a scan that had at least so many tries, of which none was right; whether it had."""
    statement = (
        pairing.update()
        .where(pairing.c.pairing_id == pairing_id, pairing.c.state == "intercepted", pairing.c.pin_tries >= tries)
        .values(state="consumed", result=result, ended_at=at)
    )
    return (await tx.execute(statement)).rowcount == 1


async def expire(tx: Write, *, at: datetime, charge_box_id: str | None = None) -> list[Row]:
    """End armed pairings whose window is over; returns them."""
    statement = (
        pairing.update()
        .where(pairing.c.state == "armed", pairing.c.expires_at <= at)
        .values(state="expired", ended_at=at)
        .returning(pairing)
    )
    if charge_box_id is not None:
        statement = statement.where(pairing.c.charge_box_id == charge_box_id)
    return list(await tx.execute(statement))


async def cancel(tx: Write, pairing_id: UUID, *, at: datetime) -> Row | None:
    """Cancel an armed pairing; None when it is not armed (any more)."""
    statement = (
        pairing.update()
        .where(pairing.c.pairing_id == pairing_id, pairing.c.state == "armed")
        .values(state="cancelled", ended_at=at)
        .returning(pairing)
    )
    found: Row | None = (await tx.execute(statement)).first()
    return found


async def get(tx: Read, pairing_id: UUID) -> Row | None:
    return (await tx.execute(sa.select(pairing).where(pairing.c.pairing_id == pairing_id))).first()


async def search(tx: Read, request: ListPairings, *, before: tuple[datetime, UUID] | None) -> list[Row]:
    """Pairings that match, newest first, at most `request.limit`."""
    statement = sa.select(pairing).order_by(pairing.c.armed_at.desc(), pairing.c.pairing_id.desc())
    if request.charge_box_id is not None:
        statement = statement.where(pairing.c.charge_box_id == request.charge_box_id)
    if request.armed_only:
        statement = statement.where(pairing.c.state == "armed")
    if before is not None:
        statement = statement.where(sa.tuple_(pairing.c.armed_at, pairing.c.pairing_id) < sa.tuple_(*before))
    return list(await tx.execute(statement.limit(request.limit)))


def window(at: datetime, seconds: float) -> datetime:
    return at + timedelta(seconds=seconds)


async def is_off(tx: Read, charge_box_id: str) -> bool:
    """Whether interception is switched off here, or everywhere: then no tap would be taken."""
    statement = sa.select(interception_off.c.since).where(interception_off.c.charge_box_id.in_(("", charge_box_id)))
    return (await tx.execute(statement)).first() is not None


async def why_unable(tx: Read, charge_box_id: str) -> str | None:
    """Why taps at this charger do not reach us, where that is known."""
    statement = sa.select(charger.c.ready_reason).where(
        charger.c.charge_box_id == charge_box_id, charger.c.ready == "no"
    )
    reason: str | None = (await tx.execute(statement)).scalar_one_or_none()
    return reason


async def forget(tx: Write, before: datetime) -> None:
    """Delete pairings that ended long ago."""
    await tx.execute(pairing.delete().where(pairing.c.armed_at < before, pairing.c.state.not_in(("armed", "matched"))))
