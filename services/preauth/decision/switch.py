"""The kill switch: interception off everywhere, or at one charger; every tap then charges."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.preauth.tables import interception_off
from shared.bus.outbox import Outbox
from shared.contracts.events.preauth import InterceptionSwitched
from shared.contracts.identity import Cause
from shared.contracts.requests.preauth import InterceptionState, SwitchInterception
from shared.database.engine import Write
from shared.runtime.clock import Clock

EVERYWHERE = ""


class Switch:
    def __init__(self, outbox: Outbox, *, clock: Clock) -> None:
        self._outbox, self._clock = outbox, clock

    async def switch(self, tx: Write, request: SwitchInterception, cause: Cause) -> InterceptionState:
        """Switch, and say how it stands. Switching to what it is already changes nothing and is told to nobody."""
        where = request.charge_box_id or EVERYWHERE
        statement: sa.Delete | pg.Insert = interception_off.delete().where(interception_off.c.charge_box_id == where)
        if not request.on:
            statement = (
                pg.insert(interception_off)
                .values(
                    charge_box_id=where,
                    since=self._clock(),
                    by_kind=cause.actor.kind,
                    by_id=cause.actor.id,
                    why=request.why,
                )
                .on_conflict_do_nothing()
            )
        changed = (await tx.execute(statement.returning(interception_off.c.charge_box_id))).first()
        if changed is not None:
            event = InterceptionSwitched(charge_box_id=request.charge_box_id, on=request.on, why=request.why)
            await self._outbox.add(tx, event, cause)
        found = await tx.execute(sa.select(interception_off.c.charge_box_id))
        off = sorted(row.charge_box_id for row in found)
        return InterceptionState(everywhere=EVERYWHERE not in off, off_at=[one for one in off if one])
