"""What a charger holds of a connector, of a charging session, and of a card it was told about."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

ZERO = timedelta(0)


def utc_now() -> datetime:
    return datetime.now(UTC)


def wire_time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How a session runs. With `behind` an hour and `factor` 720 an hour's charging takes five seconds and
    looks to SteVe like the hour that ended just now.

    The station's time never runs ahead of the real one: having caught up, it goes on at real speed.
    """

    power_w: int = 11_000
    behind: timedelta = ZERO
    factor: int = 1
    energy_wh: int | None = None  # the car is full, and the session ends by itself
    sample_s: float | None = None  # real seconds between readings; None: only when asked for


MANUAL_PACE = Pace()


@dataclass
class Session:
    connector_id: int
    id_tag: str
    meter_start_wh: int
    started_at: datetime  # by the station's clock
    began_at: datetime  # by the real one
    pace: Pace
    transaction_id: int | None = None  # None while it waits to be uploaded
    told: str | None = None  # idTagInfo status of the StartTransaction answer
    energy_wh: int = 0

    def now(self, real_now: datetime) -> datetime:
        """The station's time: `factor` times as fast as the real one, until it has caught up."""
        return min(real_now, self.started_at + (real_now - self.began_at) * self.pace.factor)

    def grow(self, real_now: datetime, energy_wh: int | None = None) -> None:
        """Deliver `energy_wh` since the start, else what the power allows in the station's time that has
        passed, but not less than before.
        """
        if energy_wh is not None:
            self.energy_wh = energy_wh
            return
        passed_us = (self.now(real_now) - self.started_at) // timedelta(microseconds=1)
        delivered = self.pace.power_w * passed_us // (3_600 * 1_000_000)
        if self.pace.energy_wh is not None:
            delivered = min(delivered, self.pace.energy_wh)
        self.energy_wh = max(self.energy_wh, delivered)

    @property
    def full(self) -> bool:
        return self.pace.energy_wh is not None and self.energy_wh >= self.pace.energy_wh

    @property
    def meter_wh(self) -> int:
        return self.meter_start_wh + self.energy_wh


@dataclass
class Connector:
    connector_id: int
    meter_wh: int = 0
    status: str = "Available"
    available: bool = True
    session: Session | None = None
    # Where the next backdated session may begin: sessions of one connector never overlap.
    free_since: datetime | None = None

    def begin(self, id_tag: str, pace: Pace, real_now: datetime) -> Session:
        started_at = real_now - pace.behind
        if self.free_since is not None:
            started_at = max(started_at, min(self.free_since, real_now))
        self.session = Session(self.connector_id, id_tag, self.meter_wh, started_at, real_now, pace)
        return self.session

    def end(self, stopped_at: datetime) -> None:
        if self.session is not None:
            self.meter_wh = self.session.meter_wh
        self.session, self.free_since = None, stopped_at

    def state(self) -> dict[str, Any]:
        session = self.session
        return {
            "connector_id": self.connector_id,
            "status": self.status,
            "available": self.available,
            "meter_wh": self.meter_wh if session is None else session.meter_wh,
            "session": None
            if session is None
            else {
                "id_tag": session.id_tag,
                "transaction_id": session.transaction_id,
                "told": session.told,
                "energy_wh": session.energy_wh,
                "started_at": wire_time(session.started_at),
            },
        }


@dataclass(frozen=True, kw_only=True)
class TapResult:
    """What a tap led to. `authorize` and `start` are the statuses the charger was told; None: not asked.

    A CALLERROR or a lost connection is told as "NoAnswer". `unasked`: `authorize` is kept of an earlier answer.
    """

    connector_id: int
    id_tag: str
    authorize: str | None = None
    start: str | None = None
    transaction_id: int | None = None
    charging: bool = False
    stopped: bool = False  # the card ended its own session
    offline: bool = False
    unasked: bool = False
    authorize_ms: int | None = None
