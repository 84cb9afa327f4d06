"""Reading OCPP-J frames: what is understood, and that nothing can be made to fail."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.preauth.chargers.seen import Booted, FirmwareReported, SessionStarted, SessionStopped, StatusReported
from services.preauth.gateway import rules
from services.preauth.gateway.rules import Authorize, StartTransaction

AT = datetime(2026, 5, 1, 10, tzinfo=UTC)


def frame(*parts: object) -> bytes:
    return json.dumps(parts).encode()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
actions = st.sampled_from([*rules._messages, "Heartbeat", "MeterValues", "Nonsense"]) | st.text(max_size=10)
times = st.sampled_from(["2026-05-01T10:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "now"])
# Payloads that nearly fit, so that reading gets far.
fields = st.fixed_dictionaries(
    {},
    optional={
        "idTag": st.text(max_size=300) | json_values,
        "connectorId": st.integers() | json_values,
        "status": st.text(max_size=300),
        "errorCode": st.text(max_size=300),
        "info": st.text(max_size=300) | st.none(),
        "timestamp": times | json_values,
        "meterStart": st.integers(),
        "meterStop": st.integers(),
        "transactionId": st.integers(),
        "reason": st.text(max_size=300),
        "chargePointVendor": st.text(max_size=300),
        "idTagInfo": st.fixed_dictionaries({"status": st.text(max_size=300)}) | json_values,
    },
)


@given(st.binary(max_size=400))
def test_no_bytes_make_reading_fail(data: bytes) -> None:
    """Any bytes are either understood or None; nothing is raised."""
    rules.kind_of(data)
    rules.read_known(data)
    rules.read_answer(data)


@given(st.lists(json_values | st.sampled_from([2, 3, 4]), max_size=6))
def test_no_json_makes_reading_fail(parts: list[Any]) -> None:
    """Any JSON array is either a call, an answer or None."""
    data = frame(*parts)
    read = rules.read_known(data)
    if read is not None:
        assert parts[0] == 2
        assert [read[0].message_id, read[0].action] == parts[1:3]
    answer = rules.read_answer(data)
    if answer is not None:
        assert answer.message_id == parts[1]


@given(actions, fields | json_values, fields | json_values)
def test_no_payload_makes_observing_fail(action: str, asked: object, told: object) -> None:
    """Whatever a charger asks and SteVe answers, what is seen of it can be kept: no NUL, bounded, times in UTC."""
    read, answer = rules.read_known(frame(2, "1", action, asked)), rules.read_answer(frame(3, "1", told))
    if read is None or answer is None or read[1] is None:
        return
    message = read[1]
    for seen in (rules.seen_when_called("CP", message, AT), rules.seen_when_answered("CP", message, answer, AT)):
        for name in type(seen).__slots__ if seen is not None else ():
            value = getattr(seen, name)
            if isinstance(value, str):
                assert "\x00" not in value
                assert len(value) <= rules.TEXT_CHARS
            if isinstance(value, datetime):
                assert value.tzinfo is UTC
    rules.verdict(message, answer)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b'[2,"1"', 2),
        (b"[3", 3),
        (b" \n[ 4 ", 4),
        (b"[5]", None),
        (b"", None),
        (b"[", None),
        (b"{}", None),
        (b"2", None),
        (bytearray(b"[2,"), 2),
        (b" " * 100 + b"[2", None),
    ],
)
def test_kind_is_told_by_the_first_characters(data: bytes, kind: int | None) -> None:
    """The message type is recognised without reading the message."""
    assert rules.kind_of(data) == kind


@pytest.mark.parametrize(
    "data",
    [
        b'[2,"1","Authorize",{"idTag":"A"}]',
        b'[ 2 , "1" , "\\u0041uthorize" , { "extra" : [1], "idTag" : "A" } ]',
        b'\n[2,"1","Authorize",{"idTag":"\\u0041"}]\n',
    ],
)
def test_authorize_is_recognised_however_it_is_written(data: bytes) -> None:
    """White space, escapes and additional fields do not hide an Authorize."""
    read = rules.read_known(data)
    assert read is not None
    assert read[1] == Authorize(id_tag="A")


@pytest.mark.parametrize(
    "data",
    [
        b'[2,"1","Authorize",{"idTag":"A"},1]',
        b'[3,"1","Authorize",{"idTag":"A"}]',
        b'[2.0,"1","Authorize",{"idTag":"A"}]',
        b'[2,"1","AUTHORIZE",{"idTag":"A"}]',
        b'[2,"1","Authorize",{"idtag":"A"}]',
        b'[2,"1","Authorize",{"idTag":""}]',
        b'[2,"1","Authorize",{"idTag":"A\\u0000"}]',
        b'[2,"1","Authorize",{"idTag":["A"]}]',
        b'[2,"1","Authorize",{"idTag":"A"}' + b" " * rules.READABLE_BYTES + b"]",
    ],
)
def test_what_only_resembles_an_authorize_is_none(data: bytes) -> None:
    """A frame that SteVe would judge differently is not taken for a tap."""
    read = rules.read_known(data)
    assert read is None or read[1] is None


def test_start_is_read_with_its_connector() -> None:
    """A StartTransaction tells card, connector, meter and time."""
    payload = {"connectorId": 2, "idTag": "A", "meterStart": 5, "timestamp": "2026-05-01T12:00:00+02:00"}
    read = rules.read_known(frame(2, "1", "StartTransaction", payload))
    assert read is not None
    message = read[1]
    assert isinstance(message, StartTransaction)
    assert (message.connector_id, message.id_tag, message.meter_start) == (2, "A", 5)
    assert rules.utc(message.timestamp) == AT


def test_blocked_answer_has_the_charger_s_own_message_id() -> None:
    """The answer repeats the message id exactly, whatever characters it has, and expires at the given time."""
    answer = json.loads(rules.blocked('a"\\ü\n', AT))
    assert answer == [
        3,
        'a"\\ü\n',
        {"idTagInfo": {"status": "Blocked", "expiryDate": "2026-05-01T10:00:00.000Z"}},
    ]


@pytest.mark.parametrize(
    ("action", "asked", "told", "seen"),
    [
        (
            "BootNotification",
            {"chargePointVendor": "V", "chargePointModel": "M", "chargeBoxSerialNumber": "S", "firmwareVersion": "1"},
            {"status": "Pending", "interval": 5, "currentTime": "x"},
            Booted(
                charge_box_id="CP",
                at=AT,
                registration="Pending",
                vendor="V",
                model="M",
                serial_number="S",
                firmware_version="1",
            ),
        ),
        (
            "StartTransaction",
            {"connectorId": 1, "idTag": "A", "meterStart": 7, "timestamp": "2026-05-01T10:00:00"},
            {"transactionId": 9, "idTagInfo": {"status": "ConcurrentTx"}},
            SessionStarted(
                charge_box_id="CP",
                at=AT,
                transaction_id=9,
                connector_id=1,
                id_tag="A",
                verdict="ConcurrentTx",
                meter_start_wh=7,
                started_at=AT,
            ),
        ),
        (
            "StopTransaction",
            {"transactionId": 9, "meterStop": 8, "timestamp": "2026-05-01T10:00:00Z", "reason": "Local"},
            {},
            SessionStopped(
                charge_box_id="CP", at=AT, transaction_id=9, id_tag=None, meter_stop_wh=8, reason="Local", stopped_at=AT
            ),
        ),
        (
            "StopTransaction",
            {"transactionId": "9", "meterStop": 8.5, "timestamp": "yesterday", "idTag": 7, "reason": ["odd"]},
            {},
            SessionStopped(
                charge_box_id="CP", at=AT, transaction_id=9, id_tag="7", meter_stop_wh=None, reason=None, stopped_at=AT
            ),
        ),
        ("Authorize", {"idTag": "A"}, {"idTagInfo": {"status": "Accepted"}}, None),
        ("BootNotification", {}, {"oops": 1}, None),
    ],
)
def test_what_an_answered_call_tells(action: str, asked: object, told: object, seen: object) -> None:
    """A call and SteVe's answer together tell what happened."""
    read, answer = rules.read_known(frame(2, "1", action, asked)), rules.read_answer(frame(3, "1", told))
    assert read is not None
    assert read[1] is not None
    assert answer is not None
    assert rules.seen_when_answered("CP", read[1], answer, AT) == seen


@pytest.mark.parametrize(
    ("action", "asked", "seen"),
    [
        (
            "StatusNotification",
            {"connectorId": 0, "status": "Faulted", "errorCode": "OtherError", "vendorErrorCode": "E7", "info": "hot"},
            StatusReported(
                charge_box_id="CP",
                at=AT,
                connector_id=0,
                status="Faulted",
                error_code="OtherError",
                vendor_error_code="E7",
                info="hot",
                reported_at=None,
            ),
        ),
        (
            "FirmwareStatusNotification",
            {"status": "Installing"},
            FirmwareReported(charge_box_id="CP", at=AT, status="Installing"),
        ),
        ("BootNotification", {"chargePointVendor": "V"}, None),
    ],
)
def test_what_a_call_tells_by_itself(action: str, asked: object, seen: object) -> None:
    """Status and firmware are told by the charger, whatever SteVe answers."""
    read = rules.read_known(frame(2, "1", action, asked))
    assert read is not None
    assert read[1] is not None
    assert rules.seen_when_called("CP", read[1], AT) == seen


def test_error_tells_that_nothing_happened() -> None:
    """A CALLERROR to a StartTransaction is no session, and is the tap's answer by its code."""
    payload = {"connectorId": 1, "idTag": "A", "meterStart": 7, "timestamp": "2026-05-01T10:00:00Z"}
    read, answer = (
        rules.read_known(frame(2, "1", "StartTransaction", payload)),
        rules.read_answer(frame(4, "1", "InternalError", "", {})),
    )
    assert read is not None
    assert read[1] is not None
    assert answer is not None
    assert rules.seen_when_answered("CP", read[1], answer, AT) is None
    assert rules.verdict(read[1], answer) == "error:InternalError"


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (None, None),
        (datetime(2026, 5, 1, 10), AT),  # noqa: DTZ001 - without an offset is the case
        (datetime.fromisoformat("2026-05-01T12:00:00+02:00"), AT),
        (datetime.fromisoformat("0001-01-01T00:00:00+14:00"), None),
        (datetime.fromisoformat("9999-12-31T23:59:59-14:00"), None),
    ],
)
def test_times_are_utc(moment: datetime | None, expected: datetime | None) -> None:
    """A charger's time becomes UTC; without an offset it is UTC already; outside of the calendar it is none."""
    assert rules.utc(moment) == expected


@pytest.mark.parametrize("action", ["Authorize", "StartTransaction"])
@pytest.mark.parametrize("id_tag", ["", " ", "\t \n", "\u2003", "A\x00", "A" * 256])
def test_what_no_card_can_be_is_no_tap(action: str, id_tag: str) -> None:
    """A blank idTag, or one that no journal can hold, is SteVe's to answer: it must not use a scan up."""
    read = rules.read_known(frame(2, "1", action, {"idTag": id_tag, "connectorId": 1}))
    assert read is not None
    assert read[1] is None
