"""Arming a scan: by an operator, or by a driver whose presence a kiosk or a QR code vouches for."""

import math
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from services.preauth.pairing import browsers, kiosks, qr, rules, store
from services.preauth.pairing.secrets import digest, new_code
from services.preauth.pairing.turns import NoTurn, Turns
from shared.bus.outbox import Outbox
from shared.contracts.events.preauth import PairingArmed, PairingCancelled, PairingExpired, Presence, Purpose
from shared.contracts.identity import Actor, Cause
from shared.database.engine import WAIT_FOR_CONNECTION_S, Database, Write
from shared.runtime.clock import Clock, NewId

# As long as anybody waits for a connection.
WAIT_S: Final = WAIT_FOR_CONNECTION_S
RETRY_AFTER_S: Final = 5


@dataclass(frozen=True, slots=True)
class Driver:
    """Who wants to scan from a browser. Each field is what the browser says that it holds, or None."""

    source: str
    browser: str | None = None
    kiosk_key: str | None = None
    qr_secret: str | None = None


class Arming:
    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        *,
        clock: Clock,
        new_id: NewId,
        budgets: rules.Budgets,
        qr_is_strong: bool,
    ) -> None:
        self._database, self._outbox, self._clock, self._new_id = database, outbox, clock, new_id
        self._budgets, self._qr_is_strong = budgets, qr_is_strong
        self._turns = Turns(wait_s=WAIT_S)

    async def arm_as_driver(
        self, charge_box_id: str, connector_id: int | None, driver: Driver
    ) -> tuple[store.Row, str]:
        """Arm a scan for a login, bound to the driver's browser: the scan, and what the browser holds from now on.

        :raises InterceptionOff: while no tap could be taken here.
        :raises NotPresent: without a kiosk's key for this charger or its QR secret.
        :raises ChargerUnable: where taps are known not to reach us.
        :raises TooManyScans: beyond a budget, too soon after the last scan here, or while too many come at once.
        :raises AlreadyArmed: while another scan waits at this charger that need not give way.
        """
        # Whoever asks again and again would otherwise have all connections wait behind one, and nobody else got any. By
        # the source first: where it waits for itself, it holds up no charger.
        try:
            async with self._turns.of(f"source {driver.source}", f"charger {charge_box_id}"):
                return await self._arm_as_driver(charge_box_id, connector_id, driver)
        except NoTurn:
            # Who has the turn may wait for a database that is away. Then this says so, too.
            await self._database.ready()
            raise rules.TooManyScans(
                "Many scans are started here at the same time. Try again in a moment.", retry_after_s=RETRY_AFTER_S
            ) from None

    async def _arm_as_driver(
        self, charge_box_id: str, connector_id: int | None, driver: Driver
    ) -> tuple[store.Row, str]:
        async with self._database.write() as tx:
            if await store.is_off(tx, charge_box_id):
                raise rules.InterceptionOff("Signing in by card is switched off here for now. Charging works as usual.")
            presence, kiosk_id = await self._presence(tx, charge_box_id, driver)
            if (unable := await store.why_unable(tx, charge_box_id)) is not None:
                raise rules.ChargerUnable(unable)
            weak = presence == "qr" and not self._qr_is_strong
            await store.in_turn(tx, f"charger {charge_box_id}", f"kiosk {kiosk_id}" if kiosk_id else driver.source)
            recent = await store.recent(
                tx,
                charge_box_id=charge_box_id,
                weak=weak,
                kiosk_id=kiosk_id,
                source=driver.source if presence == "qr" else None,
                since=self._clock() - self._budgets.per,
            )
            wait_s = rules.wait_s(recent, self._budgets, self._clock(), weak=weak)
            if wait_s > 0:
                raise rules.TooManyScans(
                    f"Many scans were started here. Wait {math.ceil(wait_s)} s, then try again.",
                    retry_after_s=math.ceil(wait_s),
                )
            actor = Actor(kind="kiosk", id=str(kiosk_id)) if kiosk_id else Actor(kind="driver", id="qr")
            browser = await browsers.recognise(tx, driver.browser, self._clock())
            row = await self.arm(
                tx,
                Cause(actor=actor, correlation_id=self._new_id()),
                charge_box_id=charge_box_id,
                connector_id=connector_id,
                purpose="login",
                window_s=rules.WINDOW_S,
                presence=presence,
                weak=weak,
                browser=digest(browser),
                kiosk_id=kiosk_id,
                source=driver.source,
            )
        return row, browser

    async def arm(
        self,
        tx: Write,
        cause: Cause,
        *,
        charge_box_id: str,
        connector_id: int | None,
        purpose: Purpose,
        window_s: float,
        presence: Presence,
        weak: bool = False,
        browser: bytes | None = None,
        source: str | None = None,
        **more: Any,  # noqa: ANN401 - columns of a pairing
    ) -> store.Row:
        """:raises AlreadyArmed: while another scan waits at this charger that need not give way."""
        at = self._clock()
        await self.expire(tx, charge_box_id=charge_box_id)
        since = at - self._budgets.per
        out = await store.give_way(tx, charge_box_id, to_weak=weak, browser=browser, source=source, since=since, at=at)
        if out is not None:
            await self._outbox.add(
                tx,
                PairingCancelled(
                    pairing_id=out.pairing_id, charge_box_id=out.charge_box_id, purpose=out.purpose, why="gave_way"
                ),
                cause,
            )
        row = await store.arm(
            tx,
            {
                **more,
                "weak": weak,
                "browser": browser,
                "source": source,
                "pairing_id": self._new_id(),
                "charge_box_id": charge_box_id,
                "connector_id": connector_id,
                "purpose": purpose,
                "code": new_code(rules.CODE_LENGTH),
                "presence": presence,
                "armed_at": at,
                "expires_at": store.window(at, window_s),
                "armed_by_kind": cause.actor.kind,
                "armed_by_id": cause.actor.id,
                "correlation_id": cause.correlation_id,
            },
        )
        if row is None:
            raise rules.AlreadyArmed(
                f"A scan is waiting at {charge_box_id} already. Wait until it has ended, or cancel it."
            )
        event = PairingArmed(
            pairing_id=row.pairing_id,
            charge_box_id=row.charge_box_id,
            purpose=row.purpose,
            expires_at=row.expires_at,
            connector_id=row.connector_id,
        )
        await self._outbox.add(tx, event, cause)
        return row

    async def cancel(self, tx: Write, pairing_id: UUID, cause: Cause | None = None) -> store.Row | None:
        """Cancel an armed scan, by default in the name of who armed it; None when it is not armed (any more)."""
        row = await store.cancel(tx, pairing_id, at=self._clock())
        if row is not None:
            who = Actor(kind=row.armed_by_kind, id=row.armed_by_id)
            event = PairingCancelled(pairing_id=row.pairing_id, charge_box_id=row.charge_box_id, purpose=row.purpose)
            await self._outbox.add(tx, event, cause or Cause(actor=who, correlation_id=row.correlation_id))
        return row

    async def cancel_as_driver(self, pairing_id: UUID) -> None:
        """Also for one that has ended: then there is nothing left to do. The caller has seen whose it is."""
        async with self._database.write() as tx:
            await self.cancel(tx, pairing_id)

    async def expire(self, tx: Write, charge_box_id: str | None = None) -> int:
        """End scans whose window is over; returns how many."""
        ended = await store.expire(tx, at=self._clock(), charge_box_id=charge_box_id)
        for row in ended:
            await self._outbox.add(
                tx,
                PairingExpired(pairing_id=row.pairing_id, charge_box_id=row.charge_box_id, purpose=row.purpose),
                Cause(actor=Actor(kind="system", id="preauth"), correlation_id=row.correlation_id),
            )
        return len(ended)

    async def _presence(self, tx: Write, charge_box_id: str, driver: Driver) -> tuple[Presence, UUID | None]:
        if driver.kiosk_key is not None:
            kiosk = await kiosks.held_by_key(tx, driver.kiosk_key)
            if kiosk is not None and charge_box_id in kiosk.charge_box_ids:
                return "kiosk", kiosk.kiosk_id
        if driver.qr_secret is not None and await qr.opens(tx, charge_box_id, driver.qr_secret):
            return "qr", None
        raise rules.NotPresent(
            "Use the screen beside the charger, or scan the code on the charger again: it may have been replaced."
        )
