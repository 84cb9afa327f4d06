"""What the driver pages show, before it is HTML. Nothing here holds the id of a card."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Literal

from services.preauth.login.screens.stages import WAITING, Screen

KIOSK: Final = "/kiosk"
SCAN: Final = "/scan"
ME: Final = "/me"
LOOK: Final = "/me?look"
"""The same where the page goes there by itself: nobody has shown to be there."""
SIGN_OUT: Final = "/me/sign-out"
BINDINGS: Final = "/me/bindings"
FORGET: Final = "/me/bindings/forget"
BIND: Final = "/bind"
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
    `pairing_id` are what the forms of a page without scripts send back. `onward` is where a page without scripts goes
    when all is done: no form may be redirected to another site.
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
    onward: str = ""

    def at(
        self, screen: Screen, *, pairing_id: str = "", unable: str = "", known: Mapping[str, object] | None = None
    ) -> "Scan":
        """The same scan at another stage."""
        return replace(self, screen=screen, pairing_id=pairing_id, unable=unable, known=known or {})

    @property
    def moves(self) -> bool:
        """Whether something follows by itself, so that a page without scripts looks again."""
        return bool(self.pairing_id) and self.screen in {*WAITING, Screen.WORKING}


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
class BoundRow:
    """A browser that signs in without a PIN. `handle` is what forgets it."""

    handle: str
    bound_at: datetime
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class Me:
    """`name` is the card's or its holder's, None without one. `sessions` is None where nobody answered, and so is
    `portal`, which is empty where there is no customer page. `may_bind`: this began at a kiosk. `stay` is asked for so
    that the server knows that somebody is still there. `left_s` of the `idle_s` until the sign-out; None: all of them.
    """

    name: str | None
    sessions: tuple[SessionRow, ...] | None
    portal: str | None = ""
    card_answered: bool = True
    bindings: tuple[BoundRow, ...] = ()
    may_bind: bool = False
    idle_s: int = 180
    left_s: int | None = None
    stay: str = ME

    @property
    def left(self) -> int:
        return self.idle_s if self.left_s is None else self.left_s


@dataclass(frozen=True, slots=True)
class Offer:
    """The code for the phone that is to be bound; `image` is a QR code of it as SVG."""

    code: str
    address: str
    image: str
    seconds: int


BindNotice = Literal["", "refused", "too_many"]


@dataclass(frozen=True, slots=True)
class Bind:
    """On the phone: asks whether to bind it. `code` as it came along, empty where it is to be typed in."""

    code: str = ""
    notice: BindNotice = ""


@dataclass(frozen=True, slots=True)
class Bound:
    pass


@dataclass(frozen=True, slots=True)
class SignedOut:
    pass


What = Literal["away", "elsewhere", "failed"]


@dataclass(frozen=True, slots=True)
class Trouble:
    """No page could be made: the house is not all there, the request came from another site, or made no sense. `again`
    is where it goes on; a page whose house is away tries by itself.
    """

    what: What
    again: str = SCAN


@dataclass(frozen=True, slots=True)
class NoCharger:
    """Somebody opened `/scan` without having scanned a code."""


Page = Scan | Kiosk | Enrol | Me | Offer | Bind | Bound | SignedOut | NoCharger | Trouble
