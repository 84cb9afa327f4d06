"""Arming, cancelling and listing pairings, as operators ask it through admin_api."""

from services.preauth.decision.handlers import position
from services.preauth.pairing import rules, store
from shared.bus.outbox import Outbox
from shared.contracts.events.preauth import PairingArmed, PairingCancelled, PairingExpired
from shared.contracts.identity import Actor, Cause
from shared.contracts.problem import NotFound
from shared.contracts.requests.preauth import ArmPairing, CancelPairing, ListPairings, PairingList, PairingView
from shared.database.engine import Database, Write
from shared.runtime.clock import Clock, NewId
from shared.runtime.log import get_logger

log = get_logger(__name__)


class Pairings:
    def __init__(self, database: Database, outbox: Outbox, *, clock: Clock, new_id: NewId) -> None:
        self._database, self._outbox, self._clock, self._new_id = database, outbox, clock, new_id

    async def arm_pairing(self, tx: Write, request: ArmPairing, cause: Cause) -> PairingView:
        """:raises AlreadyArmed: while another scan waits at this charger."""
        at = self._clock()
        await self._expire(tx, charge_box_id=request.charge_box_id)
        row = await store.arm(
            tx,
            {
                "pairing_id": self._new_id(),
                "charge_box_id": request.charge_box_id,
                "connector_id": request.connector_id,
                "purpose": request.purpose,
                "code": rules.new_code(),
                "presence": "operator",
                "weak": False,
                "armed_at": at,
                "expires_at": store.window(at, request.window_s),
                "armed_by_kind": cause.actor.kind,
                "armed_by_id": cause.actor.id,
                "correlation_id": cause.correlation_id,
            },
        )
        if row is None:
            raise rules.AlreadyArmed(
                f"A scan is waiting at {request.charge_box_id} already. Wait until it has ended, or cancel it."
            )
        await self._outbox.add(
            tx,
            PairingArmed(
                pairing_id=row.pairing_id,
                charge_box_id=row.charge_box_id,
                purpose=row.purpose,
                expires_at=row.expires_at,
                connector_id=row.connector_id,
            ),
            cause,
        )
        return store.view(row)

    async def cancel_pairing(self, tx: Write, request: CancelPairing, cause: Cause) -> PairingView:
        """:raises NotFound: for an unknown pairing.
        :raises NotCancellable: when it has ended, or a card was just matched.
        """
        row = await store.cancel(tx, request.pairing_id, at=self._clock())
        if row is None:
            known = await store.get(tx, request.pairing_id)
            if known is None:
                raise NotFound(f"There is no scan {request.pairing_id}.")
            raise rules.NotCancellable(
                f"The scan at {known.charge_box_id} is {known.state}; there is nothing to cancel."
            )
        await self._outbox.add(
            tx,
            PairingCancelled(pairing_id=row.pairing_id, charge_box_id=row.charge_box_id, purpose=row.purpose),
            cause,
        )
        return store.view(row)

    async def list_pairings(self, request: ListPairings, _: Cause) -> PairingList:
        """:raises Invalid: on a cursor that did not come from a previous page."""
        before = position(request.cursor) if request.cursor else None
        async with self._database.read() as tx:
            rows = await store.search(tx, request, before=before)
        more = len(rows) == request.limit
        cursor = f"{rows[-1].armed_at.isoformat()}_{rows[-1].pairing_id}" if more else None
        return PairingList(pairings=[store.view(row) for row in rows], next_cursor=cursor)

    async def expire(self) -> int:
        """End what ran out; returns how many. Called again and again."""
        async with self._database.write() as tx:
            return await self._expire(tx)

    async def _expire(self, tx: Write, charge_box_id: str | None = None) -> int:
        ended = await store.expire(tx, at=self._clock(), charge_box_id=charge_box_id)
        for row in ended:
            await self._outbox.add(
                tx,
                PairingExpired(pairing_id=row.pairing_id, charge_box_id=row.charge_box_id, purpose=row.purpose),
                Cause(actor=Actor(kind="system", id="preauth"), correlation_id=row.correlation_id),
            )
        return len(ended)
