"""QR codes at chargers: an address with the charger's secret. A photo of one works from anywhere: weak presence."""

import hmac
from typing import Any
from urllib.parse import urlencode

import segno
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.preauth.pairing.secrets import digest, new_secret
from services.preauth.tables import charger_qr
from shared.bus.outbox import Outbox
from shared.contracts.events.preauth import ChargerQrRotated
from shared.contracts.identity import Cause
from shared.contracts.problem import NotFound
from shared.contracts.requests.preauth import ChargerQr, PrintChargerQr, RotateChargerQr
from shared.database.engine import Database, Read, Write
from shared.runtime.clock import Clock

Row = sa.Row[Any]


class QrCodes:
    """`public_url` is where drivers reach the pages, without a slash at its end."""

    def __init__(self, database: Database, outbox: Outbox, *, clock: Clock, public_url: str) -> None:
        self._database, self._outbox, self._clock, self._public_url = database, outbox, clock, public_url

    async def rotate_charger_qr(self, tx: Write, request: RotateChargerQr, cause: Cause) -> ChargerQr:
        values = {"secret": new_secret(), "rotated_at": self._clock()}
        statement = (
            pg.insert(charger_qr)
            .values(charge_box_id=request.charge_box_id, **values)
            .on_conflict_do_update(index_elements=[charger_qr.c.charge_box_id], set_=values)
        )
        row = (await tx.execute(statement.returning(charger_qr))).one()
        await self._outbox.add(tx, ChargerQrRotated(charge_box_id=row.charge_box_id), cause)
        return self._view(row)

    async def print_charger_qr(self, request: PrintChargerQr, _: Cause) -> ChargerQr:
        """:raises NotFound: when the charger has no QR code yet."""
        async with self._database.read() as tx:
            row = await _find(tx, request.charge_box_id)
        if row is None:
            raise NotFound(f"{request.charge_box_id} has no QR code yet. Rotate it once to make one.")
        return self._view(row)

    def _view(self, row: Row) -> ChargerQr:
        query = urlencode({"charger": row.charge_box_id, "key": row.secret})
        address = f"{self._public_url}/scan?{query}"
        return ChargerQr(
            charge_box_id=row.charge_box_id,
            address=address,
            svg=segno.make(address, error="m").svg_inline(scale=4, border=4),
            rotated_at=row.rotated_at,
        )


async def opens(tx: Read, charge_box_id: str, secret: str) -> bool:
    """Whether this is the charger's QR secret now."""
    row = await _find(tx, charge_box_id)
    return row is not None and hmac.compare_digest(digest(row.secret), digest(secret))


async def _find(tx: Read, charge_box_id: str) -> Row | None:
    found: Row | None = (
        await tx.execute(sa.select(charger_qr).where(charger_qr.c.charge_box_id == charge_box_id))
    ).first()
    return found
