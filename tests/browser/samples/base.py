"""The moment all samples are seen at, and the frames around them."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from services.admin_api.console.view.frame import Frame, Operator, Room, Upstream
from services.admin_api.console.view.state import State

NOW = datetime(2026, 5, 1, 9, 30, tzinfo=UTC)


def ago(*, d: int = 0, h: int = 0, m: int = 0, s: int = 0) -> datetime:
    return NOW - timedelta(days=d, hours=h, minutes=m, seconds=s)


@dataclass(frozen=True)
class Sample:
    """One page in one state, and the address it is served at."""

    name: str
    template: str
    frame: Frame
    page: object

    @property
    def address(self) -> str:
        return f"/{self.name}"


STEVE = Upstream("SteVe", State.OK, "Tags and transactions are read every 30 s.", ago(s=4), took_ms=86)
LAGO = Upstream("Lago", State.OK, "Usage events are accepted and read back.", ago(s=11), took_ms=142)
BROKER = Upstream("Broker", State.OK, "Events are confirmed as they happen.", ago(s=1), took_ms=3)
STEVE_LOST = Upstream(
    "SteVe",
    State.WRONG,
    "SteVe refuses the connection. Taps are still decided by SteVe itself where it runs; look whether its host is up.",
    ago(m=12),
    since=ago(m=12),
)
LAGO_SLOW = Upstream(
    "Lago", State.ATTENTION, "Lago answers, but 1 in 4 requests takes longer than 5 s.", ago(s=9), took_ms=5_240
)
LAGO_SILENT = Upstream("Lago", State.UNKNOWN, "Lago has not been asked successfully since the start.")

FRAME = Frame(now=NOW, operator=Operator("Mara Lindt", "operator"), upstreams=(STEVE, LAGO, BROKER), csrf_token="t")
LOST = replace(FRAME, upstreams=(STEVE_LOST, LAGO, BROKER))
ALL_ROOMS = (
    Room("overview", "Overview", "overview", "/"),
    Room("cards", "Tags", "tags", "/cards"),
    Room("chargers", "Chargers", "chargers", "/"),
    Room("sessions", "Sessions", "sessions", "/"),
    Room("sync", "Sync", "sync", "/"),
    Room("held", "Held", "held", "/"),
    Room("taps", "Live taps", "taps", "/"),
    Room("audit", "Audit", "audit", "/audit"),
    Room("system", "System", "system", "/"),
)
