"""What passed the gateway, in the words of this house: values only, made by the gateway, kept by this room."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Base of all: which charger, and when it passed (UTC, our clock)."""

    charge_box_id: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected(Seen):
    connection_id: UUID
    subprotocol: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnected(Seen):
    """`code` as in RFC 6455, 7.4; 1006 where the socket just vanished."""

    connection_id: UUID
    code: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Booted(Seen):
    """BootNotification and SteVe's answer to it (OCPP 1.6, 4.2)."""

    registration: str
    vendor: str | None
    model: str | None
    serial_number: str | None
    firmware_version: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReported(Seen):
    """StatusNotification (OCPP 1.6, 4.9). `reported_at` is the charger's clock, if it said."""

    connector_id: int
    status: str
    error_code: str
    vendor_error_code: str | None
    info: str | None
    reported_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareReported(Seen):
    """FirmwareStatusNotification (OCPP 1.6, 4.5)."""

    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteStartPassed(Seen):
    """SteVe asked the charger to start for this card: an Authorize that follows is no tap."""

    id_tag: str
    connector_id: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteStartRefused(Seen):
    """The charger would not start for this card: its next Authorize is a tap like any other."""

    id_tag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStarted(Seen):
    """StartTransaction, as answered by SteVe (OCPP 1.6, 4.8). Energy in Wh."""

    transaction_id: int
    connector_id: int
    id_tag: str
    verdict: str
    meter_start_wh: int
    started_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStopped(Seen):
    """StopTransaction, as answered by SteVe (OCPP 1.6, 4.10). Energy in Wh."""

    transaction_id: int
    id_tag: str | None
    meter_stop_wh: int | None
    reason: str | None
    stopped_at: datetime
