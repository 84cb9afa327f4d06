"""Events: what happened, told to whoever listens. CloudEvents 1.0 in JSON, one class and one version a type."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Final
from uuid import UUID

import msgspec
from pydantic import AwareDatetime, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from shared.contracts.identity import Actor, ActorKind, Cause, Frozen

CONTENT_TYPE: Final = "application/cloudevents+json"
SCHEMA_PREFIX: Final = "urn:expressync:"
_SCHEMA = re.compile(r"^urn:expressync:(?P<type>[a-z_]+\.[a-z_]+):(?P<version>[1-9][0-9]*)$")

# What a text column can hold: PostgreSQL's has no NUL, and an index entry has about 2,700 bytes.
Text = Annotated[str, StringConstraints(max_length=600, pattern=r"^[^\x00]*$")]

# In any zone still a time that PostgreSQL gives back: it knows years before 1 and after 9999, and Python does not.
EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(9999, 1, 1, tzinfo=UTC)
Time = Annotated[AwareDatetime, Field(ge=EARLIEST, lt=LATEST)]

_TEXT: Final = TypeAdapter(Text)
_TIME: Final = TypeAdapter(Time)
_encoder: Final = msgspec.json.Encoder()

_registry: dict[tuple[str, int], type["Event"]] = {}


class Event(Frozen):
    """Base of all events. A subclass names its `type`, `version` and `owner` and can tell its subject."""

    type: ClassVar[str]
    version: ClassVar[int]
    owner: ClassVar[str]
    personal: ClassVar[frozenset[str]] = frozenset()
    """Fields whose values never travel: their names do, with a change_id; the owner keeps the values."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:  # noqa: ANN401 - pydantic's hook
        super().__pydantic_init_subclass__(**kwargs)
        if "type" not in cls.__dict__:
            return
        known = _registry.setdefault((cls.type, cls.version), cls)
        if known is not cls and known.__qualname__ != cls.__qualname__:
            raise TypeError(f"{cls.type} version {cls.version} is defined twice: {known} and {cls}")

    def subject(self) -> str:
        """What the event is about, as `kind/name`; versions are counted per subject."""
        raise NotImplementedError


class Envelope(Frozen):
    """CloudEvents 1.0 with our extension attributes (contracts: Events)."""

    model_config = ConfigDict(frozen=True, extra="allow")

    specversion: str = Field(pattern=r"^1\.0$")
    id: UUID
    type: Text = Field(min_length=3, max_length=100)
    source: Text = Field(min_length=1)
    subject: Text
    subjectversion: int = Field(ge=1, le=2**63 - 1)
    time: Time
    datacontenttype: str = "application/json"
    dataschema: Text
    actorkind: ActorKind
    actorid: Text
    correlationid: UUID = Field(description="the same for all that one command brought about, or one session by itself")
    causationid: UUID | None = Field(None, description="the event because of which this one was told")
    data: dict[str, Any]

    def version(self) -> int | None:
        """The payload's schema version, or None where `dataschema` is not one of ours."""
        match = _SCHEMA.match(self.dataschema)
        return int(match["version"]) if match and match["type"] == self.type else None

    def actor(self) -> Actor:
        return Actor(kind=self.actorkind, id=self.actorid)


class MalformedMessageError(Exception):
    """A message that no retry will make readable. `reason` is a sentence for the operator who finds it parked."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def seal(event: Event, *, event_id: UUID, subject_version: int, at: datetime, cause: Cause) -> bytes:
    """The message body, frozen: made once, in the transaction that makes the fact true.

    It is what `Envelope` reads, written without making one: a backlog of sessions tells hundreds of thousands. The
    event has been validated; so is here what comes from outside besides it.

    :raises ValidationError: its subject or actor is a text that nobody could read.
    """
    told: dict[str, Any] = {
        "specversion": "1.0",
        "id": event_id,
        "type": event.type,
        "source": f"expressync/{event.owner}",
        "subject": _TEXT.validate_python(event.subject()),
        "subjectversion": subject_version,
        "time": _TIME.validate_python(at).astimezone(UTC),
        "datacontenttype": "application/json",
        "dataschema": f"{SCHEMA_PREFIX}{event.type}:{event.version}",
        "actorkind": cause.actor.kind,
        "actorid": _TEXT.validate_python(cause.actor.id),
        "correlationid": cause.correlation_id,
    }
    if cause.causation_id is not None:
        told["causationid"] = cause.causation_id
    told["data"] = msgspec.Raw(event.model_dump_json().encode())
    return _encoder.encode(told)


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where or 'body'}: {first['msg']}"


def open_envelope(body: bytes) -> Envelope:
    """Read a message body.

    :raises MalformedMessageError: when it is not a CloudEvent of ours.
    """
    try:
        return Envelope.model_validate_json(body)
    except ValidationError as error:
        raise MalformedMessageError(f"not a CloudEvent of this house: {_sentence(error)}") from error


def open_event(envelope: Envelope) -> Event | None:
    """The typed event inside, or None for a type or schema version that this program does not know.

    :raises MalformedMessageError: when type and version are known and the data do not fit them.
    """
    version = envelope.version()
    cls = _registry.get((envelope.type, version)) if version else None
    if cls is None:
        return None
    try:
        return cls.model_validate(envelope.data)
    except ValidationError as error:
        raise MalformedMessageError(f"{envelope.dataschema}: {_sentence(error)}") from error


def registered() -> dict[tuple[str, int], type[Event]]:
    """All event classes by (type, version)."""
    return dict(_registry)
