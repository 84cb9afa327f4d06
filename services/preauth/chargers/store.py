from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.preauth.chargers.rules import Charger, Connector, Session, Verdict
from services.preauth.chargers.seen import Disconnected
from services.preauth.chargers.tables import (
    charger,
    charger_connection,
    charger_connector,
    charger_session,
    gateway_instance,
)
from services.preauth.tables import tap
from shared.contracts.events.preauth import ConnectorState, Readiness
from shared.database.engine import Read, Write

_VANISHED = 1006


def _lately(time: sa.ColumnElement[datetime], at: datetime, within: timedelta) -> sa.ColumnElement[bool]:
    """Whether it is no longer ago. Nor further ahead: whoever dated that was wrong, and nobody waits for its end."""
    return time.between(at - within, at + within)


def _later(
    known: sa.ColumnElement[datetime], seen: sa.ColumnElement[datetime], at: datetime
) -> sa.ColumnElement[datetime]:
    """The later of the two; what is known as of a time still to come counts as of now, and hides nothing."""
    return sa.func.greatest(sa.case((known > at, at), else_=known), seen)


# What passed the gateway


async def lock(
    tx: Write, at_by_id: dict[str, datetime], transactions: Collection[tuple[str, int]]
) -> dict[str, Charger]:
    """The chargers named, made where they are new, with their rows locked; and the sessions named, as far as known.

    `at_by_id` says when each was first seen, should it be new. Locks are taken in one order by everybody.
    """
    ids = sorted(at_by_id)
    rows = [{"charge_box_id": one, "first_seen_at": at_by_id[one], "last_seen_at": at_by_id[one]} for one in ids]
    await tx.execute(pg.insert(charger).on_conflict_do_nothing(), rows)
    locked = sa.select(charger.c.charge_box_id, charger.c.boot_at).where(charger.c.charge_box_id.in_(ids))
    rows_locked = await tx.execute(locked.order_by(charger.c.charge_box_id).with_for_update())
    found = {row.charge_box_id: Charger(row.charge_box_id, row.boot_at) for row in rows_locked}
    for row in await tx.execute(
        sa.select(charger_connection.c.charge_box_id, charger_connection.c.connection_id).where(
            charger_connection.c.charge_box_id.in_(ids)
        )
    ):
        found[row.charge_box_id].connections.add(row.connection_id)
    for row in await tx.execute(sa.select(charger_connector).where(charger_connector.c.charge_box_id.in_(ids))):
        found[row.charge_box_id].connectors[row.connector_id] = connector_of(row)
    if transactions:
        key = sa.tuple_(charger_session.c.charge_box_id, charger_session.c.transaction_id)
        for row in await tx.execute(sa.select(charger_session).where(key.in_(transactions))):
            columns = row._asdict()
            charge_box_id = columns.pop("charge_box_id")
            found[charge_box_id].sessions[row.transaction_id] = Session(**columns)
    return found


async def save(tx: Write, chargers: Iterable[Charger], instance: UUID) -> None:
    """Write what changed; new sockets are this `instance`'s."""
    opened, closed, connectors, sessions = [], [], [], []
    changed: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for one in chargers:
        name = {"charge_box_id": one.charge_box_id}
        if one.fields:
            row = {"_id": one.charge_box_id, **{f"_{field}": value for field, value in one.fields.items()}}
            changed.setdefault(tuple(sorted(one.fields)), []).append(row)
        opened += [
            name
            | {
                "connection_id": connection_id,
                "instance": instance,
                "subprotocol": seen.subprotocol,
                "connected_at": seen.at,
            }
            for connection_id, seen in one.opened.items()
        ]
        closed += list(one.closed)
        connectors += [name | _connector_row(number, one.connectors[number]) for number in one.touched_connectors]
        sessions += [name | _session_row(one.sessions[number]) for number in one.touched_sessions]
    for fields, rows in changed.items():
        # A network round trip for all chargers of which the same is new.
        values: dict[str, Any] = {field: sa.bindparam(f"_{field}") for field in fields}
        await tx.execute(charger.update().where(charger.c.charge_box_id == sa.bindparam("_id")).values(values), rows)
    if opened:
        await tx.execute(pg.insert(charger_connection).on_conflict_do_nothing(), opened)
    if closed:
        await tx.execute(charger_connection.delete().where(charger_connection.c.connection_id.in_(closed)))
    if connectors:
        await tx.execute(_upsert(charger_connector), connectors)
    if sessions:
        await tx.execute(_upsert(charger_session), sessions)


def _upsert(table: sa.Table) -> pg.Insert:
    statement = pg.insert(table)
    changed = {column.name: statement.excluded[column.name] for column in table.c if not column.primary_key}
    return statement.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=changed)


def connector_of(row: Any) -> Connector:  # noqa: ANN401 - a row of charger_connector
    state = ConnectorState(
        status=row.status, error_code=row.error_code, vendor_error_code=row.vendor_error_code, info=row.info
    )
    return Connector(state, row.reported_at, row.seen_at)


def _connector_row(number: int, connector: Connector) -> dict[str, Any]:
    return {
        "connector_id": number,
        **connector.state.model_dump(),
        "reported_at": connector.reported_at,
        "seen_at": connector.seen_at,
    }


def _session_row(session: Session) -> dict[str, Any]:
    return {name: getattr(session, name) for name in Session.__slots__}


# Who is alive


async def keep_alive(
    tx: Write, instance: UUID, at: datetime, seen: Sequence[tuple[str, datetime, datetime | None]]
) -> None:
    """The replica lives, and these chargers spoke: (charger, last frame, last heartbeat)."""
    statement = pg.insert(gateway_instance).values(instance=instance, seen_at=at)
    await tx.execute(
        statement.on_conflict_do_update(index_elements=[gateway_instance.c.instance], set_={"seen_at": at})
    )
    if not seen:
        return
    # One row a charger: an UPDATE would otherwise pick one of several at random.
    latest: dict[str, tuple[datetime, datetime | None]] = {}
    for charge_box_id, seen_at, heartbeat_at in sorted(seen, key=lambda one: one[1]):
        earlier = latest.get(charge_box_id)
        latest[charge_box_id] = (seen_at, heartbeat_at or (earlier[1] if earlier else None))
    spoke = sa.select(
        sa.func.unnest(sa.literal(sorted(latest), sa.ARRAY(sa.Text))).label("charge_box_id"),
        sa.func.unnest(
            sa.literal([latest[one][0] for one in sorted(latest)], sa.ARRAY(charger.c.last_seen_at.type))
        ).label("seen_at"),
        sa.func.unnest(
            sa.literal([latest[one][1] for one in sorted(latest)], sa.ARRAY(charger.c.last_seen_at.type))
        ).label("heartbeat_at"),
    ).subquery()
    await tx.execute(
        charger.update()
        .where(charger.c.charge_box_id == spoke.c.charge_box_id)
        .values(
            last_seen_at=_later(charger.c.last_seen_at, spoke.c.seen_at, at),
            last_heartbeat_at=_later(charger.c.last_heartbeat_at, spoke.c.heartbeat_at, at),
        )
    )


async def connections_of(tx: Read, instance: UUID) -> set[UUID]:
    rows = await tx.execute(
        sa.select(charger_connection.c.connection_id).where(charger_connection.c.instance == instance)
    )
    return set(rows.scalars())


async def orphans(
    tx: Read, instance: UUID, living: Collection[UUID], at: datetime, dead_after: timedelta
) -> list[Disconnected]:
    """Sockets that are gone without a word: this replica's that it does not have, and those of replicas that died."""
    alive = sa.select(gateway_instance.c.instance).where(_lately(gateway_instance.c.seen_at, at, dead_after))
    settled = ~_lately(charger_connection.c.connected_at, at, dead_after)
    mine = sa.and_(
        charger_connection.c.instance == instance, charger_connection.c.connection_id.not_in(living), settled
    )
    theirs = sa.and_(charger_connection.c.instance != instance, charger_connection.c.instance.not_in(alive), settled)
    rows = await tx.execute(sa.select(charger_connection).where(sa.or_(mine, theirs)))
    return [
        Disconnected(
            charge_box_id=row.charge_box_id,
            at=at,
            connection_id=row.connection_id,
            code=_VANISHED,
            reason="the gateway that held this connection is gone",
        )
        for row in rows
    ]


async def bury(tx: Write, at: datetime, dead_after: timedelta) -> None:
    """Forget replicas that died, once nothing of theirs is left."""
    held = sa.select(charger_connection.c.instance)
    await tx.execute(
        gateway_instance.delete().where(
            ~_lately(gateway_instance.c.seen_at, at, dead_after), gateway_instance.c.instance.not_in(held)
        )
    )


async def leave(tx: Write, instance: UUID) -> None:
    await tx.execute(gateway_instance.delete().where(gateway_instance.c.instance == instance))


async def forget_sessions(tx: Write, before: datetime) -> None:
    await tx.execute(charger_session.delete().where(charger_session.c.seen_at < before))


async def note(tx: Write, charge_box_id: str, seen_at: datetime, at: datetime) -> None:
    """A charger was heard of, by whatever way."""
    statement = pg.insert(charger).values(charge_box_id=charge_box_id, first_seen_at=seen_at, last_seen_at=seen_at)
    later = _later(charger.c.last_seen_at, statement.excluded.last_seen_at, at)
    await tx.execute(
        statement.on_conflict_do_update(index_elements=[charger.c.charge_box_id], set_={"last_seen_at": later})
    )


async def note_tapped(tx: Write, since: datetime, at: datetime) -> None:
    """Chargers at which a card was presented since then, whatever way the tap came."""
    tapped = (
        sa.select(
            tap.c.charge_box_id,
            sa.func.least(sa.func.min(tap.c.received_at), at),
            sa.func.least(sa.func.max(tap.c.received_at), at),
        )
        .where(tap.c.received_at >= since)
        .group_by(tap.c.charge_box_id)
        .order_by(tap.c.charge_box_id)
    )
    statement = pg.insert(charger).from_select(["charge_box_id", "first_seen_at", "last_seen_at"], tapped)
    later = _later(charger.c.last_seen_at, statement.excluded.last_seen_at, at)
    await tx.execute(
        statement.on_conflict_do_update(index_elements=[charger.c.charge_box_id], set_={"last_seen_at": later})
    )


# Who leaves the gateway. The row's own columns are looked at as well as the sockets: where it is just coming back, the
# update waits for its row, and then sees of it alone what is new.
_GONE = sa.and_(
    charger.c.via_gateway,
    charger.c.connected_at <= charger.c.disconnected_at,
    ~sa.exists().where(charger_connection.c.charge_box_id == charger.c.charge_box_id),
)
_LEAVES = charger.update().where(_GONE).values(via_gateway=False, subprotocol=None)


async def leave_tapped(tx: Write, since: datetime) -> None:
    """Chargers at which a card was presented since then, and since they left, that the hook alone heard of."""
    bypassed = sa.exists().where(
        tap.c.charge_box_id == charger.c.charge_box_id,
        tap.c.received_at >= since,
        tap.c.received_at > charger.c.disconnected_at,
        tap.c.via == "hook",
        tap.c.also_via.is_(None),
    )
    await tx.execute(_LEAVES.where(bypassed))


async def leave_started(tx: Write, charge_box_id: str, transaction_id: int, started_at: datetime) -> None:
    """A charger that began a session after it had left, which did not pass the gateway."""
    passed = sa.exists().where(
        charger_session.c.charge_box_id == charge_box_id, charger_session.c.transaction_id == transaction_id
    )
    mine = charger.c.charge_box_id == charge_box_id
    await tx.execute(_LEAVES.where(mine, charger.c.disconnected_at < started_at, ~passed))


# Readiness


async def claim_readiness(
    tx: Write, at: datetime, *, stale: timedelta, retry: timedelta, limit: int
) -> list[tuple[str, str | None]]:
    """Chargers, with their subprotocol, whose configuration should be asked for now, claimed by the time of asking.

    Due: never asked; told before its last boot; told longer ago than `stale`, or at a time still to come, of which
    nobody knows whether it was before the boot. Not again within `retry`.
    """
    online = sa.or_(
        sa.exists().where(charger_connection.c.charge_box_id == charger.c.charge_box_id),
        sa.not_(charger.c.via_gateway),
    )
    checked = charger.c.ready_checked_at
    due = sa.or_(checked.is_(None), checked < charger.c.boot_at, checked < at - stale, checked > at)
    rested = sa.or_(charger.c.ready_asked_at.is_(None), ~_lately(charger.c.ready_asked_at, at, retry))
    picked = (
        sa.select(charger.c.charge_box_id)
        .where(online, due, rested)
        .order_by(charger.c.ready_asked_at.nulls_first())
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    statement = charger.update().where(charger.c.charge_box_id.in_(picked)).values(ready_asked_at=at)
    rows = await tx.execute(statement.returning(charger.c.charge_box_id, charger.c.subprotocol))
    return [(row.charge_box_id, row.subprotocol) for row in rows]


async def claim_online(
    tx: Write, charge_box_id: str, at: datetime, *, stale: timedelta
) -> tuple[str, str | None] | None:
    """The charger, with its subprotocol, where it bypasses the gateway or takes no cards, and was not asked within
    `stale`: claimed.
    """
    rested = sa.or_(charger.c.ready_asked_at.is_(None), ~_lately(charger.c.ready_asked_at, at, stale))
    statement = (
        charger.update()
        .where(
            charger.c.charge_box_id == charge_box_id,
            sa.or_(sa.not_(charger.c.via_gateway), charger.c.ready == "no"),
            rested,
        )
        .values(ready_asked_at=at)
        .returning(charger.c.charge_box_id, charger.c.subprotocol)
    )
    row = (await tx.execute(statement)).first()
    return None if row is None else (row.charge_box_id, row.subprotocol)


async def ask_anew(tx: Write, charge_box_id: str) -> None:
    """Its configuration was changed: what it told before counts for nothing, and it is asked at the next turn."""
    statement = charger.update().where(charger.c.charge_box_id == charge_box_id)
    await tx.execute(statement.values(ready_checked_at=None, ready_asked_at=None))


async def set_readiness(tx: Write, charge_box_id: str, verdict: Verdict, at: datetime | None) -> Readiness:
    """Returns what was known before. `at`: when the charger told; None: it did not."""
    before = await tx.execute(
        sa.select(charger.c.ready).where(charger.c.charge_box_id == charge_box_id).with_for_update()
    )
    known: Readiness = before.scalar_one()
    values: dict[str, Any] = {
        "ready": verdict.ready,
        "ready_reason": verdict.reason,
        "ready_keys": dict(verdict.keys),
    }
    if at is not None:
        values["ready_checked_at"] = at
    await tx.execute(charger.update().where(charger.c.charge_box_id == charge_box_id).values(values))
    return known


async def set_online(tx: Write, charge_box_id: str, at: datetime, *, online: bool) -> None:
    await tx.execute(
        charger.update().where(charger.c.charge_box_id == charge_box_id).values(online=online, online_asked_at=at)
    )


async def override_proven(tx: Write, charge_box_id: str, honours: Readiness, tapped_at: datetime) -> None:
    """A session showed whether it stays off when it is told Blocked. What a later tap proved stands."""
    # It has come up since, perhaps with another firmware: of which the proof is, is not known.
    firmware = sa.case((charger.c.boot_at > tapped_at, None), else_=charger.c.firmware_version)
    statement = charger.update().where(
        charger.c.charge_box_id == charge_box_id,
        sa.or_(charger.c.override_proven_at.is_(None), charger.c.override_proven_at <= tapped_at),
    )
    await tx.execute(
        statement.values(honours_override=honours, override_proven_at=tapped_at, override_proven_of=firmware)
    )


async def override_not_disproven(tx: Write, charge_box_id: str, tapped_at: datetime) -> None:
    """No session followed a Blocked. Perhaps no cable was in: that makes no proof undone, unless of another firmware
    than the charger had by then, or of one that nobody knows, and it came up since.
    """
    proven_of, firmware = charger.c.override_proven_of, charger.c.firmware_version
    of_unknown = sa.and_(proven_of.is_(None), firmware.is_not(None), charger.c.boot_at > charger.c.override_proven_at)
    updated = sa.and_(charger.c.boot_at <= tapped_at, sa.or_(proven_of != firmware, of_unknown))
    statement = charger.update().where(
        charger.c.charge_box_id == charge_box_id,
        sa.or_(charger.c.honours_override == "unknown", sa.and_(charger.c.honours_override == "no", updated)),
    )
    await tx.execute(statement.values(honours_override="yes"))
