"""Charging sessions as a table: what was charged, and how far it is billed."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from services.admin_api.console import format as fmt
from services.admin_api.console.view.state import Action, State

BillingState = Literal["open", "counted", "synced", "pending", "held", "ignored", "unknown"]

_BILLING: dict[BillingState, tuple[State, str]] = {
    "open": (State.NEUTRAL, "not ended yet"),
    "counted": (State.OK, "counted"),
    "synced": (State.OK, "sent"),
    "pending": (State.NEUTRAL, "waits to be sent"),
    "held": (State.ATTENTION, "held"),
    "ignored": (State.NEUTRAL, "ignored"),
    "unknown": (State.UNKNOWN, "sync did not answer"),
}
_MEANING: dict[BillingState, str] = {
    "open": "It is still running; it is billed in full when it has ended.",
    "counted": "Lago counted it: read back from Lago.",
    "synced": "Lago acknowledged it. It has not been read back as counted yet.",
    "pending": "It will be sent with the next run. Nothing is lost.",
    "held": "It is kept back and is not billed until somebody decides.",
    "ignored": "An operator decided that it is not billed.",
    "unknown": "Nobody could say how far it is billed.",
}
_STOP_REASONS = {
    "DeAuthorized": "card no longer accepted",
    "EmergencyStop": "emergency stop",
    "EVDisconnected": "car unplugged",
    "HardReset": "charger restarted hard",
    "Local": "stopped at the charger",
    "Other": "other",
    "PowerLoss": "power lost",
    "Reboot": "charger rebooted",
    "Remote": "stopped remotely",
    "SoftReset": "charger restarted",
    "UnlockCommand": "connector unlocked",
}
"""OCPP 1.6, section 7.38 (Reason), in plain words; the code stays one hover away."""


@dataclass(frozen=True, slots=True)
class Billing:
    state: BillingState
    at: datetime | None = None
    reason: str = ""

    @property
    def mark(self) -> State:
        return _BILLING[self.state][0]

    @property
    def word(self) -> str:
        word = _BILLING[self.state][1]
        return f"{word}: {fmt.words(self.reason)}" if self.reason else word

    @property
    def meaning(self) -> str:
        return _MEANING[self.state]


@dataclass(frozen=True, slots=True)
class Session:
    """`stop` None: it charges now. `energy_wh` None: no reading yet."""

    session: str
    charge_box_id: str
    connector_id: int
    start: datetime
    stop: datetime | None
    energy_wh: int | None
    billing: Billing
    stop_reason: str = ""
    id_tag: str = ""
    actions: tuple[Action, ...] = ()

    @property
    def ended(self) -> str:
        if self.stop is None:
            return "charging now"
        if not self.stop_reason:
            return "no reason given"
        return _STOP_REASONS.get(self.stop_reason, fmt.words(self.stop_reason))


@dataclass(frozen=True, slots=True)
class Sessions:
    """`rows` is None when nobody answered, which is not the same as no sessions."""

    rows: tuple[Session, ...] | None
    as_of: datetime | None = None

    @property
    def total(self) -> fmt.Total:
        return fmt.kwh_total(row.energy_wh for row in self.rows or () if row.energy_wh is not None)

    @property
    def unread(self) -> int:
        """Rows without a reading, which the total therefore does not contain."""
        return sum(row.energy_wh is None for row in self.rows or ())
