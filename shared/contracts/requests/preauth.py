"""What others may ask preauth."""

from typing import ClassVar, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field

from shared.contracts.events.preauth import ConnectorState, OperatorPurpose, Purpose, Readiness, TapKind, Told, Via
from shared.contracts.identity import CardKey, Frozen
from shared.contracts.request import MAX_ROWS, Request

SessionOutcome = Literal["began", "none", "unknown"]
OverrideOutcome = Literal["honoured", "ignored", "explained"]


class TapView(Frozen):
    """A tap as the journal knows it; `told` is "unknown" where the answer was never recorded."""

    tap_id: UUID
    tapped_at: AwareDatetime
    charge_box_id: str
    connector_id: int | None
    id_tag: str
    id_tag_as_sent: str | None
    kind: TapKind
    decision: str
    reason: str
    explanation: str = Field("", description="the reason in words")
    told: Told | None
    told_at: AwareDatetime | None
    in_time: bool | None
    duration_us: int | None
    via: Via
    also_via: Via | None = Field(None, description="the other way on which the same tap came")
    pairing_id: UUID | None
    steve_answer: str | None = Field(None, description="SteVe's verdict, where it passed the gateway")
    session: str | None = Field(None, description="the session that began after it")
    session_outcome: SessionOutcome = Field(
        "unknown",
        description="whether a session began after a tap that was let through: none, when sync told of none in the"
        " time that drivers are given (EXPRESSYNC_PREAUTH_SESSION_WITHIN_S), and has asked SteVe since; unknown before,"
        " and for other taps",
    )
    override_outcome: OverrideOutcome | None = Field(
        None,
        description="what the charger did after it was told Blocked for a scan, from evidence: it honoured that,"
        " ignored it and charged, or charged for a reason that explains it; null before it is known",
    )


class GapView(Frozen):
    """Taps that are in no journal: the database was away, and the spool could not keep them either."""

    first_at: AwareDatetime
    last_at: AwareDatetime
    taps: int
    why: str


class TapPage(Frozen):
    """`gaps`: what is missing between these taps, whosever cards they were; each gap is on one page."""

    taps: list[TapView]
    gaps: list[GapView] = Field(default_factory=list)
    next_cursor: str | None = None


class SearchTaps(Request[TapPage]):
    """Newest first. `since` and `until` bound the time of the tap; `reason` is one of the decision's."""

    name: ClassVar[str] = "search_taps"
    owner: ClassVar[str] = "preauth"
    reply = TapPage
    id_tag: CardKey | None = None
    charge_box_id: str | None = None
    pairing_id: UUID | None = None
    reason: str | None = Field(None, max_length=50)
    told: Told | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    limit: int = Field(50, ge=1, le=MAX_ROWS)
    cursor: str | None = None


class PairingView(Frozen):
    pairing_id: UUID
    charge_box_id: str
    connector_id: int | None
    purpose: Purpose
    state: str = Field(description="armed, matched, intercepted, consumed, cancelled, expired or void")
    code: str = Field(description="what the person in front of the charger compares")
    armed_at: AwareDatetime
    armed_by: str
    expires_at: AwareDatetime
    id_tag: str | None = Field(None, description="the card that was matched; for operators, never for a browser")
    tap_id: UUID | None = None


class PairingList(Frozen):
    pairings: list[PairingView]
    next_cursor: str | None = None


class ArmPairing(Request[PairingView]):
    """Take the next tap at this charger, within `window_s` seconds, for `purpose`."""

    name: ClassVar[str] = "arm_pairing"
    owner: ClassVar[str] = "preauth"
    command: ClassVar[bool] = True
    reply = PairingView
    charge_box_id: str = Field(min_length=1, max_length=255)
    connector_id: int | None = Field(None, ge=1)
    purpose: OperatorPurpose
    window_s: int = Field(90, ge=10, le=300)


class CancelPairing(Request[PairingView]):
    name: ClassVar[str] = "cancel_pairing"
    owner: ClassVar[str] = "preauth"
    command: ClassVar[bool] = True
    reply = PairingView
    pairing_id: UUID


class ListPairings(Request[PairingList]):
    """Newest first."""

    name: ClassVar[str] = "list_pairings"
    owner: ClassVar[str] = "preauth"
    reply = PairingList
    charge_box_id: str | None = None
    armed_only: bool = False
    limit: int = Field(50, ge=1, le=MAX_ROWS)
    cursor: str | None = None


class InterceptionState(Frozen):
    """Whether taps may be taken as scans: `everywhere` unless switched off, except at the chargers in `off_at`.

    `qr_is_strong`: an operator declared that a QR code proves presence, so whoever has a photo of one is logged in as
    the next card held to its charger.
    """

    everywhere: bool
    off_at: list[str]
    qr_is_strong: bool = False


class GetInterception(Request[InterceptionState]):
    name: ClassVar[str] = "get_interception"
    owner: ClassVar[str] = "preauth"
    reply = InterceptionState


class SwitchInterception(Request[InterceptionState]):
    """Switch interception off or on, at one charger or, without `charge_box_id`, everywhere."""

    name: ClassVar[str] = "switch_interception"
    owner: ClassVar[str] = "preauth"
    command: ClassVar[bool] = True
    reply = InterceptionState
    on: bool
    charge_box_id: str | None = Field(None, min_length=1, max_length=255)
    why: str = Field("", max_length=500)


class KioskView(Frozen):
    """A screen beside chargers. `state`: waiting (for its enrolment), enrolled, lapsed (nobody came) or revoked."""

    kiosk_id: UUID
    name: str
    charge_box_ids: list[str]
    state: Literal["waiting", "enrolled", "lapsed", "revoked"]
    created_at: AwareDatetime
    created_by: str
    enrolled_at: AwareDatetime | None
    seen_at: AwareDatetime | None
    revoked_at: AwareDatetime | None


class KioskEnrolment(Frozen):
    """The code is typed in at the kiosk's `/kiosk` page, once, before `code_expires_at`."""

    kiosk: KioskView
    code: str | None = Field(description="shown in this answer only; null when the same key is sent again")
    code_expires_at: AwareDatetime


class EnrolKiosk(Request[KioskEnrolment]):
    """Make a one-time code with which a screen becomes a kiosk for these chargers."""

    name: ClassVar[str] = "enrol_kiosk"
    owner: ClassVar[str] = "preauth"
    command: ClassVar[bool] = True
    shown_once: ClassVar[frozenset[str]] = frozenset({"code"})
    reply = KioskEnrolment
    kiosk_name: str = Field(min_length=1, max_length=100)
    charge_box_ids: list[str] = Field(min_length=1, max_length=200)


class RevokeKiosk(Request[KioskView]):
    name: ClassVar[str] = "revoke_kiosk"
    owner: ClassVar[str] = "preauth"
    command: ClassVar[bool] = True
    reply = KioskView
    kiosk_id: UUID


class KioskList(Frozen):
    kiosks: list[KioskView]


class ListKiosks(Request[KioskList]):
    """Newest first, at most 200."""

    name: ClassVar[str] = "list_kiosks"
    owner: ClassVar[str] = "preauth"
    reply = KioskList


class ChargerQr(Frozen):
    """What is printed at a charger: the address in the QR code, and the code as SVG."""

    charge_box_id: str
    address: str
    svg: str
    rotated_at: AwareDatetime


class RotateChargerQr(Request[ChargerQr]):
    """Make a new QR code; those printed before open nothing any more."""

    name: ClassVar[str] = "rotate_charger_qr"
    owner: ClassVar[str] = "preauth"
    command: ClassVar[bool] = True
    reply = ChargerQr
    charge_box_id: str = Field(min_length=1, max_length=255)


class PrintChargerQr(Request[ChargerQr]):
    name: ClassVar[str] = "print_charger_qr"
    owner: ClassVar[str] = "preauth"
    reply = ChargerQr
    charge_box_id: str = Field(min_length=1, max_length=255)


class PinState(Frozen):
    id_tag: str
    has_pin: bool


class SetCardPin(Request[PinState]):
    """Give a card a PIN of 4 to 8 digits, or none."""

    name: ClassVar[str] = "set_card_pin"
    owner: ClassVar[str] = "preauth"
    command: ClassVar[bool] = True
    secret: ClassVar[frozenset[str]] = frozenset({"pin"})
    reply = PinState
    id_tag: CardKey
    pin: str | None = Field(None, pattern="^[0-9]{4,8}$", repr=False)


class ConnectorView(Frozen):
    connector_id: int
    state: ConnectorState
    reported_at: AwareDatetime
    seen_at: AwareDatetime


class OpenSessionView(Frozen):
    """A session as it passed the gateway; SteVe's own record is sync's."""

    transaction_id: int
    connector_id: int
    id_tag: str
    meter_start_wh: int
    started_at: AwareDatetime


class ReadinessView(Frozen):
    """`keys`: what stands in the way. `checked_at` is when the charger itself last told its configuration."""

    ready: Readiness
    reason: str
    keys: dict[str, str] = Field(default_factory=dict)
    checked_at: AwareDatetime | None = None


class ChargerView(Frozen):
    """What is known of a charger. `connected` is None where nobody knows: it does not come through the gateway, and
    SteVe was not asked yet.
    """

    charge_box_id: str
    via_gateway: bool
    connected: bool | None
    connected_as_of: AwareDatetime | None = None
    connected_at: AwareDatetime | None
    disconnected_at: AwareDatetime | None
    close_code: int | None
    subprotocol: str | None
    first_seen_at: AwareDatetime
    last_seen_at: AwareDatetime
    last_heartbeat_at: AwareDatetime | None
    boot_at: AwareDatetime | None
    registration: str | None = Field(description="SteVe's answer to the last BootNotification")
    vendor: str | None
    model: str | None
    serial_number: str | None
    firmware_version: str | None
    firmware_status: str | None
    readiness: ReadinessView
    honours_override: Readiness = Field(
        description="whether it stays off when told Blocked, from evidence. After a no, only a session that it ended at"
        " once, or another firmware and no session, make it yes again: at a scan perhaps no cable was in"
    )
    connectors: list[ConnectorView]
    open_sessions: list[OpenSessionView]


class GetCharger(Request[ChargerView]):
    name: ClassVar[str] = "get_charger"
    owner: ClassVar[str] = "preauth"
    reply = ChargerView
    charge_box_id: str = Field(min_length=1, max_length=255)


class ChargerPage(Frozen):
    chargers: list[ChargerView]
    next_cursor: str | None = None


class ListChargers(Request[ChargerPage]):
    """Ordered by charge box id. `text` is looked for in it; the cursor is the last one of the page before."""

    name: ClassVar[str] = "list_chargers"
    owner: ClassVar[str] = "preauth"
    reply = ChargerPage
    text: str | None = Field(None, max_length=255)
    connected: bool | None = None
    ready: Readiness | None = None
    limit: int = Field(50, ge=1, le=MAX_ROWS)
    cursor: str | None = Field(None, max_length=255)
