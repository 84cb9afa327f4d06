"""What others may ask preauth."""

from typing import ClassVar
from uuid import UUID

from pydantic import AwareDatetime, Field

from shared.contracts.events.preauth import Purpose, TapKind, Told, Via
from shared.contracts.identity import CardKey, Frozen
from shared.contracts.request import MAX_ROWS, Request


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
    told: Told | None
    told_at: AwareDatetime | None
    in_time: bool | None
    duration_us: int | None
    via: Via
    pairing_id: UUID | None


class TapPage(Frozen):
    taps: list[TapView]
    next_cursor: str | None = None


class SearchTaps(Request[TapPage]):
    """Newest first. `since` and `until` bound the time of the tap."""

    name: ClassVar[str] = "search_taps"
    owner: ClassVar[str] = "preauth"
    reply = TapPage
    id_tag: CardKey | None = None
    charge_box_id: str | None = None
    pairing_id: UUID | None = None
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
    purpose: Purpose
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
