"""The OCPP 1.6 core messages a station may send: what each holds (OCPP 1.6, chapter 6)."""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from deploy.demo.steve.model import MeterValue

CiString20 = Annotated[str, Meta(max_length=20)]
CiString50 = Annotated[str, Meta(max_length=50)]


class _Message(msgspec.Struct, rename="camel", kw_only=True):
    pass


class BootNotification(_Message):
    charge_point_vendor: CiString20
    charge_point_model: CiString20
    firmware_version: CiString50 | None = None


class Heartbeat(_Message):
    pass


class StatusNotification(_Message):
    connector_id: int
    error_code: str
    status: str
    timestamp: datetime | None = None


class Authorize(_Message):
    id_tag: CiString20


class StartTransaction(_Message):
    connector_id: int
    id_tag: CiString20
    meter_start: int
    timestamp: datetime
    reservation_id: int | None = None


class SampledValue(_Message):
    value: str
    context: str | None = None
    format: str | None = None
    measurand: str | None = None
    phase: str | None = None
    location: str | None = None
    unit: str | None = None


class Sample(_Message):
    timestamp: datetime
    sampled_value: list[SampledValue]

    def readings(self) -> list[MeterValue]:
        return [
            MeterValue(
                at=self.timestamp,
                value=one.value,
                context=one.context,
                format=one.format,
                measurand=one.measurand,
                location=one.location,
                unit=one.unit,
                phase=one.phase,
            )
            for one in self.sampled_value
        ]


class StopTransaction(_Message):
    transaction_id: int
    meter_stop: int
    timestamp: datetime
    id_tag: CiString20 | None = None
    reason: str | None = None
    transaction_data: list[Sample] = msgspec.field(default_factory=list)


class MeterValues(_Message):
    connector_id: int
    meter_value: list[Sample]
    transaction_id: int | None = None


class DataTransfer(_Message):
    vendor_id: str
    message_id: str | None = None
    data: Any = None


class DiagnosticsStatusNotification(_Message):
    status: str


class FirmwareStatusNotification(_Message):
    status: str


MESSAGES: dict[str, type[_Message]] = {
    one.__name__: one
    for one in (
        BootNotification,
        Heartbeat,
        StatusNotification,
        Authorize,
        StartTransaction,
        StopTransaction,
        MeterValues,
        DataTransfer,
        DiagnosticsStatusNotification,
        FirmwareStatusNotification,
    )
}
