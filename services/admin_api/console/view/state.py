from dataclasses import dataclass, field
from enum import StrEnum


class State(StrEnum):
    """How something stands. Each has a colour and a shape; the word beside it comes with the fact."""

    OK = "ok"
    ATTENTION = "attention"
    WRONG = "wrong"
    UNKNOWN = "unknown"
    NEUTRAL = "neutral"


SEVERITY = (State.NEUTRAL, State.OK, State.UNKNOWN, State.ATTENTION, State.WRONG)
"""From what may be overlooked to what may not. Unknown is never as good as fine."""


def worst(states: list[State]) -> State:
    return max(states, key=SEVERITY.index, default=State.NEUTRAL)


@dataclass(frozen=True, slots=True)
class Mark:
    """A state with its word, and with the sentence behind it for those who ask."""

    state: State
    word: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Confirm:
    """What a person reads before a dangerous action: what will happen, and how it is undone."""

    title: str
    consequences: tuple[str, ...]
    undo: str


@dataclass(frozen=True, slots=True)
class Action:
    """Something an operator can do: a link, or with `post` a form that is sent once (`idempotency_key`)."""

    label: str
    href: str
    key: str = ""
    post: bool = False
    primary: bool = False
    dangerous: bool = False
    confirm: Confirm | None = None
    fields: tuple[tuple[str, str], ...] = field(default=())
    idempotency_key: str = ""


@dataclass(frozen=True, slots=True)
class Chip:
    """One filter as a link. `count` is None where counting would cost more than it tells."""

    label: str
    href: str
    on: bool = False
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Pager:
    """Where a list goes on. Lists are read by cursor, so there is an older page and the newest one, no numbers."""

    shown: int
    older: str | None = None
    newest: str | None = None
