"""What the driver pages show, before it is HTML. Nothing here holds the id of a card."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Literal

from services.preauth.login.screens.stages import Screen

KIOSK: Final = "/kiosk"
SCAN: Final = "/scan"
ME: Final = "/me"
SIGN_OUT: Final = "/me/sign-out"
WINDOW_S: Final = 90


@dataclass(frozen=True, slots=True)
class Frame:
    """`kiosk` is the name of the screen beside the chargers, None on a driver's own device. A kiosk's page returns to
    its chargers by itself.
    """

    kiosk: str | None = None

    @property
    def shared(self) -> bool:
        return self.kiosk is not None


@dataclass(frozen=True, slots=True)
class Scan:
    """One charger's scan. `unable`: why taps there do not reach us, for the operator's eyes; empty where they may.

    `client` is what another application asked with, handed back to `/api/pairings/{id}/login` as it came. `known` fills
    in what a stage's words leave open, where the server knows it (`wait`, `code`, `spelled`, `seconds`). `key` and
    `pairing_id` are what the forms of a page without scripts send back.
    """

    charge_box_id: str
    connector_id: int | None = None
    screen: Screen = Screen.READY
    unable: str = ""
    client: Mapping[str, str] = field(default_factory=dict)
    known: Mapping[str, object] = field(default_factory=dict)
    window_s: int = WINDOW_S
    key: str = field(default="", repr=False)
    pairing_id: str = ""

    def at(
        self, screen: Screen, *, pairing_id: str = "", unable: str = "", known: Mapping[str, object] | None = None
    ) -> "Scan":
        """The same scan at another stage."""
        return replace(self, screen=screen, pairing_id=pairing_id, unable=unable, known=known or {})

    @property
    def moves(self) -> bool:
        """Whether something follows by itself, so that a page without scripts looks again."""
        return bool(self.pairing_id) and self.screen in {Screen.WAIT, Screen.WORKING}


ChargerState = Literal["free", "busy", "unable", "off"]


@dataclass(frozen=True, slots=True)
class Choice:
    """A charger on a kiosk's screen."""

    charge_box_id: str
    state: ChargerState = "free"


@dataclass(frozen=True, slots=True)
class Kiosk:
    name: str
    chargers: tuple[Choice, ...]


EnrolNotice = Literal["", "refused", "too_many", "revoked"]


@dataclass(frozen=True, slots=True)
class Enrol:
    notice: EnrolNotice = ""


Billed = Literal["open", "pending", "synced", "counted", "held", "ignored", "unknown"]

BILLED_STATE: Final[Mapping[Billed, str]] = {
    "open": "neutral",
    "pending": "neutral",
    "synced": "neutral",
    "counted": "ok",
    "held": "attention",
    "ignored": "neutral",
    "unknown": "unknown",
}


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A charging session. `energy_wh` is None without a reading."""

    charge_box_id: str
    connector_id: int
    started_at: datetime
    energy_wh: int | None
    billed: Billed

    @property
    def state(self) -> str:
        return BILLED_STATE[self.billed]


@dataclass(frozen=True, slots=True)
class Me:
    """`name` is the card's or its holder's, None without one. `sessions` is None where nobody answered, and so is
    `portal`, which is empty where there is no customer page. `stay` is asked for so that the server knows that somebody
    is still there.
    """

    name: str | None
    sessions: tuple[SessionRow, ...] | None
    portal: str | None = ""
    card_answered: bool = True
    idle_s: int = 180
    stay: str = ME


@dataclass(frozen=True, slots=True)
class SignedOut:
    pass


@dataclass(frozen=True, slots=True)
class NoCharger:
    """Somebody opened `/scan` without having scanned a code."""


Page = Scan | Kiosk | Enrol | Me | SignedOut | NoCharger
