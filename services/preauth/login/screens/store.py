from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from services.preauth.chargers.tables import charger
from services.preauth.login.screens.view import ChargerState, Choice
from services.preauth.pairing.rules import OPEN_STATES
from services.preauth.tables import interception_off, pairing
from shared.database.engine import Read


async def choices(tx: Read, charge_box_ids: Sequence[str], at: datetime) -> tuple[Choice, ...]:
    """A kiosk's chargers as they are at this moment, in the order given."""
    off = set((await tx.execute(sa.select(interception_off.c.charge_box_id))).scalars())
    unable = set(
        (
            await tx.execute(
                sa.select(charger.c.charge_box_id).where(
                    charger.c.charge_box_id.in_(charge_box_ids), charger.c.ready == "no"
                )
            )
        ).scalars()
    )
    busy = set(
        (
            await tx.execute(
                sa.select(pairing.c.charge_box_id).where(
                    pairing.c.charge_box_id.in_(charge_box_ids),
                    pairing.c.state.in_(OPEN_STATES),
                    sa.or_(pairing.c.state != "armed", pairing.c.expires_at > at),
                )
            )
        ).scalars()
    )

    def state(charge_box_id: str) -> ChargerState:
        if "" in off or charge_box_id in off:
            return "off"
        if charge_box_id in unable:
            return "unable"
        return "busy" if charge_box_id in busy else "free"

    return tuple(Choice(each, state(each)) for each in charge_box_ids)
