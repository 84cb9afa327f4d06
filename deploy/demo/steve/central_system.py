"""How SteVe answers a station's calls."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from deploy.demo.steve import messages
from deploy.demo.steve.hook import PreAuthorizeHook
from deploy.demo.steve.model import AuthorizationStatus, ConnectorState, MeterValue
from deploy.demo.steve.settings import SteveSettings
from deploy.demo.steve.state import SteveState
from deploy.demo.steve.views import iso

M = TypeVar("M")


class CentralSystem:
    """One answer a message: `answer(charge_box_id, action, payload)`, dicts as they go over the wire."""

    def __init__(self, settings: SteveSettings, state: SteveState, hook: PreAuthorizeHook | None) -> None:
        self._settings = settings
        self._state = state
        self._hook = hook
        self._answers: dict[type, Callable[[str, Any], Awaitable[dict[str, Any]]]] = {
            messages.BootNotification: self._boot,
            messages.Heartbeat: self._heartbeat,
            messages.StatusNotification: self._status,
            messages.Authorize: self._authorize,
            messages.StartTransaction: self._start,
            messages.StopTransaction: self._stop,
            messages.MeterValues: self._meter_values,
            messages.DataTransfer: self._data_transfer,
            messages.DiagnosticsStatusNotification: self._diagnostics,
            messages.FirmwareStatusNotification: self._firmware,
        }

    async def answer(self, charge_box_id: str, message: object, *, lookup_fails: bool = False) -> dict[str, Any]:
        """`lookup_fails`: an internal error where the card is looked up; everything else is done as always."""
        answer = await self._answers[type(message)](charge_box_id, message)
        if lookup_fails and answer.pop("idTagInfo", None) and not isinstance(message, messages.StopTransaction):
            # Both need an idTagInfo; a StopTransaction is answered without one.
            answer["idTagInfo"] = {"status": AuthorizationStatus.INVALID.value}
        return answer

    # Station

    async def _boot(self, charge_box_id: str, message: messages.BootNotification) -> dict[str, Any]:
        charger = self._state.chargers[charge_box_id]
        now = self._state.clock()
        charger.vendor, charger.model = message.charge_point_vendor, message.charge_point_model
        charger.firmware, charger.last_heartbeat_at = message.firmware_version, now
        self._state.save_charger(charger)
        interval = self._settings.heartbeat_interval_s
        return {"status": charger.registration, "currentTime": iso(now), "interval": interval}

    async def _heartbeat(self, charge_box_id: str, _message: messages.Heartbeat) -> dict[str, Any]:
        charger = self._state.chargers[charge_box_id]
        charger.last_heartbeat_at = self._state.clock()
        self._state.save_charger(charger)
        return {"currentTime": iso(charger.last_heartbeat_at)}

    async def _status(self, charge_box_id: str, message: messages.StatusNotification) -> dict[str, Any]:
        at = self._state.clock() if message.timestamp is None else _utc(message.timestamp)
        connector = ConnectorState(status=message.status, error_code=message.error_code, at=at)
        self._state.set_connector(charge_box_id, message.connector_id, connector)
        return {}

    async def _data_transfer(self, _charge_box_id: str, _message: messages.DataTransfer) -> dict[str, Any]:
        return {"status": "Accepted"}

    async def _diagnostics(self, charge_box_id: str, message: messages.DiagnosticsStatusNotification) -> dict[str, Any]:
        charger = self._state.chargers[charge_box_id]
        charger.diagnostics_status = message.status
        self._state.save_charger(charger)
        return {}

    async def _firmware(self, charge_box_id: str, message: messages.FirmwareStatusNotification) -> dict[str, Any]:
        charger = self._state.chargers[charge_box_id]
        charger.firmware_status = message.status
        self._state.save_charger(charger)
        return {}

    # Cards and sessions

    async def _authorize(self, charge_box_id: str, message: messages.Authorize) -> dict[str, Any]:
        overridden = await self._overridden(charge_box_id, message.id_tag, connector_id=None, is_start=False)
        return {"idTagInfo": self._info(message.id_tag, is_start=False, overridden=overridden)}

    async def _start(self, charge_box_id: str, message: messages.StartTransaction) -> dict[str, Any]:
        """The row is made whatever the verdict is, also under an override."""
        overridden = await self._overridden(
            charge_box_id, message.id_tag, connector_id=message.connector_id, is_start=True
        )
        info = self._info(message.id_tag, is_start=True, overridden=overridden)
        transaction = self._state.start_transaction(
            charge_box_id=charge_box_id,
            connector_id=message.connector_id,
            id_tag=message.id_tag,
            start_at=_utc(message.timestamp),
            start_wh=message.meter_start,
        )
        return {"transactionId": transaction.pk, "idTagInfo": info}

    async def _stop(self, charge_box_id: str, message: messages.StopTransaction) -> dict[str, Any]:
        """A stop that fails its checks is answered like any other."""
        answer: dict[str, Any] = {}
        if message.id_tag is not None and self._state.tag(message.id_tag) is not None:
            answer["idTagInfo"] = self._info(message.id_tag, is_start=False, overridden=False)
        self._state.stop_by_station(
            charge_box_id=charge_box_id,
            pk=message.transaction_id,
            stop_at=_utc(message.timestamp),
            stop_wh=message.meter_stop,
            reason=message.reason,
        )
        self._keep_readings(charge_box_id, message.transaction_id, message.transaction_data)
        return answer

    async def _meter_values(self, charge_box_id: str, message: messages.MeterValues) -> dict[str, Any]:
        self._keep_readings(charge_box_id, message.transaction_id, message.meter_value)
        return {}

    # Inside

    def _keep_readings(self, charge_box_id: str, pk: int | None, samples: list[messages.Sample]) -> None:
        transaction = self._state.transactions.get(pk or 0)
        if transaction is None or transaction.charge_box_id != charge_box_id:
            return
        readings: list[MeterValue] = [one for sample in samples for one in sample.readings()]
        self._state.add_meter_values(transaction.pk, readings)

    async def _overridden(self, charge_box_id: str, id_tag: str, *, connector_id: int | None, is_start: bool) -> bool:
        """Asked for every tap, also for those that SteVe refuses anyway."""
        if self._hook is None:
            return False
        self._state.requests["hook"] += 1
        return await self._hook.asks_to_block(
            id_tag=id_tag,
            charge_box_id=charge_box_id,
            connector_id=connector_id,
            is_start=is_start,
            ts_ms=int(self._state.clock().timestamp() * 1000),
        )

    def _info(self, id_tag: str, *, is_start: bool, overridden: bool) -> dict[str, Any]:
        """IdTagInfo. Without an expiry of its own a tag is sent as valid for another hour."""
        status = self._state.verdict(id_tag, is_start=is_start)
        if overridden and status is AuthorizationStatus.ACCEPTED:
            status = AuthorizationStatus.BLOCKED
        info: dict[str, Any] = {"status": status.value}
        tag = self._state.tag(id_tag)
        if tag is not None:
            default = self._state.clock() + timedelta(hours=self._settings.hours_to_expire)
            info["expiryDate"] = iso(default if tag.expiry is None else tag.expiry)
            if tag.parent_id_tag is not None:
                info["parentIdTag"] = tag.parent_id_tag
        return info


def _utc(moment: datetime) -> datetime:
    """Stations that leave out the offset mean UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
