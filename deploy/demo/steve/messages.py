"""The OCPP 1.6 core messages a station may send: what each holds (OCPP 1.6, chapter 6).

SteVe reads closed sets as enumerations, so a value outside of one is a FormationViolation. It checks the range of no
number: a negative connector is taken, there and here.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from deploy.demo.steve.model import MeterValue

CiString20 = Annotated[str, Meta(max_length=20)]
CiString50 = Annotated[str, Meta(max_length=50)]
Status = Literal[
    "Available",
    "Preparing",
    "Charging",
    "SuspendedEVSE",
    "SuspendedEV",
    "Finishing",
    "Reserved",
    "Unavailable",
    "Faulted",
]
ErrorCode = Literal[
    "ConnectorLockFailure",
    "EVCommunicationError",
    "GroundFailure",
    "HighTemperature",
    "InternalError",
    "LocalListConflict",
    "NoError",
    "OtherError",
    "OverCurrentFailure",
    "OverVoltage",
    "PowerMeterFailure",
    "PowerSwitchFailure",
    "ReaderFailure",
    "ResetFailure",
    "UnderVoltage",
    "WeakSignal",
]
Reason = Literal[
    "DeAuthorized",
    "EmergencyStop",
    "EVDisconnected",
    "HardReset",
    "Local",
    "Other",
    "PowerLoss",
    "Reboot",
    "Remote",
    "SoftReset",
    "UnlockCommand",
]
Context = Literal[
    "Interruption.Begin",
    "Interruption.End",
    "Other",
    "Sample.Clock",
    "Sample.Periodic",
    "Transaction.Begin",
    "Transaction.End",
    "Trigger",
]
Measurand = Literal[
    "Current.Export",
    "Current.Import",
    "Current.Offered",
    "Energy.Active.Export.Interval",
    "Energy.Active.Export.Register",
    "Energy.Active.Import.Interval",
    "Energy.Active.Import.Register",
    "Energy.Reactive.Export.Interval",
    "Energy.Reactive.Export.Register",
    "Energy.Reactive.Import.Interval",
    "Energy.Reactive.Import.Register",
    "Frequency",
    "Power.Active.Export",
    "Power.Active.Import",
    "Power.Factor",
    "Power.Offered",
    "Power.Reactive.Export",
    "Power.Reactive.Import",
    "RPM",
    "SoC",
    "Temperature",
    "Voltage",
]
Phase = Literal["L1", "L2", "L3", "N", "L1-N", "L2-N", "L3-N", "L1-L2", "L2-L3", "L3-L1"]
Location = Literal["Body", "Cable", "EV", "Inlet", "Outlet"]
# "Celcius" is how the first edition's schema spells it.
Unit = Literal[
    "Wh", "kWh", "varh", "kvarh", "W", "kW", "VA", "kVA", "var", "kvar", "A", "V", "K", "Celcius", "Celsius",
    "Fahrenheit", "Percent",
]  # fmt: skip
Diagnostics = Literal["Idle", "Uploaded", "UploadFailed", "Uploading"]
Firmware = Literal[
    "Downloaded", "DownloadFailed", "Downloading", "Idle", "InstallationFailed", "Installed", "Installing"
]


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
    error_code: ErrorCode
    status: Status
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
    context: Context | None = None
    format: Literal["Raw", "SignedData"] | None = None
    measurand: Measurand | None = None
    phase: Phase | None = None
    location: Location | None = None
    unit: Unit | None = None


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
    reason: Reason | None = None
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
    status: Diagnostics


class FirmwareStatusNotification(_Message):
    status: Firmware


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
