from dataclasses import dataclass

from services.admin_api.console.view.state import Action, State


@dataclass(frozen=True, slots=True)
class Problem:
    """An RFC 9457 problem in words: what is wrong, with which value, and what to do."""

    status: int
    title: str
    detail: str
    what_to_do: str = ""
    reference: str = ""
    actions: tuple[Action, ...] = ()

    @property
    def state(self) -> State:
        if self.status in (503, 504):
            return State.UNKNOWN
        return State.ATTENTION if self.status < 500 else State.WRONG
