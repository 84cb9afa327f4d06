"""Every driver page in every state, from made-up view models."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import get_args

import segno

from services.preauth.login.screens.stages import LOOKS, Screen
from services.preauth.login.screens.view import (
    Bind,
    Bound,
    BoundRow,
    Choice,
    Enrol,
    Frame,
    Kiosk,
    Me,
    NoCharger,
    Offer,
    Page,
    Scan,
    SessionRow,
    SignedOut,
    Trouble,
    What,
)

NOW = datetime(2026, 5, 1, 9, 30, tzinfo=UTC)
LONG = "DE*EXP*E0042-Tiefgarage Nord/Ebene -2/" + "Stellplatz-0815" * 3
PHONE, KIOSK = Frame(), Frame(kiosk="Car park west, entrance")
KNOWN = {"code": "K7PX", "spelled": "K 7 P X", "seconds": 83, "wait": "4 minutes"}
WHY = "With LocalPreAuthorize the charger starts for cards that it knows (AuthorizationCacheEnabled) without asking."


@dataclass(frozen=True)
class Sample:
    """One page in one state, and the address it is served at."""

    name: str
    frame: Frame
    page: Page

    @property
    def address(self) -> str:
        return f"/{self.name}"


def _row(charger: str, connector: int, hours: int, energy_wh: int | None, billed: str) -> SessionRow:
    return SessionRow(charger, connector, NOW - timedelta(hours=hours), energy_wh, billed)  # type: ignore[arg-type]


ROWS = (
    _row("CP-7", 1, 1, None, "open"),
    _row("CP-7", 1, 26, 12_449, "counted"),
    _row("CP-3", 2, 50, 7_950, "synced"),
    _row("CP-3", 2, 75, 31_204, "pending"),
    _row("CP-12", 1, 400, 4_020, "held"),
    _row("CP-12", 1, 9_000, 0, "ignored"),
)


BOUND = (BoundRow("b1", NOW - timedelta(days=40), NOW - timedelta(hours=2)), BoundRow("b2", NOW, NOW))
QR = segno.make("https://charge.example/bind?code=7KQ2MXPA", error="m").svg_inline(
    border=4, light="#fff", omitsize=True
)


def scans() -> list[Sample]:
    found = [
        Sample(f"scan-{screen.replace('_', '-')}", PHONE, Scan("CP-7", 2, screen=screen, known=KNOWN))
        for screen in LOOKS
        if screen is not Screen.UNABLE
    ]
    found.append(Sample("scan-unable", PHONE, Scan("CP-7", screen=Screen.UNABLE, unable=WHY)))
    found.append(Sample("scan-long", PHONE, Scan(LONG, screen=Screen.WAIT, known=KNOWN)))
    for screen in (Screen.WAIT, Screen.WORKING):
        plain = Scan("CP-7", screen=screen, known=KNOWN, pairing_id="018f0000-0000-7000-8000-000000000007")
        found.append(Sample(f"scan-{screen}-plain", PHONE, plain))
    found.append(Sample("scan-none", PHONE, NoCharger()))
    found += [Sample(f"trouble-{what}", PHONE, Trouble(what)) for what in get_args(What)]
    found += [
        Sample(f"kiosk-{screen.replace('_', '-')}", KIOSK, Scan("CP-7", screen=screen, known=KNOWN))
        for screen in (
            Screen.READY,
            Screen.WAIT,
            Screen.WORKING,
            Screen.DONE,
            Screen.EXPIRED,
            Screen.REFUSED,
            Screen.CHARGES_HERE,
        )
    ]
    return found


def accounts() -> list[Sample]:
    return [
        Sample("me", PHONE, Me("Mara Lindt", ROWS, portal="https://lago.example/portal")),
        Sample("me-nameless", PHONE, Me(None, ROWS[1:2])),
        Sample("me-empty", PHONE, Me("Mara Lindt", ())),
        Sample("me-silent", PHONE, Me(None, None, portal=None, card_answered=False)),
        Sample(
            "me-long",
            PHONE,
            Me("Gesellschaft für Elektromobilität und Ladeinfrastruktur", (_row(LONG, 2, 3, 1_234_567, "counted"),)),
        ),
        Sample("me-soon", PHONE, Me("Mara Lindt", ROWS[:2], idle_s=180, left_s=12)),
        Sample("kiosk-me", KIOSK, Me("Mara Lindt", ROWS, bindings=BOUND, may_bind=True, idle_s=60)),
        Sample("me-bound", PHONE, Me("Mara Lindt", ROWS[:1], bindings=BOUND)),
        Sample("kiosk-me-unbound", KIOSK, Me("Mara Lindt", ROWS[:1], may_bind=True)),
        Sample("kiosk-bind", KIOSK, Offer("7KQ2MXPA", "https://charge.example/bind", QR, 120)),
        Sample("bind", PHONE, Bind("7KQ2MXPA")),
        Sample("bind-refused", PHONE, Bind(notice="refused")),
        Sample("bind-too-many", PHONE, Bind("7KQ2MXPA", notice="too_many")),
        Sample("bound", PHONE, Bound()),
        Sample("out", PHONE, SignedOut()),
        Sample("kiosk-out", KIOSK, SignedOut()),
    ]


def kiosks() -> list[Sample]:
    states = ("free", "busy", "unable", "off", "free", "free")
    chargers = tuple(Choice(f"CP-{number}", state) for number, state in enumerate(states, 1))  # type: ignore[arg-type]
    return [
        Sample("kiosk", KIOSK, Kiosk(KIOSK.kiosk or "", chargers)),
        Sample("kiosk-one", KIOSK, Kiosk(KIOSK.kiosk or "", (Choice("CP-7"),))),
        Sample("kiosk-long", KIOSK, Kiosk(KIOSK.kiosk or "", (Choice(LONG), Choice("A&B <ü> 100%")))),
        Sample("kiosk-none", KIOSK, Kiosk(KIOSK.kiosk or "", ())),
        Sample("enrol", PHONE, Enrol()),
        Sample("enrol-refused", PHONE, Enrol("refused")),
        Sample("enrol-too-many", PHONE, Enrol("too_many")),
        Sample("enrol-revoked", PHONE, Enrol("revoked")),
    ]


SAMPLES: dict[str, Sample] = {sample.name: sample for part in (scans, accounts, kiosks) for sample in part()}
