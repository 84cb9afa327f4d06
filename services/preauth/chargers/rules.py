"""What each thing that passed the gateway changes of what is known of a charger, and what is worth telling."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from services.preauth.chargers.seen import (
    Booted,
    Connected,
    Disconnected,
    FirmwareReported,
    Seen,
    SessionStarted,
    SessionStopped,
    StatusReported,
)
from shared.contracts.event import Event
from shared.contracts.events.preauth import (
    ChargerConnected,
    ChargerDisconnected,
    ChargerSessionStarted,
    ChargerSessionStopped,
    ChargerStatusChanged,
    ConnectorState,
    Readiness,
)
from shared.contracts.identity import id_tag_key

INTERCEPTED_PROTOCOL: Final = "ocpp1.6"


@dataclass(slots=True)
class Connector:
    state: ConnectorState
    reported_at: datetime
    seen_at: datetime


@dataclass(slots=True)
class Session:
    """As far as it was seen: a stop may be all that passed the gateway."""

    transaction_id: int
    connector_id: int | None = None
    id_tag: str | None = None
    verdict: str | None = None
    meter_start_wh: int | None = None
    started_at: datetime | None = None
    meter_stop_wh: int | None = None
    stop_reason: str | None = None
    stopped_at: datetime | None = None
    seen_at: datetime | None = None


@dataclass(slots=True)
class Charger:
    """A charger's row, its connectors, its open sockets, and the sessions that are about to change.

    `fields` holds columns that changed, by name; `touched_*` what of the rest has to be written.

    A replica may tell late, when the charger has long been at another one: what is older than what is known is no news.
    Unless what is known is of a time still to come: whoever dated it was ahead, and until then all that is newer would
    seem older.
    """

    charge_box_id: str
    boot_at: datetime | None = None
    connections: set[UUID] = field(default_factory=set)
    connectors: dict[int, Connector] = field(default_factory=dict)
    sessions: dict[int, Session] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    opened: dict[UUID, Connected] = field(default_factory=dict)
    closed: set[UUID] = field(default_factory=set)
    touched_connectors: set[int] = field(default_factory=set)
    touched_sessions: set[int] = field(default_factory=set)

    def apply(self, seen: Seen, now: datetime) -> list[Event]:
        """Take in one thing that passed. Returns what others should hear; repeating it tells nothing new."""
        match seen:
            case Connected():
                return self._connected(seen)
            case Disconnected():
                return self._disconnected(seen)
            case Booted():
                self._booted(seen, now)
            case FirmwareReported():
                self.fields["firmware_status"] = seen.status
            case StatusReported():
                return self._status(seen, now)
            case SessionStarted():
                return self._started(seen)
            case SessionStopped():
                return self._stopped(seen)
        return []

    def _connected(self, seen: Connected) -> list[Event]:
        self.fields |= {"via_gateway": True, "subprotocol": seen.subprotocol, "last_seen_at": seen.at}
        first = not self.connections
        self.connections.add(seen.connection_id)
        self.opened[seen.connection_id] = seen
        if not first:
            return []
        self.fields["connected_at"] = seen.at
        return [
            ChargerConnected(
                charge_box_id=self.charge_box_id,
                connection_id=seen.connection_id,
                subprotocol=seen.subprotocol,
                connected_at=seen.at,
            )
        ]

    def _disconnected(self, seen: Disconnected) -> list[Event]:
        if seen.connection_id not in self.connections:
            return []
        self.connections.discard(seen.connection_id)
        if self.opened.pop(seen.connection_id, None) is None:
            self.closed.add(seen.connection_id)
        if self.connections:
            return []
        self.fields |= {"disconnected_at": seen.at, "close_code": seen.code}
        return [
            ChargerDisconnected(
                charge_box_id=self.charge_box_id,
                connection_id=seen.connection_id,
                close_code=seen.code,
                close_reason=seen.reason,
                disconnected_at=seen.at,
            )
        ]

    def _booted(self, seen: Booted, now: datetime) -> None:
        if self.boot_at is not None and seen.at < self.boot_at <= now:
            return
        self.boot_at = seen.at
        self.fields |= {
            "boot_at": seen.at,
            "registration": seen.registration,
            "vendor": seen.vendor,
            "model": seen.model,
            "serial_number": seen.serial_number,
            "firmware_version": seen.firmware_version,
        }

    def _status(self, seen: StatusReported, now: datetime) -> list[Event]:
        after = ConnectorState(
            status=seen.status,
            error_code=seen.error_code,
            vendor_error_code=seen.vendor_error_code,
            info=seen.info,
        )
        known = self.connectors.get(seen.connector_id)
        before = known.state if known is not None else None
        if known is not None and seen.at < known.seen_at <= now:
            return []
        self.connectors[seen.connector_id] = Connector(after, seen.reported_at or seen.at, seen.at)
        self.touched_connectors.add(seen.connector_id)
        if before == after:
            return []
        return [
            ChargerStatusChanged(
                charge_box_id=self.charge_box_id,
                connector_id=seen.connector_id,
                before=before,
                after=after,
                reported_at=seen.reported_at or seen.at,
            )
        ]

    def _started(self, seen: SessionStarted) -> list[Event]:
        known = self.sessions.get(seen.transaction_id)
        if known is not None and known.started_at == seen.started_at and known.id_tag == id_tag_key(seen.id_tag):
            return []
        session = Session(
            transaction_id=seen.transaction_id,
            connector_id=seen.connector_id,
            id_tag=id_tag_key(seen.id_tag),
            verdict=seen.verdict,
            meter_start_wh=seen.meter_start_wh,
            started_at=seen.started_at,
            seen_at=seen.at,
        )
        if known is not None and known.started_at is None and known.stopped_at and known.stopped_at >= seen.started_at:
            # Its stop was told first.
            session.meter_stop_wh, session.stop_reason = known.meter_stop_wh, known.stop_reason
            session.stopped_at, session.seen_at = known.stopped_at, known.seen_at
        self.sessions[seen.transaction_id] = session
        self.touched_sessions.add(seen.transaction_id)
        return [
            ChargerSessionStarted(
                charge_box_id=self.charge_box_id,
                transaction_id=seen.transaction_id,
                connector_id=seen.connector_id,
                id_tag=seen.id_tag,
                verdict=seen.verdict,
                meter_start_wh=seen.meter_start_wh,
                started_at=seen.started_at,
                seen_at=seen.at,
            )
        ]

    def _stopped(self, seen: SessionStopped) -> list[Event]:
        session = self.sessions.setdefault(seen.transaction_id, Session(transaction_id=seen.transaction_id))
        if session.stopped_at == seen.stopped_at and session.meter_stop_wh == seen.meter_stop_wh:
            return []
        session.stopped_at, session.meter_stop_wh = seen.stopped_at, seen.meter_stop_wh
        session.stop_reason, session.seen_at = seen.reason, seen.at
        self.touched_sessions.add(seen.transaction_id)
        return [
            ChargerSessionStopped(
                charge_box_id=self.charge_box_id,
                transaction_id=seen.transaction_id,
                connector_id=session.connector_id,
                id_tag=session.id_tag or seen.id_tag,
                meter_stop_wh=seen.meter_stop_wh,
                reason=seen.reason,
                stopped_at=seen.stopped_at,
                seen_at=seen.at,
            )
        ]


# Readiness for tap-to-login

PRE_AUTHORIZE: Final = "LocalPreAuthorize"
CACHE: Final = "AuthorizationCacheEnabled"
LOCAL_LIST: Final = "LocalAuthListEnabled"
READINESS_KEYS: Final = (PRE_AUTHORIZE, CACHE, LOCAL_LIST, "LocalAuthorizeOffline", "AuthorizeRemoteTxRequests")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a card presented while the charger is online is asked about first. `keys` stand in the way."""

    ready: Readiness
    reason: str
    keys: Mapping[str, str] = field(default_factory=dict)


def readiness(configuration: Sequence[Mapping[str, Any]], subprotocol: str | None = None) -> Verdict:
    """Judge a GetConfiguration's `[{"key", "value", "readonly"}]` (OCPP 1.6, 3.5 and 9.1).

    Online, a charger starts without asking only under LocalPreAuthorize, for cards that its cache or its list knows.
    `subprotocol`: what it speaks through the gateway, None for one that does not come through it.
    """
    if subprotocol not in (None, INTERCEPTED_PROTOCOL):
        # A patched SteVe could still ask us; whether this one does nobody can see from here.
        return Verdict("unknown", f"The charger speaks {subprotocol}, which the gateway only relays.")
    values = {str(one.get("key")): one.get("value") for one in configuration}
    flags = {name: _flag(values.get(name)) for name in (PRE_AUTHORIZE, CACHE, LOCAL_LIST)}
    knows_cards = [name for name in (CACHE, LOCAL_LIST) if flags[name]]
    knows_none = flags[CACHE] is False and flags[LOCAL_LIST] is False
    if flags[PRE_AUTHORIZE] is False:
        return Verdict("yes", "The charger asks about every card.")
    if knows_none:
        return Verdict("yes", "The charger remembers no cards, so it asks about every one.")
    keys = {name: str(values[name]) for name in (PRE_AUTHORIZE, CACHE, LOCAL_LIST) if flags[name]}
    if flags[PRE_AUTHORIZE]:
        source = " and ".join(knows_cards) or "its cache or list"
        return Verdict(
            "no", f"With {PRE_AUTHORIZE} the charger starts for cards that it knows ({source}) without asking.", keys
        )
    if knows_cards:
        return Verdict(
            "unknown", f"The charger does not tell {PRE_AUTHORIZE}, and {' and '.join(knows_cards)} is on.", keys
        )
    return Verdict("unknown", f"The charger does not tell {PRE_AUTHORIZE}.", keys)


def _flag(value: object) -> bool | None:
    match str(value).strip().lower():
        case "true" | "1" | "yes" | "on":
            return True
        case "false" | "0" | "no" | "off":
            return False
        case _:
            return None
