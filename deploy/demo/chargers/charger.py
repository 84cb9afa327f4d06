"""A charger that speaks OCPP 1.6-J for real: what a driver, a car and a central system can do with it."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Coroutine
from dataclasses import replace
from datetime import datetime
from typing import Any, Self

from ocpp.v16 import call
from websockets.exceptions import WebSocketException

from deploy.demo.chargers.cards import Cards
from deploy.demo.chargers.configuration import Configuration
from deploy.demo.chargers.faults import Faults
from deploy.demo.chargers.link import Link
from deploy.demo.chargers.queue import QueuedMeterValues, QueuedStart, QueuedStop, UploadQueue
from deploy.demo.chargers.remote import Remote
from deploy.demo.chargers.reservations import Reservations
from deploy.demo.chargers.session import MANUAL_PACE, Connector, Pace, Session, TapResult, wire_time
from deploy.demo.chargers.settings import ChargerSettings
from deploy.demo.chargers.wire import NoAnswerError, Wire

NO_ANSWER = "NoAnswer"


class Charger:
    """Use as `async with Charger(settings) as charger`, or `start()` and `close()`.

    Connectors count from 1. Energy is Wh, power W.
    """

    def __init__(self, settings: ChargerSettings) -> None:
        self.faults = Faults(settings.charge_box_id, settings.faults)
        self.settings = replace(settings, clock=self.faults.clock(settings.clock))
        self.charge_box_id = settings.charge_box_id
        self.configuration = Configuration(settings.connectors, settings.configuration)
        self.cards = Cards(self.configuration, self.settings.clock)
        self.connectors = {
            number: Connector(number, settings.meter_start_wh) for number in range(1, settings.connectors + 1)
        }
        self.reservations = Reservations(self.connectors, self.settings.clock)
        self.registration: str | None = None
        remote = Remote(self)
        handlers = (remote.handlers(), remote.after_handlers())
        self._link = Link(settings, handlers, self._catch_up, self.report, self.faults)
        self._queue = UploadQueue()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # Connection

    async def start(self) -> None:
        """Connect, boot and report every connector. A refusal at the handshake is raised as it is."""
        try:
            await self._link.connect()
            await self.boot()
        except BaseException:
            await self.close()
            raise
        if self.settings.heartbeats:
            self.spawn(self._heartbeats())

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._link.close()

    async def go_offline(self) -> None:
        """Lose the network: sessions go on, their messages wait."""
        await self._link.leave()

    async def go_online(self) -> None:
        """Come back and upload what waits, in order."""
        await self._link.connect()
        await self._catch_up()

    async def drop_connection(self) -> None:
        """Cut the socket without a close frame; the charger reconnects by itself."""
        await self._link.cut()

    async def send_raw(self, frame: str | bytes) -> None:
        """Put any frame on the wire, also a broken one. NoAnswerError when offline."""
        await self.wire.connection.send(frame)

    @property
    def online(self) -> bool:
        return self._link.online

    @property
    def wire(self) -> Wire:
        """The connection that is open now. NoAnswerError when offline."""
        return self._link.wire

    async def ask(self, payload: object) -> Any:  # noqa: ANN401 - a call_result dataclass of the library
        """Any call of the OCPP library, answered. NoAnswerError when offline, lost, late or a CALLERROR."""
        return await self._link.ask(payload)

    # Station messages

    async def boot(self) -> str:
        """BootNotification, then a StatusNotification a connector; the registration status."""
        answer = await self.ask(
            call.BootNotification(
                charge_point_model=self.settings.model,
                charge_point_vendor=self.settings.vendor,
                firmware_version=self.settings.firmware,
            )
        )
        self.registration = str(answer.status)
        self.configuration.change("HeartbeatInterval", str(answer.interval))
        self.report("booted", status=self.registration)
        await self._report_statuses()
        return self.registration

    async def heartbeat(self) -> str:
        """The central system's time."""
        return str((await self.ask(call.Heartbeat())).current_time)

    async def set_status(self, connector_id: int, status: str, error_code: str = "NoError") -> None:
        """Change a connector's status, and tell it; a lost connection tells it when it is back."""
        self.connectors[connector_id].status = status
        with contextlib.suppress(NoAnswerError):
            await self._notify(connector_id, status, error_code)

    # What a driver does

    async def tap(
        self, connector_id: int, id_tag: str, *, pace: Pace = MANUAL_PACE, start_only: bool = False
    ) -> TapResult:
        """Present a card: Authorize, and StartTransaction where that was Accepted.

        The card of the running session ends it, without asking anybody. `start_only` plugs in without an
        Authorize. The configuration decides what is asked (LocalPreAuthorize, caches, lists).
        """
        connector = self.connectors[connector_id]
        tap = TapResult(connector_id=connector_id, id_tag=id_tag)
        if connector.session is not None:
            return await self._tap_while_charging(connector.session, tap)
        if not connector.available or connector.status in {"Faulted", "Unavailable"}:
            return tap
        if not self.online:
            allowed = self.cards.may_start_offline(id_tag) and not self.is_kept_from(connector_id, id_tag)
            if allowed:
                await self.start_session(connector_id, id_tag, pace)
            return replace(tap, charging=allowed, offline=True)
        if self.settings.refuses_from_cache and (refused := self.cards.refused(id_tag)):
            return replace(tap, authorize=refused, unasked=True)
        turned_away = False
        if not start_only and not self.cards.may_start_unasked(id_tag):
            told, took_ms = await self.authorize(id_tag)
            tap = replace(tap, authorize=told, authorize_ms=took_ms)
            turned_away = told != "Accepted" and (self.settings.honours_override or told == NO_ANSWER)
        # Kept for another: asked only now, since a card of the same parent may start, and the answer told the parent.
        if turned_away or self.is_kept_from(connector_id, id_tag):
            return tap
        session = await self.start_session(connector_id, id_tag, pace)
        charging = connector.session is session
        return replace(tap, start=session.told, transaction_id=session.transaction_id, charging=charging)

    async def authorize(self, id_tag: str) -> tuple[str, int]:
        """The status told and how many milliseconds it took; "NoAnswer" without one."""
        began = time.perf_counter()
        try:
            answer = await self.ask(call.Authorize(id_tag=id_tag))
        except NoAnswerError:
            told = NO_ANSWER
        else:
            told = self.cards.learn(id_tag, answer.id_tag_info)
        took_ms = round((time.perf_counter() - began) * 1000)
        self.report("authorize", id_tag=id_tag, told=told, took_ms=took_ms)
        return told, took_ms

    async def start_session(self, connector_id: int, id_tag: str, pace: Pace = MANUAL_PACE) -> Session:
        """StartTransaction. The session goes on unless the answer forbids it and the charger honours that.

        Without an answer it goes on, too, and the message is sent again after the next reconnect.
        """
        connector = self.connectors[connector_id]
        connector.meter_wh -= min(self.faults.value("meter_goes_back"), connector.meter_wh)
        session = connector.begin(id_tag, pace, self.settings.clock())
        reserved = self.reservations.at(connector_id)
        if reserved is not None:
            self.reservations.end(reserved.reservation_id)
        self._queue.put(QueuedStart(session, None if reserved is None else reserved.reservation_id))
        await self._upload()
        self.report(
            "session_started",
            connector_id=connector_id,
            id_tag=id_tag,
            told=session.told,
            transaction_id=session.transaction_id,
        )
        if await self._ended_as_refused(session):
            return session
        await self.set_status(connector_id, "Charging")
        if pace.sample_s is not None:
            self.spawn(self._run(session, pace.sample_s))
        return session

    def is_kept_from(self, connector_id: int, id_tag: str) -> bool:
        """Whether the connector is reserved for another card."""
        return self.reservations.keeps_out(connector_id, id_tag, self.cards.parent(id_tag))

    async def meter(self, connector_id: int, energy_wh: int | None = None) -> int:
        """MeterValues of the running session; `energy_wh` sets what was delivered since its start.

        The meter's reading in Wh.
        """
        session = self._running(connector_id)
        session.grow(self.settings.clock(), energy_wh)
        self._queue.put(QueuedMeterValues(session, session.now(self.settings.clock()), session.meter_wh))
        await self._upload()
        self.report("meter_values", connector_id=connector_id, meter_wh=session.meter_wh)
        return session.meter_wh

    async def stop(
        self,
        connector_id: int,
        *,
        reason: str = "Local",
        id_tag: str | None = None,
        energy_wh: int | None = None,
        at: datetime | None = None,
    ) -> Session:
        """StopTransaction of the running session; `energy_wh` is what it delivered, `at` the time told.

        ValueError when nothing charges there.
        """
        session = self._running(connector_id)
        session.grow(self.settings.clock(), energy_wh)
        stopped_at = at or session.now(self.settings.clock())
        self.connectors[connector_id].end(stopped_at)
        self._queue.put(QueuedStop(session, stopped_at, session.meter_wh, reason, id_tag))
        await self._upload()
        self.report(
            "session_stopped",
            connector_id=connector_id,
            id_tag=session.id_tag,
            transaction_id=session.transaction_id,
            energy_wh=session.energy_wh,
            reason=reason,
        )
        await self.set_status(connector_id, "Available")
        return session

    async def reboot(self, reason: str) -> None:
        """End every session, drop the connection, come back and boot."""
        for connector_id, connector in self.connectors.items():
            if connector.session is not None:
                await self.stop(connector_id, reason=reason)
        await self._link.hang_up()
        await self._link.connect()
        await self.boot()
        await self._upload()

    def state(self) -> dict[str, Any]:
        """For people and for `GET /state` of the fleet program."""
        return {
            "charge_box_id": self.charge_box_id,
            "online": self.online,
            "registration": self.registration,
            "waiting_to_upload": len(self._queue),
            "connectors": [one.state() for one in self.connectors.values()],
        }

    # Shared with the remote operations

    def report(self, what: str, **details: object) -> None:
        if self.settings.report is not None:
            self.settings.report({"what": what, "charge_box_id": self.charge_box_id, **details})

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run in the background until the charger is closed."""
        task = asyncio.create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Inside

    async def _guarded(self, work: Awaitable[Any]) -> None:
        try:
            await work
        except (NoAnswerError, WebSocketException, OSError) as error:
            self.report("failed", why=str(error))

    def _running(self, connector_id: int) -> Session:
        session = self.connectors[connector_id].session
        if session is None:
            raise ValueError(f"connector {connector_id} of {self.charge_box_id} is not charging")
        return session

    async def _tap_while_charging(self, session: Session, tap: TapResult) -> TapResult:
        if session.id_tag.strip().upper() == tap.id_tag.strip().upper():
            await self.stop(tap.connector_id, id_tag=tap.id_tag)
            return replace(tap, transaction_id=session.transaction_id, stopped=True)
        told, took_ms = await self.authorize(tap.id_tag)
        return replace(tap, authorize=told, authorize_ms=took_ms)

    async def _ended_as_refused(self, session: Session) -> bool:
        """End a session whose start was refused, where the charger honours that."""
        if session.told in {None, "Accepted"} or not self.settings.honours_override:
            return False
        if self.configuration.is_on("StopTransactionOnInvalidId"):
            await self.stop(session.connector_id, reason="DeAuthorized")
            return True
        session.pace = replace(session.pace, power_w=0)
        return False

    async def _run(self, session: Session, sample_s: float) -> None:
        """Deliver energy and report it until the car is full or somebody ends the session."""
        connector = self.connectors[session.connector_id]
        while connector.session is session:
            await asyncio.sleep(sample_s)
            if connector.session is session:
                await self.meter(session.connector_id)
            if connector.session is session and session.full:
                await self.stop(session.connector_id, reason="EVDisconnected")

    async def _heartbeats(self) -> None:
        while True:
            await asyncio.sleep(max(1, self.configuration.number("HeartbeatInterval")))
            if self.online:
                await self.heartbeat()

    async def _report_statuses(self) -> None:
        await self._notify(0, "Available")
        for connector in self.connectors.values():
            await self._notify(connector.connector_id, connector.status)

    async def _notify(self, connector_id: int, status: str, error_code: str = "NoError") -> None:
        await self.ask(
            call.StatusNotification(
                connector_id=connector_id,
                error_code=error_code,
                status=status,
                timestamp=wire_time(self.settings.clock()),
            )
        )

    async def _upload(self) -> None:
        """Send what waits, oldest first, while there is a connection."""
        if self.online:
            await self._queue.drain(self.ask, self.cards.learn)

    async def _catch_up(self) -> None:
        """After a time without connection: statuses, what waited, and what was refused meanwhile."""
        await self._report_statuses()
        await self._upload()
        for connector in self.connectors.values():
            if connector.session is not None:
                await self._ended_as_refused(connector.session)
