"""What preauth tells: taps, pairings, interceptions, chargers."""

from typing import ClassVar, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field

from shared.contracts.event import Event
from shared.contracts.identity import CardKey

Purpose = Literal["login", "link_card", "find_card"]
Via = Literal["hook", "gateway"]
TapKind = Literal["authorize", "start"]
Told = Literal["blocked", "passed", "unknown"]


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
