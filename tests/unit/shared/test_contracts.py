import importlib
import json
from datetime import UTC, datetime
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.contracts import event, schemas
from shared.contracts.event import MalformedMessageError, open_envelope, open_event, seal
from shared.contracts.events.sync import CardDiscovered
from shared.contracts.identity import Actor, Cause, id_tag_key, session_id
from shared.contracts.requests.audit import GetEntry
from shared.contracts.requests.preauth import SetCardPin

for module in ("preauth", "sync", "admin_api"):
    importlib.import_module(f"shared.contracts.events.{module}")

ID = UUID("01890000-0000-7000-8000-000000000001")
CAUSE = Cause(actor=Actor(kind="charger", id="CP-7"), correlation_id=ID)
AT = datetime(2026, 5, 1, 9, 30, tzinfo=UTC)
OWNERS = {"preauth", "sync", "admin_api", "audit"}


def sealed() -> bytes:
    body = CardDiscovered(id_tag="04a1", ocpp_tag_pk=1, parent_id_tag=None, blocked=False, expiry=None)
    return seal(body, event_id=ID, subject_version=17, at=AT, cause=CAUSE)


def test_an_event_travels_as_the_cloud_event_of_the_contract() -> None:
    """The message has CloudEvents' attributes and ours, as the contracts page shows them."""
    assert json.loads(sealed()) == {
        "specversion": "1.0",
        "id": str(ID),
        "type": "card.discovered",
        "source": "expressync/sync",
        "subject": "card/04A1",
        "subjectversion": 17,
        "time": "2026-05-01T09:30:00Z",
        "datacontenttype": "application/json",
        "dataschema": "urn:expressync:card.discovered:1",
        "actorkind": "charger",
        "actorid": "CP-7",
        "correlationid": str(ID),
        "data": {"id_tag": "04A1", "ocpp_tag_pk": 1, "parent_id_tag": None, "blocked": False, "expiry": None},
    }


def test_the_event_that_caused_it_travels_along() -> None:
    """Who reads a chain of events finds the one before; an event without one does not name it."""
    body = CardDiscovered(id_tag="04a1", ocpp_tag_pk=1, parent_id_tag=None, blocked=False, expiry=None)
    caused = seal(
        body, event_id=ID, subject_version=1, at=AT, cause=Cause(**{**dict(CAUSE), "causation_id": UUID(int=7)})
    )
    assert open_envelope(caused).causationid == UUID(int=7)
    assert "causationid" not in json.loads(sealed())


@pytest.mark.parametrize(
    ("id_tag", "actor", "at"),
    [
        ("04\x0001", "CP-7", AT),
        ("x" * 601, "CP-7", AT),
        ("04A1", "CP\x007", AT),
        ("04A1", "CP-7", AT.replace(year=1999)),
        ("04A1", "CP-7", AT.replace(tzinfo=None)),
    ],
)
def test_what_nobody_could_read_is_not_sealed(id_tag: str, actor: str, at: datetime) -> None:
    """It fails where it was made, and not in each reader's queue."""
    body = CardDiscovered(id_tag=id_tag, ocpp_tag_pk=1, parent_id_tag=None, blocked=False, expiry=None)
    cause = Cause(actor=Actor(kind="charger", id=actor), correlation_id=ID)
    with pytest.raises(ValidationError):
        seal(body, event_id=ID, subject_version=1, at=at, cause=cause)


@pytest.mark.parametrize("at", [AT, AT.replace(microsecond=123456), AT.astimezone(ZoneInfo("Asia/Kolkata"))])
def test_a_message_is_what_its_envelope_would_write(at: datetime) -> None:
    """Sealing takes a short way, and says the same: character for character but for the zone, which is always UTC."""
    body = CardDiscovered(id_tag='04 ä"\\', ocpp_tag_pk=1, parent_id_tag=None, blocked=False, expiry=AT)
    short = seal(body, event_id=ID, subject_version=1, at=at, cause=CAUSE)
    assert short == open_envelope(short).model_dump_json(exclude_none=True).encode()


def test_what_is_sealed_opens_again() -> None:
    """Reading a message gives the typed event that was written."""
    envelope = open_envelope(sealed())
    opened = open_event(envelope)
    assert isinstance(opened, CardDiscovered)
    assert opened.id_tag == "04A1"


def test_an_unknown_attribute_of_a_newer_sender_is_kept() -> None:
    """A newer sender may say more; an older reader still reads, and an envelope keeps what it does not know."""
    raw = json.loads(sealed()) | {"newattribute": "x"}
    envelope = open_envelope(json.dumps(raw).encode())
    assert open_event(envelope) is not None
    assert envelope.model_extra == {"newattribute": "x"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("specversion", "0.3"),
        ("id", "7"),
        ("time", "2026-05-01T09:30:00"),
        ("time", "0001-01-01T00:00:00+14:00"),
        ("time", "1999-12-31T23:59:59Z"),
        ("time", "9999-01-01T00:00:00Z"),
        ("time", "9999-12-31T23:59:59-14:00"),
        ("subjectversion", 0),
        ("actorkind", "wizard"),
        ("subjectversion", 2**63),
        ("subject", "card/04\x0001"),
        ("subject", "x" * 601),
        ("actorid", "\x00"),
        ("data", "text"),
        ("data", None),
    ],
)
def test_a_broken_envelope_is_refused_with_the_field(field: str, value: object) -> None:
    """A message that is no event of ours says which attribute is wrong."""
    raw = json.loads(sealed()) | {field: value}
    with pytest.raises(MalformedMessageError, match=field):
        open_envelope(json.dumps(raw).encode())


@given(st.binary(max_size=300))
def test_no_bytes_crash_the_reader(body: bytes) -> None:
    """Whatever arrives, it is an event or it is malformed; nothing else happens."""
    try:
        open_event(open_envelope(body))
    except MalformedMessageError as error:
        assert error.reason  # noqa: PT017 - either outcome is fine; this one has a reason


@given(st.text())
def test_a_card_key_is_stable(text: str) -> None:
    """Making a key of a key changes nothing, and case and surrounding blanks never matter."""
    key = id_tag_key(text)
    assert id_tag_key(key) == key
    assert id_tag_key(f"  {text} ") == key


def test_a_session_is_named_by_its_steve_and_its_transaction() -> None:
    """The same transaction of another SteVe is another session."""
    assert session_id("home", 7) == "home:7"


def test_every_event_has_an_owner_a_subject_and_a_schema() -> None:
    """The registry, the JSON Schemas and AsyncAPI speak of the same closed set."""
    registered = event.registered()
    for (name, version), cls in registered.items():
        assert (cls.type, cls.version) == (name, version)
        assert cls.owner in OWNERS
        assert cls.subject is not event.Event.subject
    document = schemas.asyncapi("1.0")
    assert set(document["channels"]) == {name for name, _ in registered}
    assert set(schemas.event_schemas()) == {f"{name}.{version}" for name, version in registered}
    text = json.dumps(document)
    for reference in {part.split('"')[0] for part in text.split('"$ref": "#/')[1:]}:
        node: object = document
        for step in reference.split("/"):
            assert isinstance(node, dict)
            assert step in node, reference
            node = node[step]


def test_two_events_cannot_share_a_type_and_version() -> None:
    """A second class under the same name would make a message mean two things."""
    with pytest.raises(TypeError, match="defined twice"):
        type("Other", (CardDiscovered,), {"type": "card.discovered", "__module__": __name__})


def test_what_does_not_fit_a_request_is_not_repeated() -> None:
    """The error goes into logs; what was given may be a PIN with a slip of the finger."""
    with pytest.raises(ValidationError, match="pin") as caught:
        SetCardPin(id_tag="A", pin="12345678x")
    assert "12345678" not in str(caught.value)


def test_two_requests_cannot_share_a_name() -> None:
    """A second class under a request's name would have its owner read the wrong fields."""
    with pytest.raises(TypeError, match="defined twice"):
        type("Other", (GetEntry,), {"name": "get_entry", "__module__": __name__})
