"""What surrounds every page: the rooms, how the upstreams stand, who is signed in."""

from dataclasses import dataclass, replace
from datetime import datetime

from services.admin_api.console import paths
from services.admin_api.console.view.state import SEVERITY, Action, Mark, State


@dataclass(frozen=True, slots=True)
class Room:
    key: str
    word: str
    icon: str
    href: str


ROOMS: tuple[Room, ...] = (
    Room("overview", "Overview", "overview", paths.OVERVIEW),
    Room("cards", "Tags", "tags", paths.CARDS),
    Room("audit", "Audit", "audit", paths.AUDIT),
)
"""The rail, in its order. A page enters the console with its template and a line here; icons: parts/icons.html."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """SteVe, Lago or the broker: how it stands, since when, and when it last answered (None: never)."""

    name: str
    state: State
    sentence: str
    last_answer: datetime | None = None
    since: datetime | None = None
    took_ms: int | None = None

    @property
    def word(self) -> str:
        return _UPSTREAM_WORDS[self.state]


_UPSTREAM_WORDS = {
    State.OK: "answers",
    State.NEUTRAL: "not asked yet",
    State.ATTENTION: "slow",
    State.WRONG: "unreachable",
    State.UNKNOWN: "not known",
}


@dataclass(frozen=True, slots=True)
class Operator:
    name: str
    role: str


@dataclass(frozen=True, slots=True)
class Notice:
    """What the last action did, and its undo."""

    state: State
    sentence: str
    undo: Action | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """`operator` is None where nobody is signed in: then there is no rail and nothing of the upstreams."""

    now: datetime
    operator: Operator | None = None
    room: str = ""
    upstreams: tuple[Upstream, ...] = ()
    rooms: tuple[Room, ...] = ROOMS
    search: str = ""
    csrf_token: str = ""
    rail_collapsed: bool = False
    notice: Notice | None = None
    twin: str = ""

    def at(self, room: str, *, twin: str = "", search: str = "", notice: Notice | None = None) -> "Frame":
        """The same frame around a page of `room`, whose JSON twin stands at `twin`."""
        return replace(self, room=room, twin=twin, search=search, notice=notice)

    @property
    def summary(self) -> Mark:
        """One mark for a narrow screen: the upstream that stands worst, by name."""
        if not self.upstreams:
            return Mark(State.UNKNOWN, "Upstreams", "Nobody has said yet how the upstreams stand.")
        one = max(self.upstreams, key=lambda upstream: SEVERITY.index(upstream.state))
        if one.state is State.OK:
            return Mark(State.OK, "All answer", "Every upstream answers.")
        return Mark(one.state, one.name, f"{one.name}: {one.word}. {one.sentence}")
