"""QR codes at chargers: an address with the charger's secret. A photo of one works from anywhere: weak presence."""

import hmac
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import segno
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.preauth.pairing.secrets import digest, new_secret
from services.preauth.pairing.withdrawing import withdraw
from services.preauth.tables import charger_qr, pairing
from shared.bus.outbox import Outbox
from shared.contracts.events.preauth import ChargerQrRotated
from shared.contracts.identity import Cause
from shared.contracts.problem import NotFound
from shared.contracts.requests.preauth import ChargerQr, PrintChargerQr, RotateChargerQr
from shared.database.engine import Database, Write
from shared.runtime.clock import Clock

Row = sa.Row[Any]


class QrCodes:
    """`public_url` is where drivers reach the pages, without a slash at its end."""

    def __init__(self, database: Database, outbox: Outbox, *, clock: Clock, public_url: str) -> None:
        self._database, self._outbox, self._clock, self._public_url = database, outbox, clock, public_url

    async def rotate_charger_qr(self, tx: Write, request: RotateChargerQr, cause: Cause) -> ChargerQr:
        """The old code opens nothing from now on, and what was armed with it takes no card any more."""
        # Who arms with the old code at this moment comes before the new one.
        await tx.execute(_of(request.charge_box_id).with_for_update())
        at = self._clock()
        values = {"secret": new_secret(), "rotated_at": at}
        statement = (
            pg.insert(charger_qr)
            .values(charge_box_id=request.charge_box_id, **values)
            .on_conflict_do_update(index_elements=[charger_qr.c.charge_box_id], set_=values)
        )
        row = (await tx.execute(statement.returning(charger_qr))).one()
        await self._outbox.add(tx, ChargerQrRotated(charge_box_id=row.charge_box_id), cause)
        by_code = (pairing.c.charge_box_id == row.charge_box_id, pairing.c.presence == "qr")
        await withdraw(tx, self._outbox, *by_code, why="qr_rotated", at=at, cause=cause)
        return self._view(row)

    async def print_charger_qr(self, request: PrintChargerQr, _: Cause) -> ChargerQr:
        """:raises NotFound: when the charger has no QR code yet."""
        async with self._database.read() as tx:
            row = (await tx.execute(_of(request.charge_box_id))).first()
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


async def opens(tx: Write, charge_box_id: str, secret: str) -> bool:
    """Whether this is the charger's QR secret, which stays so until `tx` ends: who rotates it then finds what was
    armed with it.
    """
    row = (await tx.execute(_of(charge_box_id).with_for_update(read=True))).first()
    return row is not None and hmac.compare_digest(digest(row.secret), digest(secret))


async def hold(tx: Write, charge_box_id: str, armed_at: datetime) -> bool:
    """Whether the code that a scan was armed with then is still the charger's, which it stays until `tx` ends."""
    row = (await tx.execute(_of(charge_box_id).with_for_update(read=True))).first()
    return row is not None and row.rotated_at <= armed_at


def _of(charge_box_id: str) -> sa.Select[Any]:
    return sa.select(charger_qr).where(charger_qr.c.charge_box_id == charge_box_id)
