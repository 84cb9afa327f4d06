"""How things stand, at a glance: the upstreams, what waits, what happened last."""

from dataclasses import dataclass
from datetime import datetime

from services.admin_api.console import format as fmt
from services.admin_api.console.view.frame import Upstream
from services.admin_api.console.view.sessions import Sessions
from services.admin_api.console.view.state import State, worst
from services.admin_api.console.view.taps import Tap


@dataclass(frozen=True, slots=True)
class Waiting:
    """Work that waits: `number` None when its owner did not answer. `tolerable`: waiting is its normal state."""

    one: str
    many: str
    number: int | None
    sentence: str
    oldest: datetime | None = None
    href: str = ""
    tolerable: bool = False
    sentence_unknown: str = "Nobody could say how many there are."

    @property
    def words(self) -> str:
        return self.sentence if self.number is not None else self.sentence_unknown

    @property
    def state(self) -> State:
        if self.number is None:
            return State.UNKNOWN
        if not self.number:
            return State.OK
        return State.NEUTRAL if self.tolerable else State.ATTENTION


@dataclass(frozen=True, slots=True)
class Overview:
    """`taps` is None when preauth did not answer. `banners`: what was switched off or accepted."""

    upstreams: tuple[Upstream, ...]
    waiting: tuple[Waiting, ...]
    taps: tuple[Tap, ...] | None
    sessions: Sessions
    live_taps: str = ""
    banners: tuple[str, ...] = ()

    @property
    def state(self) -> State:
        if not self.upstreams:
            return worst([State.UNKNOWN] + [each.state for each in self.waiting])
        return worst([each.state for each in self.upstreams] + [each.state for each in self.waiting])

    @property
    def sentence(self) -> str:
        """The worst first, in words."""
        lost = [each.name for each in self.upstreams if each.state in (State.WRONG, State.UNKNOWN)]
        silent = [each.many for each in self.waiting if each.number is None]
        stuck = [each for each in self.waiting if each.state is State.ATTENTION]
        slow = [each.name for each in self.upstreams if each.state is State.ATTENTION]
        if lost:
            return f"{_listed(lost)} {'does' if len(lost) == 1 else 'do'} not answer; nothing is lost, work waits."
        if stuck:
            waits = _listed([fmt.count(each.number or 0, each.one, each.many) for each in stuck])
            one = len(stuck) == 1 and stuck[0].number == 1
            return f"{waits} {'waits' if one else 'wait'} for a decision."
        if not self.upstreams:
            return "How the upstreams stand is not known."
        if silent:
            return f"What waits is not known: {_listed(silent)}."
        if slow:
            return f"{_listed(slow)} {'answers' if len(slow) == 1 else 'answer'} slowly; nothing waits for a person."
        return "Everything answers, and nothing waits for a decision."

    @property
    def next_step(self) -> str:
        concerned = [each.sentence for each in self.upstreams if each.state not in (State.OK, State.NEUTRAL)]
        return " ".join(concerned or [each.sentence for each in self.waiting if each.state is State.ATTENTION])


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
