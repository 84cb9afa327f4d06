"""Who and what events and requests speak about. Spelling rules: one for all services."""

from typing import Annotated, Literal, NewType
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict

IdTag = NewType("IdTag", str)
ChargeBoxId = NewType("ChargeBoxId", str)
SessionId = NewType("SessionId", str)

ActorKind = Literal["operator", "api_token", "driver", "kiosk", "charger", "system", "upstream"]


def id_tag_key(as_sent: str) -> IdTag:
    """The card's key: trimmed and upper-cased, because SteVe compares case-insensitively (OCPP CiString20)."""
    return IdTag(as_sent.strip().upper())


CardKey = Annotated[str, AfterValidator(id_tag_key)]
"""A field that holds a card's key however it was spelled."""


def session_id(steve_id: str, transaction_pk: int) -> SessionId:
    """A charging session's name everywhere: `<steve_id>:<transaction pk>`."""
    return SessionId(f"{steve_id}:{transaction_pk}")


class Frozen(BaseModel):
    """Base of everything that is sent: immutable, and tolerant of fields that a newer sender adds.

    What does not fit is not repeated in the error, which goes into logs: it may be a PIN or a code.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class Actor(Frozen):
    """Who did it. `id` is an operator's or token's name, a charger's id, a service's name."""

    kind: ActorKind
    id: str


class Cause(Frozen):
    """Why something is done now: by whom, as part of which chain, after which event."""

    actor: Actor
    correlation_id: UUID
    causation_id: UUID | None = None
