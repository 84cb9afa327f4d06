"""What the operators' gateway tells: who came in, who was refused, what was diagnosed."""

from typing import ClassVar, Literal

from pydantic import AwareDatetime, Field

from shared.contracts.event import Event
from shared.contracts.identity import CardKey

Role = Literal["viewer", "operator", "admin"]
NOBODY = "?"
"""Stands for a name that no operator has: what was typed may be a password in the wrong field."""


class _OperatorEvent(Event):
    owner: ClassVar[str] = "admin_api"
    version: ClassVar[int] = 1
    operator: str

    def subject(self) -> str:
        return f"operator/{self.operator}"


class OperatorCreated(_OperatorEvent):
    type: ClassVar[str] = "operator.created"
    role: Role


class OperatorSignedIn(_OperatorEvent):
    """`kind` tells a browser's session from one of the command line."""

    type: ClassVar[str] = "operator.signed_in"
    method: Literal["password", "one_time_password"]
    kind: Literal["browser", "cli"] = "browser"


class OperatorSignInRefused(_OperatorEvent):
    """`operator` is the operator who was tried, or "?" where there is none of the name that was typed.

    With `too_many_attempts` it is told once, when the lock closes, and not for each attempt against it.
    """

    type: ClassVar[str] = "operator.sign_in_refused"
    reason: Literal["unknown_or_wrong", "disabled", "too_many_attempts", "one_time_password_expired"]


class OperatorChanged(_OperatorEvent):
    """Fields changed; a password travels as its field's name only. `role` is the new one where it changed."""

    type: ClassVar[str] = "operator.changed"
    changed: list[Literal["password", "one_time_password", "role", "enabled"]]
    role: Role | None = None


class OperatorDisabled(_OperatorEvent):
    """The operator is signed out everywhere and cannot come in."""

    type: ClassVar[str] = "operator.disabled"


class _ApiTokenEvent(Event):
    owner: ClassVar[str] = "admin_api"
    version: ClassVar[int] = 1
    token_id: str
    name: str

    def subject(self) -> str:
        return f"api_token/{self.token_id}"


class ApiTokenCreated(_ApiTokenEvent):
    type: ClassVar[str] = "api_token.created"
    role: Role
    expires_at: AwareDatetime | None = Field(None, description="absent in events of older versions")


class ApiTokenRevoked(_ApiTokenEvent):
    type: ClassVar[str] = "api_token.revoked"


class DiagnosisMade(Event):
    """An operator asked why a card does not charge, and what the answer was."""

    owner: ClassVar[str] = "admin_api"
    type: ClassVar[str] = "diagnosis.made"
    version: ClassVar[int] = 1
    id_tag: CardKey
    verdict: str
    answers: dict[str, Literal["yes", "no", "unknown"]]

    def subject(self) -> str:
        return f"card/{self.id_tag}"
