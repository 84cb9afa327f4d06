"""What the operators' gateway tells: who came in, who was refused, what was diagnosed."""

from typing import ClassVar, Literal

from shared.contracts.event import Event
from shared.contracts.identity import CardKey

Role = Literal["viewer", "operator", "admin"]


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
    type: ClassVar[str] = "operator.signed_in"
    method: Literal["password", "one_time_password"]


class OperatorSignInRefused(_OperatorEvent):
    """`operator` is the name that was typed, shortened; it need not exist."""

    type: ClassVar[str] = "operator.sign_in_refused"
    reason: Literal["unknown_or_wrong", "disabled", "too_many_attempts"]


class OperatorChanged(_OperatorEvent):
    """Fields changed; a password travels as its field's name only."""

    type: ClassVar[str] = "operator.changed"
    changed: list[str]


class ApiTokenCreated(Event):
    owner: ClassVar[str] = "admin_api"
    type: ClassVar[str] = "api_token.created"
    version: ClassVar[int] = 1
    token_id: str
    name: str
    role: Role

    def subject(self) -> str:
        return f"api_token/{self.token_id}"


class ApiTokenRevoked(Event):
    owner: ClassVar[str] = "admin_api"
    type: ClassVar[str] = "api_token.revoked"
    version: ClassVar[int] = 1
    token_id: str
    name: str

    def subject(self) -> str:
        return f"api_token/{self.token_id}"


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
