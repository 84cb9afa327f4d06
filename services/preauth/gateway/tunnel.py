"""One charger's way to SteVe and back: two sockets of the same lifetime, and what happens between them.

Frames pass in order and unchanged. Only a card presented at the charger makes the way to SteVe wait, and never longer
than the deadline; the way back never waits (facts: what a gateway in between must keep).
"""

import asyncio
from datetime import datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

from websockets.frames import Opcode
from websockets.http11 import Request, Response

from services.preauth.chargers.seen import Connected, Disconnected
from services.preauth.gateway import rules
from services.preauth.gateway.conversation import Conversation, attempt
from services.preauth.gateway.held import Held
from services.preauth.gateway.house import House, Share
from services.preauth.gateway.legs import ABNORMAL, Leg, Why
from services.preauth.gateway.ports import Presented
from services.preauth.gateway.question import Question
from services.preauth.gateway.rules import Authorize, Call, StartTransaction
from shared.runtime.log import get_logger

log = get_logger(__name__)

READ_PROTOCOL: Final = "ocpp1.6"
RESTART: Final = 1012
TRY_AGAIN_LATER: Final = 1013


class Owner(Protocol):
    def ended(self, tunnel: "Tunnel") -> None:
        """Both sockets are gone."""
        ...


class Tunnel:
    """Made when both sides have said 101. `charger` and `steve` are told from now on to nobody else."""

    __slots__ = (
        "_close",
        "_closing",
        "_draining",
        "_held",
        "_house",
        "_hurry",
        "_loop",
        "_lost",
        "_open_calls",
        "_owner",
        "_question",
        "_reads",
        "_share",
        "_stall",
        "_talk",
        "_work",
        "charge_box_id",
        "charger",
        "connection_id",
        "heartbeat_at",
        "seen_at",
        "steve",
        "subprotocol",
    )

    def __init__(
        self, house: House, owner: Owner, *, charger: Leg, steve: Leg, charge_box_id: str, subprotocol: str
    ) -> None:
        self._house, self._owner = house, owner
        self.charger, self.steve = charger, steve
        self.charge_box_id, self.subprotocol = charge_box_id, subprotocol
        self.connection_id: UUID = house.new_id()
        self._loop = asyncio.get_running_loop()
        self._reads = subprotocol == READ_PROTOCOL
        # Calls without an answer yet, by who called: the charger's, SteVe's.
        self._open_calls = [0, 0]
        self._talk = Conversation(charge_box_id)
        self.seen_at: datetime = house.clock()
        self.heartbeat_at: datetime | None = None
        self._question: Question | None = None
        self._hurry = False
        # Not None: a tap is being decided, and this waits behind it.
        self._held: Held | None = None
        self._work: asyncio.Task[None] | None = None
        self._share = Share(house.limits, self._loop.time())
        self._stall: dict[int, asyncio.TimerHandle] = {}
        self._close: tuple[int, str] | None = None
        self._closing = False
        self._draining = False
        self._lost = 0

    def opened(self) -> None:
        self._house.saw(
            Connected(
                charge_box_id=self.charge_box_id,
                at=self._house.clock(),
                connection_id=self.connection_id,
                subprotocol=self.subprotocol,
            )
        )

    # What the legs tell

    def on_connected(self, leg: Leg) -> None:
        """Never: both are there."""

    def on_handshake(self, leg: Leg, message: Request | Response) -> None:
        """Never: the handshake is over."""

    def on_text(self, leg: Leg, text: bytes | bytearray) -> None:
        if leg is self.steve:
            self._down(text)
        elif self._held is None:
            self._up(text)
        else:
            self._hold(self._held, Opcode.TEXT, text)

    def on_control(self, leg: Leg, opcode: Opcode, data: bytes) -> None:
        if leg is self.steve:
            self.charger.send_control(opcode, data)
        elif self._held is None:
            self.steve.send_control(opcode, data)
        else:
            self._hold(self._held, opcode, data)

    def on_batch(self, leg: Leg, frames: int) -> None:
        if leg is self.steve:
            self.charger.flush()
            return
        self.steve.flush()
        self.seen_at = self._house.clock()
        pause_s = self._share.use(frames, self._loop.time())
        if pause_s > 0:
            self._house.meter.throttled += 1
            leg.pause(Why.TOO_FAST)
            self._loop.call_later(pause_s, leg.resume, Why.TOO_FAST)

    def on_full(self, leg: Leg, *, full: bool) -> None:
        other = self.steve if leg is self.charger else self.charger
        if full:
            other.pause(Why.PEER_IS_SLOW)
            self._stall[id(leg)] = self._loop.call_later(self._house.limits.stall_s, self._stalled, leg)
            return
        other.resume(Why.PEER_IS_SLOW)
        if (timer := self._stall.pop(id(leg), None)) is not None:
            timer.cancel()
        self._leave_if_quiet()

    def on_closed(self, leg: Leg, code: int, reason: str) -> None:
        if self._close is None:
            self._close = (code, reason)
        if leg is self.steve:
            # What still waits for a decision has nobody to go to.
            self._stop_work()
            self.charger.flush()
            self.charger.close(code, reason)
        elif self._held is None:
            self.steve.flush()
            self.steve.close(code, reason)
        else:
            self._closing = True

    def on_lost(self, leg: Leg) -> None:
        if (timer := self._stall.pop(id(leg), None)) is not None:
            timer.cancel()
        self._lost += 1
        if self._lost < 2:
            other = self.steve if leg is self.charger else self.charger
            other.resume(Why.PEER_IS_SLOW)
            return
        self._stop_work()
        code, reason = self._close or (ABNORMAL, "")
        self._house.saw(
            Disconnected(
                charge_box_id=self.charge_box_id,
                at=self._house.clock(),
                connection_id=self.connection_id,
                code=code,
                reason=rules.clean(reason) or "",
            )
        )
        self._owner.ended(self)

    # What the gateway asks

    def drain(self) -> None:
        """Say good-bye as soon as no call is open."""
        self._draining = True
        self._leave_if_quiet()

    def leave(self) -> None:
        """Say good-bye now; what was read is sent first, a tap without waiting for its decision."""
        self._hurry = True
        self._take_what_was_read()
        if self._held is not None:
            if self._question is not None:
                self._question.give_up()
            return
        self.steve.flush()
        if self._close is None:
            self._close = (RESTART, "Service Restart")
        code, reason = self._close
        self.charger.close(code, reason)
        self.steve.close(code, reason)

    def cut(self) -> None:
        """End both sockets by force."""
        self.charger.abort()
        self.steve.abort()

    # The charger's way to SteVe

    def _up(self, text: bytes | bytearray) -> None:
        """Pass a message on, or begin to hold: it is a tap."""
        self._house.meter.frames_up += 1
        kind = rules.kind_of(text)
        if kind == rules.CALL:
            self._open_calls[0] += 1
            if self._reads:
                self._up_call(text)
                return
        self.steve.send_text(text)
        if kind is not None and kind != rules.CALL:
            self._settle(1)
            if self._talk.waits_for_charger:
                self._house.saw(self._talk.answered_by_charger(text, self._house.clock()))

    def _up_call(self, text: bytes | bytearray) -> None:
        call, message = attempt(rules.read_known, text) or (None, None)
        if call is not None and isinstance(message, Authorize | StartTransaction):
            tap = self._presented(message)
            if self._hurry:
                self._pass(call, message, text, tap, in_time=False)
                return
            self._held = Held()
            self._work = self._loop.create_task(self._present(call, message, text, tap))
            return
        self.steve.send_text(text)
        if call is None:
            return
        if call.action == "Heartbeat":
            self.heartbeat_at = self._house.clock()
        if message is not None:
            self._house.saw(self._talk.called(call, message, self._house.clock()))

    @property
    def _holding(self) -> bool:
        return self._held is not None

    def _hold(self, held: Held, opcode: Opcode, data: bytes | bytearray) -> None:
        held.put(opcode, data)
        if held.full:
            self.charger.pause(Why.HELD)

    def _presented(self, message: Authorize | StartTransaction) -> Presented:
        return Presented(
            tap_id=self._house.new_id(),
            charge_box_id=self.charge_box_id,
            id_tag=message.id_tag,
            kind="authorize" if isinstance(message, Authorize) else "start",
            connector_id=message.connector_id if isinstance(message, StartTransaction) else None,
            at=self._house.clock(),
            remote_start=self._talk.started_remotely(message.id_tag, self._loop.time()),
        )

    async def _present(
        self, call: Call, message: Authorize | StartTransaction, text: bytes | bytearray, tap: Presented
    ) -> None:
        """Ask the desk about a tap, act on its answer, then pass on what waited behind it."""
        self._question = Question(self._house, tap)
        if self._hurry:
            # Since the tap was read: there was no question yet that could be given up.
            self._question.give_up()
        try:
            intercept, in_time = await self._question.answer()
        except asyncio.CancelledError:
            # The way to SteVe or to the charger is gone. Who decides must hear that nothing was told: it would hold
            # the card's next taps back until it knows.
            self._house.told(tap, "unknown", in_time=False)
            raise
        if intercept and tap.kind == "authorize" and not tap.remote_start:
            self._answer_blocked(call.message_id, tap)
        else:
            self._pass(call, message, text, tap, in_time=in_time)
        self._release()

    def _pass(
        self,
        call: Call,
        message: Authorize | StartTransaction,
        text: bytes | bytearray,
        tap: Presented,
        *,
        in_time: bool,
    ) -> None:
        """Send a tap on, and say so: the desk journals it, also where it was not asked for want of time."""
        self._talk.called(call, message, tap.at, tap)
        self.steve.send_text(text)
        self.steve.flush()
        self._house.told(tap, "passed" if self.steve.open else "unknown", in_time=in_time)
        if tap.kind == "start":
            self._talk.session_began(tap.id_tag)

    def _answer_blocked(self, message_id: str, tap: Presented) -> None:
        until = self._house.clock() + timedelta(seconds=self._house.limits.blocked_for_s)
        reachable = self.charger.open
        self.charger.send_text(rules.blocked(message_id, until))
        self.charger.flush()
        self._house.meter.taps["blocked"] += 1
        self._house.told(tap, "blocked" if reachable else "unknown", in_time=reachable)
        self._settle(0)

    def _release(self) -> None:
        """Pass on what waited, up to the next tap."""
        held, self._held = self._held, None
        self._work = self._question = None
        while held:
            opcode, data = held.take()
            if opcode is Opcode.TEXT:
                self._up(data)
            else:
                self.steve.send_control(opcode, bytes(data))
            if self._held is not None:
                # A tap again: the rest waits for it.
                self._held = held
                break
        self.steve.flush()
        if self._held is None or self._held.roomy:
            self.charger.resume(Why.HELD)
        if self._closing and not self._holding:
            code, reason = self._close or (ABNORMAL, "")
            self.steve.close(code, reason)
        if self._hurry and not self._holding:
            self.leave()
        self._leave_if_quiet()

    # SteVe's way to the charger

    def _down(self, text: bytes | bytearray) -> None:
        self._house.meter.frames_down += 1
        self.charger.send_text(text)
        kind = rules.kind_of(text)
        if kind == rules.CALL:
            self._open_calls[1] += 1
            if self._reads and b"RemoteStart" in text[: rules.READABLE_BYTES]:
                self._house.saw(self._talk.called_by_steve(text, self._house.clock(), self._loop.time()))
        elif kind is not None:
            if self._talk.waits_for_steve and (heard := self._talk.answered(text, self._house.clock())) is not None:
                self._house.saw(heard.seen)
                self._house.answered(heard.tap, heard.verdict)
            self._settle(0)

    # Both

    def _settle(self, caller: int) -> None:
        if self._open_calls[caller] > 0:
            self._open_calls[caller] -= 1
        if self._draining:
            self._leave_if_quiet()

    def _leave_if_quiet(self) -> None:
        if self._draining and self._quiet:
            # Not in the middle of a batch; and by then another call may have come.
            self._loop.call_soon(self._leave_if_still_quiet)

    def _leave_if_still_quiet(self) -> None:
        self._take_what_was_read()
        if self._draining and self._quiet:
            self._draining = False
            self.leave()

    @property
    def _quiet(self) -> bool:
        return self._held is None and not any(self._open_calls)

    def _take_what_was_read(self) -> None:
        self.charger.work()
        self.steve.work()

    def _stalled(self, leg: Leg) -> None:
        """A peer that does not read: it will not read a close frame either."""
        self._house.meter.stalled += 1
        log.warning(
            "A peer does not read; its connection is cut.",
            action="gateway.stalled",
            charge_box_id=self.charge_box_id,
            side="charger" if leg is self.charger else "steve",
        )
        if leg is self.steve and self._close is None:
            self._close = (TRY_AGAIN_LATER, "The central system does not read")
            self.charger.close(*self._close)
        leg.abort()

    def _stop_work(self) -> None:
        if self._work is not None:
            self._work.cancel()
            self._work = None
