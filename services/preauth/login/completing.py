"""From an intercepted scan to a driver's session: once, only for the browser that armed it, only if sync says yes."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from services.preauth.login import rules, store
from services.preauth.pairing import browsers, kiosks, pins, qr
from services.preauth.pairing import store as pairings
from services.preauth.pairing.pins import Pins
from services.preauth.pairing.rules import MOST_PIN_TRIES
from services.preauth.pairing.secrets import digest, new_secret
from shared.bus.outbox import Outbox
from shared.bus.requests import NoAnswerError, Requester
from shared.contracts.events.preauth import DriverSignedOut, LoginNewDevice, ScanLoginRefused, ScanLoginSucceeded
from shared.contracts.identity import Actor, Cause, IdTag
from shared.contracts.problem import RemoteProblem
from shared.contracts.requests.sync import CardView, GetCard
from shared.database.engine import Database, Write
from shared.runtime.clock import Clock, NewId
from shared.runtime.log import get_logger

log = get_logger(__name__)

ASK_SYNC_S = 4.0

_REVOKED = "This screen does not vouch for who stands there any more."
_ROTATED = "The code on the charger was replaced. Scan the new one, and start again."


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """`token` is what the browser holds from now on, and `browser`, where it was bound."""

    token: str
    session_id: UUID
    browser: str | None = None


class Login:
    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        requester: Requester,
        bound: Pins,
        *,
        clock: Clock,
        new_id: NewId,
        idle_s: float,
        longest_s: float,
    ) -> None:
        self._database, self._outbox, self._requester, self._pins = database, outbox, requester, bound
        self._clock, self._new_id = clock, new_id
        self._idle, self._longest = timedelta(seconds=idle_s), timedelta(seconds=longest_s)

    async def complete(self, pairing_id: UUID, browser: bytes, pin: str | None) -> LoggedIn:
        """Turn the scan into a session.

        :raises NoSuchScan: for another browser, or no such scan.
        :raises NotScanned: before Blocked was told in time.
        :raises ScanOver: when it ended without a scan, was not completed in time, or its kiosk was revoked or its
            code replaced since.
        :raises PinNeeded, PinWrong, PinLocked, PinsSpent: where presence is weak and this browser is not the owner's.
        :raises LoginRefused: sync says no, or nothing.
        :raises AlreadyUsed: the second time.
        """
        async with self._database.read() as tx:
            row = await store.own_pairing(tx, pairing_id, browser)
            weak = row is not None and row.weak and not await pins.is_bound(tx, IdTag(row.id_tag or ""), browser)
            revoked = row is not None and row.kiosk_id is not None and await kiosks.is_revoked(tx, row.kiosk_id)
        if row is None or row.purpose != "login":
            raise rules.NoSuchScan("This page does not belong to a scan that was started here. Start again.")
        if revoked:
            raise rules.ScanOver(_REVOKED)
        at = self._clock()
        if row.state == "consumed":
            return await self._again(row, at)
        if row.state in {"armed", "matched"}:
            raise rules.NotScanned("Hold your card to the charger first.")
        if row.state != "intercepted" or row.told_at < at - rules.COMPLETE_WITHIN:
            raise rules.ScanOver("This scan is over. Start again.")
        if weak:
            await self._check_pin(row, pin)
        card, reason = await self._ask(IdTag(row.id_tag), row.correlation_id)
        return await self._consume(row, browser, card, reason, with_pin=weak)

    async def sign_out(self, token: str) -> None:
        at = self._clock()
        async with self._database.write() as tx:
            row = await store.end_session(tx, digest(token), at=at, reason="asked")
            if row is not None:
                await self._tell_out(tx, row, _cause(Actor(kind="driver", id=str(row.session_id)), row))

    async def end_at_kiosk(self, tx: Write, kiosk_id: UUID, cause: Cause) -> None:
        """Sign out who signed in at a kiosk that does not vouch for anybody any more."""
        for row in await store.end_sessions_at(tx, kiosk_id, at=self._clock(), reason="kiosk_revoked"):
            await self._tell_out(tx, row, cause)

    async def session(self, token: str, *, used: bool = True) -> store.Row | None:
        """The living session of this token, which counts as used now unless its page only looks."""
        at = self._clock()
        living = {"idle_since": at - self._idle, "began_after": at - self._longest}
        if not used:
            async with self._database.read() as tx:
                return await store.living(tx, digest(token), **living)
        async with self._database.write() as tx:
            return await store.touch(tx, digest(token), at=at, **living)

    async def end_old(self) -> None:
        """End what nobody completed or uses any more. Called again and again."""
        at = self._clock()
        async with self._database.write() as tx:
            for row in await store.give_up(tx, told_before=at - rules.COMPLETE_WITHIN, at=at):
                system = Actor(kind="system", id="preauth")
                await self._tell_refused(
                    tx, row, "not_completed", Cause(actor=system, correlation_id=row.correlation_id)
                )
            ended = await store.end_old_sessions(tx, at=at, idle_since=at - self._idle, began_before=at - self._longest)
            for row in ended:
                await self._tell_out(tx, row, _cause(Actor(kind="system", id="preauth"), row))

    async def _again(self, row: store.Row, at: datetime) -> LoggedIn:
        """The same browser asks again, because the answer got lost: the one session, under a new token."""
        if row.result == "login" and row.ended_at > at - rules.ANSWER_AGAIN_WITHIN:
            token = new_secret()
            async with self._database.write() as tx:
                session = await store.renew_token(tx, row.pairing_id, digest(token))
            if session is not None:
                return LoggedIn(token, session.session_id)
        if row.result == "refused":
            raise rules.LoginRefused(rules.REFUSED)
        raise rules.AlreadyUsed("This scan was used already. Start again.")

    async def _check_pin(self, row: store.Row, pin: str | None) -> None:
        """A scan has a few tries, and so has the card: whoever guesses needs the card at the charger again and again,
        and cannot lock it from afar.
        """
        if pin is None:
            raise rules.PinNeeded("Enter the PIN of your card.")
        most = MOST_PIN_TRIES
        async with self._database.write() as tx:
            if not await pairings.try_pin(tx, row.pairing_id, most=most):
                raise rules.ScanOver("This scan is over. Start again.")
        verdict = await self._pins.check(IdTag(row.id_tag), pin)
        if verdict == "locked":
            # It stays so for longer than the scan could wait.
            await self._end_for_pins(row, "pin_locked", tries=0)
            raise rules.PinLocked(
                "Too many wrong PINs. Wait a quarter of an hour, or use the screen beside the charger."
            )
        if verdict == "wrong":
            if await self._end_for_pins(row, "pins_spent", tries=most):
                raise rules.PinsSpent("That was not the PIN either. Start again, and hold your card there again.")
            raise rules.PinWrong("That was not the PIN. Try again.")

    async def _end_for_pins(self, row: store.Row, why: Literal["pins_spent", "pin_locked"], *, tries: int) -> bool:
        """End a scan that had so many tries, and tell it: somebody guesses, and has the card or a copy of the code."""
        async with self._database.write() as tx:
            over = await pairings.end_for_pins(tx, row.pairing_id, result=why, tries=tries, at=self._clock())
            if over:
                await self._tell_refused(tx, row, why, _armer(row))
        return over

    async def _ask(self, id_tag: IdTag, correlation_id: UUID) -> tuple[CardView | None, str | None]:
        """The card, and why it may not log in. Silence is a no; without a broker nobody waits for it."""
        actor = Actor(kind="system", id="preauth")
        try:
            card = await self._requester.ask(
                GetCard(id_tag=id_tag),
                actor=actor,
                correlation_id=correlation_id,
                deadline_s=ASK_SYNC_S,
                at_once=True,
            )
        except NoAnswerError as error:
            log.warning("Nobody answered about a card; its login is refused.", action="login.no_answer", why=error.why)
            return None, "no_answer"
        except RemoteProblem as problem:
            return None, "unknown_card" if problem.status == 404 else problem.code
        return card, rules.why_not(card, self._clock())

    async def _consume(
        self, row: store.Row, browser: bytes, card: CardView | None, reason: str | None, *, with_pin: bool
    ) -> LoggedIn:
        at, token, session_id, bound = self._clock(), new_secret(), self._new_id(), None
        cause = _armer(row)
        told = {"pairing_id": row.pairing_id, "charge_box_id": row.charge_box_id, "id_tag": row.id_tag}
        async with self._database.write() as tx:
            if row.kiosk_id is not None and not await kiosks.hold(tx, row.kiosk_id):
                raise rules.ScanOver(_REVOKED)
            if row.presence == "qr" and not await qr.hold(tx, row.charge_box_id, row.armed_at):
                raise rules.ScanOver(_ROTATED)
            # Before the scan, as whoever binds it: also where nothing is bound, its binding is looked at.
            await browsers.hold(tx, browser)
            used = await store.consume(tx, row.pairing_id, result="refused" if reason else "login", at=at)
            if used is None:
                raise rules.AlreadyUsed("This scan was used already. Start again.")
            if reason is not None:
                await self._tell_refused(tx, row, reason, cause)
            else:
                await store.add_session(
                    tx,
                    {
                        "session_id": session_id,
                        "token_hash": digest(token),
                        "pairing_id": row.pairing_id,
                        "id_tag": row.id_tag,
                        "card_id": card.card_id if card else None,
                        "kiosk_id": row.kiosk_id,
                        "created_at": at,
                        "seen_at": at,
                    },
                )
                if with_pin and used.browser == browser:
                    bound = await browsers.renew(tx, browser, at)
                    browser = digest(bound)
                    await pins.bind(tx, IdTag(row.id_tag), browser, at)
                else:
                    # By the name that it has now. Where it was renewed while the PIN was checked or sync was asked, who
                    # asks has only the name of before, which a thief may know: not to be given another (decision 24).
                    browser = used.browser
                    await pins.seen(tx, IdTag(row.id_tag), browser, at)
                succeeded = ScanLoginSucceeded(
                    **told, tap_id=row.tap_id, session_id=session_id, presence=row.presence, kiosk_id=row.kiosk_id
                )
                await self._outbox.add(tx, succeeded, cause)
                await self._tell_new_device(tx, row, browser, session_id, cause)
        if reason is not None:
            raise rules.LoginRefused(rules.REFUSED)
        return LoggedIn(token, session_id, bound)

    async def _tell_refused(self, tx: Write, row: store.Row, reason: str, cause: Cause) -> None:
        event = ScanLoginRefused(
            pairing_id=row.pairing_id,
            charge_box_id=row.charge_box_id,
            id_tag=row.id_tag,
            tap_id=row.tap_id,
            presence=row.presence,
            reason=reason,
        )
        await self._outbox.add(tx, event, cause)

    async def _tell_new_device(self, tx: Write, row: store.Row, browser: bytes, session_id: UUID, cause: Cause) -> None:
        device = row.kiosk_id.bytes if row.kiosk_id else browser
        if await store.is_first_time(tx, IdTag(row.id_tag), device, self._clock()):
            event = LoginNewDevice(
                id_tag=row.id_tag,
                session_id=session_id,
                device="kiosk" if row.kiosk_id else "browser",
                kiosk_id=row.kiosk_id,
            )
            await self._outbox.add(tx, event, cause)

    async def _tell_out(self, tx: Write, row: store.Row, cause: Cause) -> None:
        event = DriverSignedOut(id_tag=row.id_tag, session_id=row.session_id, reason=row.end_reason)
        await self._outbox.add(tx, event, cause)


def _armer(row: store.Row) -> Cause:
    """In the name of who armed the scan."""
    return Cause(actor=Actor(kind=row.armed_by_kind, id=row.armed_by_id), correlation_id=row.correlation_id)


def _cause(actor: Actor, session: store.Row) -> Cause:
    return Cause(actor=actor, correlation_id=session.session_id)
