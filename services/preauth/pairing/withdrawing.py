"""Ending scans whose presence was taken back: of a revoked kiosk, or of a QR code that was replaced."""

from datetime import datetime
from typing import Literal

import sqlalchemy as sa

from services.preauth.tables import pairing
from shared.bus.outbox import Outbox
from shared.contracts.events.preauth import PairingCancelled, ScanLoginRefused
from shared.contracts.identity import Cause
from shared.database.engine import Write


async def withdraw(
    tx: Write,
    outbox: Outbox,
    *armed_with: sa.ColumnElement[bool],
    why: Literal["kiosk_revoked", "qr_rotated"],
    at: datetime,
    cause: Cause,
) -> None:
    """Cancel the scans that wait for a card, and end those whose login was not completed yet.

    One that a card is being matched with at this very moment is not held up: completing it asks again.
    """
    armed = pairing.update().where(*armed_with, pairing.c.state == "armed")
    gone = await tx.execute(armed.values(state="cancelled", result=why, ended_at=at).returning(pairing))
    for row in gone.all():
        event = PairingCancelled(
            pairing_id=row.pairing_id, charge_box_id=row.charge_box_id, purpose=row.purpose, why=why
        )
        await outbox.add(tx, event, cause)
    scanned = pairing.update().where(*armed_with, pairing.c.state == "intercepted")
    ended = await tx.execute(scanned.values(state="consumed", result=why, ended_at=at).returning(pairing))
    for row in ended.all():
        refused = ScanLoginRefused(
            pairing_id=row.pairing_id,
            charge_box_id=row.charge_box_id,
            id_tag=row.id_tag,
            tap_id=row.tap_id,
            presence=row.presence,
            reason=why,
        )
        await outbox.add(tx, refused, cause)
