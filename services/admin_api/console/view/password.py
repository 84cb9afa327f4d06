from dataclasses import dataclass

from services.admin_api.console.view.state import State


@dataclass(frozen=True, slots=True)
class ChoosePassword:
    """`first`: the one-time password was just used, so the current one is not asked for again."""

    name: str
    first: bool
    at_least: int
    message: str = ""
    state: State = State.NEUTRAL
