"""The kill switch: interception off everywhere, or at one charger; every tap then charges."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.preauth.tables import interception_off
from shared.bus.outbox import Outbox
from shared.contracts.events.preauth import InterceptionSwitched
from shared.contracts.identity import Cause
from shared.contracts.requests.preauth import GetInterception, InterceptionState, SwitchInterception
from shared.database.engine import Database, Read, Write
from shared.runtime.clock import Clock

EVERYWHERE = ""


class Switch:
    def __init__(self, database: Database, outbox: Outbox, *, clock: Clock, qr_is_strong: bool) -> None:
        self._database, self._outbox, self._clock, self._qr_is_strong = database, outbox, clock, qr_is_strong

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
        return await self._state(tx)

    async def show(self, _: GetInterception, __: Cause) -> InterceptionState:
        async with self._database.read() as tx:
            return await self._state(tx)

    async def _state(self, tx: Read) -> InterceptionState:
        found = await tx.execute(sa.select(interception_off.c.charge_box_id))
        off = sorted(row.charge_box_id for row in found)
        return InterceptionState(
            everywhere=EVERYWHERE not in off,
            off_at=[one for one in off if one],
            qr_is_strong=self._qr_is_strong,
        )
