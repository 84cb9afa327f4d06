"""What SteVe keeps: tags, chargers, transactions. Times are tz-aware UTC, meter values are SteVe's strings in Wh."""

import enum
from datetime import datetime

import msgspec


class AuthorizationStatus(enum.StrEnum):
    """OCPP 1.6, 7.2."""

    ACCEPTED = "Accepted"
    BLOCKED = "Blocked"
    EXPIRED = "Expired"
    INVALID = "Invalid"
    CONCURRENT_TX = "ConcurrentTx"


class StopActor(enum.StrEnum):
    STATION = "station"
    MANUAL = "manual"


def tag_key(id_tag: str) -> str:
    """The form in which SteVe's database compares idTags (CiString20: case and outer blanks do not count)."""
    return id_tag.strip().upper()


class Tag(msgspec.Struct, kw_only=True):
    pk: int
    id_tag: str
    parent_id_tag: str | None = None
    expiry: datetime | None = None
    limit: int = 1  # maxActiveTransactionCount: 0 blocked, negative unlimited
    note: str | None = None
    user_pk: int | None = None

    @property
    def blocked(self) -> bool:
        return self.limit == 0


class ConnectorState(msgspec.Struct, kw_only=True):
    status: str
    error_code: str
    at: datetime


class Charger(msgspec.Struct, kw_only=True):
    pk: int
    charge_box_id: str
    password: str | None = None
    registration: str = "Accepted"
    vendor: str | None = None
    model: str | None = None
    firmware: str | None = None
    last_heartbeat_at: datetime | None = None
    firmware_status: str | None = None
    diagnostics_status: str | None = None
    connectors: dict[int, ConnectorState] = msgspec.field(default_factory=dict)


class Stop(msgspec.Struct, kw_only=True):
    at: datetime
    value: str
    reason: str | None
    actor: StopActor


class MeterValue(msgspec.Struct, kw_only=True, frozen=True):
    at: datetime
    value: str
    context: str | None = None
    format: str | None = None
    measurand: str | None = None
    location: str | None = None
    unit: str | None = None
    phase: str | None = None


class Transaction(msgspec.Struct, kw_only=True):
    pk: int
    charge_box_id: str
    charge_box_pk: int
    connector_id: int
    id_tag: str  # as the station sent it
    tag_pk: int
    start_at: datetime
    start_value: str
    # Every stop that SteVe accepted, oldest first; the last one is what REST shows.
    stops: list[Stop] = msgspec.field(default_factory=list)

    @property
    def stop(self) -> Stop | None:
        return self.stops[-1] if self.stops else None

    @property
    def active(self) -> bool:
        return not self.stops


class FailedStop(msgspec.Struct, kw_only=True):
    """A StopTransaction that was answered normally but not applied. It is not in REST."""

    transaction_pk: int
    charge_box_id: str
    at: datetime
    value: str
    why: str
