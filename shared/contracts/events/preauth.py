"""What preauth tells: taps, pairings, interceptions, chargers."""

from typing import ClassVar, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field

from shared.contracts.event import Event
from shared.contracts.identity import CardKey, Frozen

Purpose = Literal["login", "link_card", "find_card"]
OperatorPurpose = Literal["link_card", "find_card"]
"""What an operator may arm. A login is a driver's, bound to the browser that stands at the charger."""
Via = Literal["hook", "gateway"]
TapKind = Literal["authorize", "start"]
Told = Literal["blocked", "passed", "unknown"]
Presence = Literal["operator", "kiosk", "qr"]
"""What vouched that somebody stands at the charger."""


class _PreauthEvent(Event):
    owner: ClassVar[str] = "preauth"
    version: ClassVar[int] = 1


class _PairingEvent(_PreauthEvent):
    pairing_id: UUID
    charge_box_id: str
    purpose: Purpose

    def subject(self) -> str:
        return f"pairing/{self.pairing_id}"


class PairingArmed(_PairingEvent):
    """The next tap at this charger, inside the window, is taken for `purpose` instead of charging."""

    type: ClassVar[str] = "pairing.armed"
    expires_at: AwareDatetime
    connector_id: int | None = None


class PairingCancelled(_PairingEvent):
    type: ClassVar[str] = "pairing.cancelled"
    why: Literal["asked", "gave_way", "kiosk_revoked", "qr_rotated", "void"] = Field(
        "asked",
        description="gave_way: armed with a QR code, it made room for somebody whose presence is surer, or who had"
        " fewer turns there; kiosk_revoked, qr_rotated: what vouched for presence does not any more; void: a card"
        " was matched, and it is not known to have been told Blocked in time",
    )


class PairingExpired(_PairingEvent):
    type: ClassVar[str] = "pairing.expired"


class TapDecided(_PreauthEvent):
    """One per tap, written when the answer is known: what was presented, decided, told, and through what."""

    type: ClassVar[str] = "tap.decided"
    tap_id: UUID
    charge_box_id: str
    connector_id: int | None
    id_tag: CardKey
    id_tag_as_sent: str | None = Field(None, description="only where it differs from id_tag")
    kind: TapKind
    decision: Literal["intercept", "pass"]
    reason: str
    told: Told
    in_time: bool
    duration_us: int = Field(ge=0)
    via: Via
    pairing_id: UUID | None = None
    tapped_at: AwareDatetime

    def subject(self) -> str:
        return f"tap/{self.tap_id}"


class ScanIntercepted(_PreauthEvent):
    """Blocked was told in time: the tap became a scan. The apparent rejection was intended."""

    type: ClassVar[str] = "scan.intercepted"
    charge_box_id: str
    connector_id: int | None
    id_tag: CardKey
    pairing_id: UUID
    purpose: Purpose
    tap_id: UUID
    told_at: AwareDatetime
    via: Via

    def subject(self) -> str:
        return f"card/{self.id_tag}"


class ScanLoginSucceeded(_PreauthEvent):
    """An intercepted scan became a driver's session, once."""

    type: ClassVar[str] = "scan.login_succeeded"
    pairing_id: UUID
    charge_box_id: str
    id_tag: CardKey
    tap_id: UUID
    session_id: UUID
    presence: Presence
    kiosk_id: UUID | None = None

    def subject(self) -> str:
        return f"card/{self.id_tag}"


class ScanLoginRefused(_PreauthEvent):
    """A scan led to no login; `reason` is why.

    The card may not: unknown_card, inactive, blocked, expired, no_answer, or the code of another refusal of sync's.
    Its PIN was guessed: pins_spent, pin_locked. What vouched for presence does not any more: kiosk_revoked, qr_rotated.
    Or nobody went on in time, after whatever guesses: not_completed.
    """

    type: ClassVar[str] = "scan.login_refused"
    pairing_id: UUID
    charge_box_id: str
    id_tag: CardKey
    tap_id: UUID
    presence: Presence
    reason: str

    def subject(self) -> str:
        return f"card/{self.id_tag}"


class LoginNewDevice(_PreauthEvent):
    """The card's first login from this kiosk, or from this browser: its owner may want to know."""

    type: ClassVar[str] = "login.new_device"
    id_tag: CardKey
    session_id: UUID
    device: Literal["kiosk", "browser"]
    kiosk_id: UUID | None = None

    def subject(self) -> str:
        return f"card/{self.id_tag}"


class DriverSignedOut(_PreauthEvent):
    type: ClassVar[str] = "driver.signed_out"
    id_tag: CardKey
    session_id: UUID
    reason: Literal["asked", "idle", "too_long", "kiosk_revoked"]

    def subject(self) -> str:
        return f"card/{self.id_tag}"


class CardPinChanged(_PreauthEvent):
    """A card got a PIN, another one, or none any more."""

    type: ClassVar[str] = "card.pin_changed"
    id_tag: CardKey
    has_pin: bool

    def subject(self) -> str:
        return f"card/{self.id_tag}"


class _KioskEvent(_PreauthEvent):
    kiosk_id: UUID
    name: str

    def subject(self) -> str:
        return f"kiosk/{self.kiosk_id}"


class KioskEnrolled(_KioskEvent):
    """A screen exchanged its enrolment code for a key: from now on it vouches for presence at these chargers."""

    type: ClassVar[str] = "kiosk.enrolled"
    charge_box_ids: list[str]


class KioskRevoked(_KioskEvent):
    type: ClassVar[str] = "kiosk.revoked"


class ChargerQrRotated(_PreauthEvent):
    """QR codes printed before open nothing any more."""

    type: ClassVar[str] = "charger.qr_rotated"
    charge_box_id: str

    def subject(self) -> str:
        return f"charger/{self.charge_box_id}"


class ScanInterceptionIgnored(_PreauthEvent):
    """Blocked was told in time, and it charged all the same. `evidence` says what proves it."""

    type: ClassVar[str] = "scan.interception_ignored"
    tap_id: UUID
    pairing_id: UUID | None
    charge_box_id: str
    id_tag: CardKey
    transaction_id: int
    evidence: str

    def subject(self) -> str:
        return f"charger/{self.charge_box_id}"


class InterceptionRateUnusual(_PreauthEvent):
    """Far more of a charger's taps than usual were taken as scans."""

    type: ClassVar[str] = "interception.rate_unusual"
    charge_box_id: str
    intercepted: int
    window_s: int
    usual_per_window: float

    def subject(self) -> str:
        return f"charger/{self.charge_box_id}"


class InterceptionSwitched(_PreauthEvent):
    """The kill switch was used. `charge_box_id` is None for every charger."""

    type: ClassVar[str] = "interception.switched"
    charge_box_id: str | None
    on: bool
    why: str

    def subject(self) -> str:
        return f"interception/{self.charge_box_id or 'everywhere'}"


# Chargers


Readiness = Literal["yes", "no", "unknown"]
"""Whether a card presented at a charger reaches us as a tap before it charges, so that tap-to-login works there."""


class _ChargerEvent(_PreauthEvent):
    charge_box_id: str

    def subject(self) -> str:
        return f"charger/{self.charge_box_id}"


class ChargerConnected(_ChargerEvent):
    """The charger's first socket through the gateway is open. Chargers that bypass it tell nobody."""

    type: ClassVar[str] = "charger.connected"
    connection_id: UUID
    subprotocol: str
    connected_at: AwareDatetime


class ChargerDisconnected(_ChargerEvent):
    """The charger's last socket is gone. `close_code` as in RFC 6455, 1006 where it just vanished."""

    type: ClassVar[str] = "charger.disconnected"
    connection_id: UUID
    close_code: int
    close_reason: str
    disconnected_at: AwareDatetime


class ConnectorState(Frozen):
    """A StatusNotification (OCPP 1.6, 4.9). Connector 0 is the charger as a whole."""

    status: str
    error_code: str
    vendor_error_code: str | None = None
    info: str | None = None


class ChargerStatusChanged(_ChargerEvent):
    type: ClassVar[str] = "charger.status_changed"
    connector_id: int = Field(ge=0)
    before: ConnectorState | None
    after: ConnectorState
    reported_at: AwareDatetime = Field(description="by the charger's own clock, else when it arrived")


class ChargerReadinessChanged(_ChargerEvent):
    """`keys` are the configuration keys, with their values, that let the charger start without asking."""

    type: ClassVar[str] = "charger.readiness_changed"
    before: Readiness
    after: Readiness
    keys: dict[str, str] = Field(default_factory=dict)
    reason: str
    checked_at: AwareDatetime


class ChargerSessionStarted(_ChargerEvent):
    """SteVe's answer to a StartTransaction passed the gateway. Energies in Wh, times by the charger's clock."""

    type: ClassVar[str] = "charger.session_started"
    transaction_id: int
    connector_id: int = Field(ge=0)
    id_tag: CardKey
    verdict: str = Field(description="idTagInfo.status of SteVe's answer")
    meter_start_wh: int
    started_at: AwareDatetime
    seen_at: AwareDatetime


class ChargerSessionStopped(_ChargerEvent):
    """SteVe's answer to a StopTransaction passed the gateway. SteVe answers normally also when it fails to stop it."""

    type: ClassVar[str] = "charger.session_stopped"
    transaction_id: int
    connector_id: int | None
    id_tag: CardKey | None
    meter_stop_wh: int | None = Field(description="None where the charger sent no number")
    reason: str | None
    stopped_at: AwareDatetime
    seen_at: AwareDatetime
