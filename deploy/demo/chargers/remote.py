"""What a charger does when the central system asks it to."""

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from ocpp.v16 import call, call_result

from deploy.demo.chargers.reservations import Reservation
from deploy.demo.chargers.session import Connector, wire_time
from deploy.demo.chargers.wire import Handlers

if TYPE_CHECKING:
    from deploy.demo.chargers.charger import Charger

LOOK_EVERY_S: Final = 1.0


class Remote:
    """A handler answers at once; what it sets in motion begins when the answer is on its way."""

    def __init__(self, charger: "Charger") -> None:
        self._charger = charger

    def handlers(self) -> Handlers:
        return {
            "RemoteStartTransaction": self._remote_start,
            "RemoteStopTransaction": self._remote_stop,
            "GetConfiguration": self._get_configuration,
            "ChangeConfiguration": self._change_configuration,
            "ClearCache": self._clear_cache,
            "UnlockConnector": self._unlock,
            "Reset": self._reset,
            "ChangeAvailability": self._change_availability,
            "TriggerMessage": self._trigger,
            "DataTransfer": self._data_transfer,
            "GetLocalListVersion": self._list_version,
            "SendLocalList": self._send_local_list,
            "ReserveNow": self._reserve,
            "CancelReservation": self._cancel_reservation,
        }

    def after_handlers(self) -> Handlers:
        return {
            "RemoteStartTransaction": self._then_start,
            "RemoteStopTransaction": self._then_stop,
            "Reset": self._then_reset,
            "ReserveNow": self._then_keep,
            "ChangeAvailability": self._then_report,
            "TriggerMessage": self._then_send,
        }

    # Sessions

    def _remote_start(self, id_tag: str, connector_id: int | None = None, **_: Any) -> Any:  # noqa: ANN401
        free = self._free_connector(connector_id, id_tag)
        self._charger.report("remote_start", id_tag=id_tag, connector_id=free)
        return call_result.RemoteStartTransaction(status="Rejected" if free is None else "Accepted")

    def _then_start(self, id_tag: str, connector_id: int | None = None, **_: Any) -> None:  # noqa: ANN401
        free = self._free_connector(connector_id, id_tag)
        if free is not None:
            self._charger.spawn(self._start(free, id_tag))

    async def _start(self, connector_id: int, id_tag: str) -> None:
        if self._charger.configuration.is_on("AuthorizeRemoteTxRequests"):
            told, _ = await self._charger.authorize(id_tag)
            if told != "Accepted":
                return
        await self._charger.start_session(connector_id, id_tag)

    def _remote_stop(self, transaction_id: int) -> Any:  # noqa: ANN401
        found = self._connector_of(transaction_id)
        self._charger.report("remote_stop", transaction_id=transaction_id)
        return call_result.RemoteStopTransaction(status="Rejected" if found is None else "Accepted")

    def _then_stop(self, transaction_id: int) -> None:
        found = self._connector_of(transaction_id)
        if found is not None:
            self._charger.spawn(self._charger.stop(found, reason="Remote"))

    def _unlock(self, connector_id: int) -> Any:  # noqa: ANN401
        connector = self._charger.connectors.get(connector_id)
        if connector is None:
            return call_result.UnlockConnector(status="NotSupported")
        if connector.session is not None:
            self._charger.spawn(self._charger.stop(connector_id, reason="UnlockCommand"))
        return call_result.UnlockConnector(status="Unlocked")

    # Configuration and cards

    def _get_configuration(self, key: list[str] | None = None) -> Any:  # noqa: ANN401
        known, unknown = self._charger.configuration.read(key or [])
        return call_result.GetConfiguration(configuration_key=known, unknown_key=unknown)

    def _change_configuration(self, key: str, value: str) -> Any:  # noqa: ANN401
        status = self._charger.configuration.change(key, value)
        self._charger.report("configuration_changed", key=key, value=value, status=status)
        return call_result.ChangeConfiguration(status=status)

    def _clear_cache(self) -> Any:  # noqa: ANN401
        if not self._charger.configuration.is_on("AuthorizationCacheEnabled"):
            return call_result.ClearCache(status="Rejected")
        self._charger.cards.clear_cache()
        return call_result.ClearCache(status="Accepted")

    def _list_version(self) -> Any:  # noqa: ANN401
        enabled = self._charger.configuration.is_on("LocalAuthListEnabled")
        return call_result.GetLocalListVersion(list_version=self._charger.cards.list_version if enabled else -1)

    def _send_local_list(
        self,
        list_version: int,
        update_type: str,
        local_authorization_list: list[dict[str, Any]] | None = None,
    ) -> Any:  # noqa: ANN401
        if not self._charger.configuration.is_on("LocalAuthListEnabled"):
            return call_result.SendLocalList(status="NotSupported")
        entries, full = local_authorization_list or [], update_type == "Full"
        if not full and list_version <= self._charger.cards.list_version:
            return call_result.SendLocalList(status="VersionMismatch")
        if len(entries) > self._charger.configuration.number("SendLocalListMaxLength"):
            return call_result.SendLocalList(status="Failed")
        self._charger.cards.update_list(list_version, entries, full=full)
        return call_result.SendLocalList(status="Accepted")

    # Reservations

    def _reserve(
        self,
        connector_id: int,
        expiry_date: str,
        id_tag: str,
        reservation_id: int,
        parent_id_tag: str | None = None,
    ) -> Any:  # noqa: ANN401
        expires_at = datetime.fromisoformat(expiry_date)
        wanted = Reservation(reservation_id, connector_id, id_tag, expires_at, parent_id_tag)
        status = self._charger.reservations.hold(wanted)
        self._charger.report("reserve_now", connector_id=connector_id, id_tag=id_tag, status=status)
        return call_result.ReserveNow(status=status)

    def _then_keep(self, connector_id: int, reservation_id: int, **_: Any) -> None:  # noqa: ANN401
        held = self._charger.reservations.at(connector_id)
        if held is None or held.reservation_id != reservation_id:
            return
        moved_from = self._charger.reservations.end(reservation_id, but_at=connector_id)
        if moved_from is not None:
            self._charger.spawn(self._charger.set_status(moved_from, "Available"))
        self._charger.spawn(self._keep(held))

    async def _keep(self, held: Reservation) -> None:
        """Show the connector as reserved until the time is over, or somebody came or cancelled."""
        reservations = self._charger.reservations
        await self._charger.set_status(held.connector_id, "Reserved")
        while reservations.at(held.connector_id) is held:
            left_s = (held.expires_at - self._charger.settings.clock()).total_seconds()
            await asyncio.sleep(min(left_s, LOOK_EVERY_S))
        if reservations.expire(held):
            await self._charger.set_status(held.connector_id, "Available")

    def _cancel_reservation(self, reservation_id: int) -> Any:  # noqa: ANN401
        freed = self._charger.reservations.end(reservation_id)
        if freed is None:
            return call_result.CancelReservation(status="Rejected")
        self._charger.spawn(self._charger.set_status(freed, "Available"))
        return call_result.CancelReservation(status="Accepted")

    # The station

    def _reset(self, type: str) -> Any:  # noqa: A002, ANN401 - OCPP's name
        self._charger.report("reset", type=type)
        return call_result.Reset(status="Accepted")

    def _then_reset(self, type: str) -> None:  # noqa: A002 - OCPP's name
        self._charger.spawn(self._charger.reboot(f"{type}Reset"))

    def _change_availability(self, connector_id: int, type: str) -> Any:  # noqa: A002, ANN401
        chosen = self._chosen(connector_id)
        if not chosen:
            return call_result.ChangeAvailability(status="Rejected")
        busy = False
        for connector in chosen:
            connector.available = type == "Operative"
            busy = busy or connector.session is not None
        return call_result.ChangeAvailability(status="Scheduled" if busy else "Accepted")

    def _then_report(self, connector_id: int, type: str) -> None:  # noqa: A002 - OCPP's name
        status = "Available" if type == "Operative" else "Unavailable"
        for connector in self._chosen(connector_id):
            if connector.session is None:
                self._charger.spawn(self._charger.set_status(connector.connector_id, status))

    def _trigger(self, requested_message: str, **_: Any) -> Any:  # noqa: ANN401
        known = requested_message in {
            "BootNotification",
            "Heartbeat",
            "StatusNotification",
            "MeterValues",
            "FirmwareStatusNotification",
            "DiagnosticsStatusNotification",
        }
        return call_result.TriggerMessage(status="Accepted" if known else "NotImplemented")

    def _then_send(self, requested_message: str, connector_id: int | None = None) -> None:
        self._charger.spawn(self._send_triggered(requested_message, connector_id))

    async def _send_triggered(self, requested: str, connector_id: int | None) -> None:
        if requested == "BootNotification":
            await self._charger.boot()
        elif requested == "Heartbeat":
            await self._charger.heartbeat()
        elif requested == "FirmwareStatusNotification":
            await self._charger.ask(call.FirmwareStatusNotification(status="Idle"))
        elif requested == "DiagnosticsStatusNotification":
            await self._charger.ask(call.DiagnosticsStatusNotification(status="Idle"))
        for connector in self._chosen(connector_id or 0):
            if requested == "StatusNotification":
                await self._charger.set_status(connector.connector_id, connector.status)
            elif requested == "MeterValues" and connector.session is not None:
                await self._charger.meter(connector.connector_id)
            elif requested == "MeterValues":
                await self._charger.ask(self._idle_reading(connector.connector_id, connector.meter_wh))

    def _idle_reading(self, connector_id: int, meter_wh: int) -> object:
        value = {"value": str(meter_wh), "context": "Trigger", "unit": "Wh"}
        sample = {"timestamp": wire_time(self._charger.settings.clock()), "sampled_value": [value]}
        message: object = call.MeterValues(connector_id=connector_id, meter_value=[sample])
        return message

    def _data_transfer(self, vendor_id: str, **_: Any) -> Any:  # noqa: ANN401
        known = vendor_id == self._charger.settings.vendor
        return call_result.DataTransfer(status="Accepted" if known else "UnknownVendorId")

    def _chosen(self, connector_id: int) -> list[Connector]:
        """One connector, or all of them for 0."""
        connectors = self._charger.connectors
        if connector_id == 0:
            return list(connectors.values())
        return [connectors[connector_id]] if connector_id in connectors else []

    def _free_connector(self, connector_id: int | None, id_tag: str) -> int | None:
        for connector in self._chosen(connector_id or 0):
            kept = self._charger.is_kept_from(connector.connector_id, id_tag)
            if connector.session is None and connector.available and not kept:
                return connector.connector_id
        return None

    def _connector_of(self, transaction_id: int) -> int | None:
        for connector in self._charger.connectors.values():
            if connector.session is not None and connector.session.transaction_id == transaction_id:
                return connector.connector_id
        return None
