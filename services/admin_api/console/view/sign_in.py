from dataclasses import dataclass

from services.admin_api.console.view.state import State


@dataclass(frozen=True, slots=True)
class SignIn:
    """`message` says why the person is here or why it failed; the name typed is kept, the password never."""

    name: str = ""
    message: str = ""
    state: State = State.NEUTRAL
    next: str = "/"
    single_sign_on: str = ""
    """The provider's name as the button says it; empty where none is configured."""
    disabled: bool = False
