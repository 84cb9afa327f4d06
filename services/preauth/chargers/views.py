"""Chargers as others see them."""

from typing import Any

import sqlalchemy as sa

from services.preauth.chargers.store import connector_of
from services.preauth.chargers.tables import (
    charger,
    charger_connection,
    charger_connector,
    charger_session,
)
from shared.contracts.events.preauth import Readiness
from shared.contracts.requests.preauth import ChargerView, ConnectorView, OpenSessionView, ReadinessView
from shared.database.engine import Read


async def view(tx: Read, charge_box_id: str) -> ChargerView | None:
    found = await _views(tx, charger.c.charge_box_id == charge_box_id, limit=1)
    return found[0] if found else None


async def views(
    tx: Read,
    *,
    text: str | None,
    connected: bool | None,
    ready: Readiness | None,
    after: str | None,
    limit: int,
) -> list[ChargerView]:
    """In the order of their ids, by code point: the same for every database."""
    where: list[sa.ColumnElement[bool]] = []
    if text:
        where.append(charger.c.charge_box_id.icontains(text, autoescape=True))
    if connected is not None:
        open_sockets = sa.exists().where(charger_connection.c.charge_box_id == charger.c.charge_box_id)
        is_connected = sa.case((charger.c.via_gateway, open_sockets), else_=charger.c.online)
        where.append(is_connected.is_(sa.true() if connected else sa.false()))
    if ready is not None:
        where.append(charger.c.ready == ready)
    if after is not None:
        where.append(_order() > after)
    return await _views(tx, *where, limit=limit)


def _order() -> sa.ColumnElement[str]:
    return sa.collate(charger.c.charge_box_id, "C")


async def _views(tx: Read, *where: sa.ColumnElement[bool], limit: int) -> list[ChargerView]:
    rows = (await tx.execute(sa.select(charger).where(*where).order_by(_order()).limit(limit))).all()
    ids = [row.charge_box_id for row in rows]
    sockets: dict[str, int] = {}
    for row in await tx.execute(
        sa.select(charger_connection.c.charge_box_id, sa.func.count())
        .where(charger_connection.c.charge_box_id.in_(ids))
        .group_by(charger_connection.c.charge_box_id)
    ):
        sockets[row[0]] = row[1]
    connectors: dict[str, list[ConnectorView]] = {one: [] for one in ids}
    for row in await tx.execute(
        sa.select(charger_connector)
        .where(charger_connector.c.charge_box_id.in_(ids))
        .order_by(charger_connector.c.connector_id)
    ):
        known = connector_of(row)
        connectors[row.charge_box_id].append(
            ConnectorView(
                connector_id=row.connector_id,
                state=known.state,
                reported_at=known.reported_at,
                seen_at=known.seen_at,
            )
        )
    sessions: dict[str, list[OpenSessionView]] = {one: [] for one in ids}
    for row in await tx.execute(
        sa.select(charger_session)
        .where(
            charger_session.c.charge_box_id.in_(ids),
            charger_session.c.stopped_at.is_(None),
            charger_session.c.started_at.is_not(None),
        )
        .order_by(charger_session.c.transaction_id)
    ):
        sessions[row.charge_box_id].append(
            OpenSessionView(
                transaction_id=row.transaction_id,
                connector_id=row.connector_id,
                id_tag=row.id_tag,
                meter_start_wh=row.meter_start_wh,
                started_at=row.started_at,
            )
        )
    return [
        _view(row, sockets.get(row.charge_box_id, 0), connectors[row.charge_box_id], sessions[row.charge_box_id])
        for row in rows
    ]


def _view(
    row: sa.Row[Any], sockets: int, connectors: list[ConnectorView], sessions: list[OpenSessionView]
) -> ChargerView:
    columns = row._asdict()
    return ChargerView.model_validate(
        {
            **columns,
            "connected": sockets > 0 if row.via_gateway else row.online,
            "connected_as_of": row.last_seen_at if row.via_gateway else row.online_asked_at,
            "readiness": ReadinessView(
                ready=row.ready, reason=row.ready_reason, keys=row.ready_keys, checked_at=row.ready_checked_at
            ),
            "connectors": connectors,
            "open_sessions": sessions,
        }
    )
