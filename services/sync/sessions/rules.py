"""What can be wrong with a finished session: its name, its cause, and what to do about it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Literal

Anomaly = Literal[
    "meter_unreadable",
    "stop_before_start",
    "in_future",
    "blocked_start",
    "expired_start",
    "intercepted_start",
    "negative_energy",
    "no_energy",
    "start_at_zero",
    "meter_went_back",
    "too_much_energy",
    "overlapping",
    "open_too_long",
]

# Stations' clocks run ahead of ours; SteVe itself tolerates five minutes.
CLOCK_TOLERANCE: Final = timedelta(minutes=5)
# A station that ends one transaction and begins the next may stamp them a little over each other.
OVERLAP_TOLERANCE: Final = timedelta(seconds=60)
# Rounding of meters, and what flows before the first and after the last stamp.
ENERGY_TOLERANCE_WH: Final = 500

REMEDIES: Final[dict[Anomaly, str]] = {
    "meter_unreadable": "Correct the reading in SteVe, or ignore the session with a note.",
    "stop_before_start": "Check the charger's clock. Release the session if its energy is right.",
    "in_future": "Check the charger's clock. The session is looked at again when that time has come.",
    "blocked_start": "The charger charged a card that was blocked. Release it to bill the energy, or ignore it.",
    "expired_start": "The charger charged a card that had expired. Release it to bill the energy, or ignore it.",
    "intercepted_start": "The tap was taken for a login; nothing was to be charged. Ignore it.",
    "negative_energy": "The meter stopped below its start. Correct the stop in SteVe, or ignore the session.",
    "no_energy": "Nothing was delivered. Ignore it.",
    "start_at_zero": "The charger reported 0 as the start. Correct the start in SteVe, or ignore the session.",
    "meter_went_back": "Was the meter replaced or reset? If so, release the session; its own energy counts.",
    "too_much_energy": "More than the connector can deliver. Compare with the charger, then release or ignore.",
    "overlapping": "Two transactions on one connector at once. Release the one that is right, ignore the other.",
    "open_too_long": "Stop the transaction in SteVe if the car is gone; the charger's own stop will still count.",
}


def unbilled(*, stopped: bool) -> Literal["open", "pending"]:
    """How the billing of a session stands that is neither billed nor held."""
    return "pending" if stopped else "open"


def used_wh(start_wh: int | None, stop_wh: int | None) -> int:
    """The energy between two readings; 0 where that cannot be told (yet)."""
    return 0 if start_wh is None or stop_wh is None else stop_wh - start_wh


@dataclass(frozen=True, slots=True)
class Limits:
    """What is plausible here. `charger_kw`: chargers whose connectors have another limit than the rest."""

    connector_kw: int
    open_for: timedelta
    charger_kw: Mapping[str, int] = field(default_factory=dict)

    def at(self, charge_box_id: str) -> "Limits":
        """What is plausible at this charger."""
        most_kw = self.charger_kw.get(charge_box_id)
        return self if most_kw is None else replace(self, connector_kw=most_kw)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A transaction as SteVe has it; readings in Wh, None where they are no number."""

    started_at: datetime
    start_wh: int | None
    stopped_at: datetime | None
    stop_wh: int | None


@dataclass(frozen=True, slots=True)
class Around:
    """What was on the same connector, and how the card stood at the start."""

    previous_start_wh: int | None = None
    previous_stop_wh: int | None = None
    overlaps: str | None = None
    blocked: bool = False
    expired: bool = False
    # What SteVe answered to the start, where it is known: Accepted, Blocked, Expired, Invalid, ConcurrentTx.
    verdict: str | None = None
    # Whether preauth had its start answered Blocked.
    intercepted: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    anomaly: Anomaly
    explanation: str


def find(one: Recorded, around: Around, *, now: datetime, limits: Limits) -> list[Finding]:
    """All anomalies of a session, the one that explains most first; empty for one that can be billed."""
    if one.stopped_at is None:
        return _still_open(one, now, limits)
    found = [*_times(one, one.stopped_at, now), *_start(around)]
    if one.start_wh is None or one.stop_wh is None:
        which = "start" if one.start_wh is None else "stop"
        return [*found, Finding("meter_unreadable", f"The {which} reading is no number.")]
    return [
        *found,
        *_energy(one.start_wh, one.stop_wh, one.stopped_at - one.started_at, limits),
        *_register(one.start_wh, around),
        *_overlap(around),
    ]


def _still_open(one: Recorded, now: datetime, limits: Limits) -> list[Finding]:
    if now - one.started_at <= limits.open_for:
        return []
    hours = int(limits.open_for.total_seconds() // 3600)
    return [Finding("open_too_long", f"Open since {one.started_at:%Y-%m-%d %H:%M} UTC, longer than {hours} h.")]


def _times(one: Recorded, stopped_at: datetime, now: datetime) -> list[Finding]:
    found = []
    latest = max(one.started_at, stopped_at)
    if latest > now + CLOCK_TOLERANCE:
        found.append(Finding("in_future", f"It is stamped {latest:%Y-%m-%d %H:%M} UTC, which is still to come."))
    if stopped_at < one.started_at:
        what = f"It stopped at {stopped_at:%Y-%m-%d %H:%M:%S} UTC, before its start at {one.started_at:%H:%M:%S}."
        found.append(Finding("stop_before_start", what))
    return found


def _start(around: Around) -> list[Finding]:
    # The hook's Blocked replaces an Accepted only: a card that SteVe refuses by itself was refused by SteVe. So was one
    # that was answered Blocked without preauth's doing: it may have been blocked a moment before it was mirrored.
    if around.intercepted and around.verdict in (None, "Blocked") and not (around.blocked or around.expired):
        return [
            Finding("intercepted_start", "Blocked was answered to its start because the tap was taken for a login.")
        ]
    if around.verdict not in (None, "Accepted"):
        return [Finding("blocked_start", f"SteVe answered {around.verdict} to its start.")]
    if around.blocked:
        return [Finding("blocked_start", "The card was blocked when it began.")]
    if around.expired:
        return [Finding("expired_start", "The card had expired when it began.")]
    return []


def _energy(start_wh: int, stop_wh: int, lasted: timedelta, limits: Limits) -> list[Finding]:
    energy_wh = stop_wh - start_wh
    if energy_wh < 0:
        return [Finding("negative_energy", f"The meter went from {start_wh} to {stop_wh} Wh.")]
    if energy_wh == 0:
        return [Finding("no_energy", f"The meter stood at {start_wh} Wh at the start and at the end.")]
    seconds = max(int(lasted.total_seconds()), 0)
    most_wh = limits.connector_kw * 1000 * seconds // 3600 * 11 // 10 + ENERGY_TOLERANCE_WH
    if energy_wh > most_wh:
        what = f"{energy_wh} Wh in {seconds} s; a connector of {limits.connector_kw} kW delivers {most_wh} Wh at most."
        return [Finding("too_much_energy", what)]
    return []


def _register(start_wh: int, around: Around) -> list[Finding]:
    """A register never runs back; a station that counts each session from 0 has none, and that is fine."""
    before = around.previous_stop_wh
    if before is None or start_wh >= before:
        return []
    if start_wh == 0:
        if around.previous_start_wh == 0:
            return []
        return [Finding("start_at_zero", f"It began at 0 Wh; the session before ended at {before} Wh.")]
    return [Finding("meter_went_back", f"It began at {start_wh} Wh; the session before ended at {before} Wh.")]


def _overlap(around: Around) -> list[Finding]:
    if around.overlaps is None:
        return []
    return [Finding("overlapping", f"Session {around.overlaps} was on the same connector at the same time.")]
