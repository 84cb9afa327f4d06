"""Requests: one service asks the owner, who answers once or not at all. No answer in time is *unknown*."""

import json
from typing import Any, ClassVar, Final, Generic, TypeVar
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, Field

from shared.contracts.identity import Actor, Frozen
from shared.contracts.problem import ProblemDetails

MAX_REPLY_BYTES: Final = 256 * 1024
MAX_ROWS: Final = 200

R = TypeVar("R", bound=BaseModel)

_registry: dict[str, type["Request[Any]"]] = {}


class Request(Frozen, Generic[R]):
    """Base of all requests. A subclass names itself, its owner and its reply; a command changes something."""

    name: ClassVar[str]
    owner: ClassVar[str]
    reply: ClassVar[type[BaseModel]]
    command: ClassVar[bool] = False
    secret: ClassVar[frozenset[str]] = frozenset()
    """Fields that leave no trace beside the owner's own tables: not even as a hash, which could be guessed from."""
    shown_once: ClassVar[frozenset[str]] = frozenset()
    """Fields of the reply that are secrets: in the first answer only, and null in what is kept under the key."""

    def open_data(self, data: dict[str, Any]) -> dict[str, Any]:
        """`data`, which is this request as it came, without what must leave no trace."""
        return {name: value for name, value in data.items() if name not in self.secret}

    def kept_value(self, value: dict[str, Any]) -> dict[str, Any]:
        """What of the reply is kept under the key."""
        return value | dict.fromkeys(self.shown_once & value.keys())

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:  # noqa: ANN401 - pydantic's hook
        super().__pydantic_init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            return
        known = _registry.setdefault(cls.name, cls)
        if known is not cls and known.__qualname__ != cls.__qualname__:
            raise TypeError(f"the request {cls.name} is defined twice: {known} and {cls}")


class RequestEnvelope(Frozen):
    """What travels. `deadline` is absolute; a command carries the key under which its result is kept."""

    name: str
    actor: Actor
    correlationid: UUID
    deadline: AwareDatetime
    idempotency_key: str | None = Field(None, min_length=1, max_length=200)
    data: dict[str, Any]


class ReplyEnvelope(Frozen):
    ok: bool
    value: dict[str, Any] | None = None
    problem: ProblemDetails | None = None

    def size(self) -> int:
        """Bytes on the wire."""
        return len(self.model_dump_json().encode())


def canonical(data: dict[str, Any]) -> str:
    """The same text for the same content, to tell a repeated request from another one under its key."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"))


def registered() -> dict[str, type[Request[Any]]]:
    """All request classes by name."""
    return dict(_registry)
