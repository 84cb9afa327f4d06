"""OCPP-J frames (OCPP-J 1.6, chapter 4), read only as far as the gateway needs. Values in, values out.

Whatever cannot be read is None: such a frame is SteVe's to answer, not ours.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta, Raw

from services.preauth.chargers.seen import (
    Booted,
    FirmwareReported,
    Seen,
    SessionStarted,
    SessionStopped,
    StatusReported,
)

CALL: Final = 2
CALL_RESULT: Final = 3
CALL_ERROR: Final = 4
# A frame above this is relayed without being read; no message that interests us comes near.
READABLE_BYTES: Final = 64 * 1024
TEXT_CHARS: Final = 255

_KINDS: Final = {ord("2"): CALL, ord("3"): CALL_RESULT, ord("4"): CALL_ERROR}

Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Connector = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class Call(NamedTuple):
    message_id: str
    action: str
    payload: Raw


class Answer(NamedTuple):
    """A CALLRESULT's payload, or a CALLERROR's code."""

    message_id: str
    payload: Raw | None
    error: str | None


class _Message(msgspec.Struct, rename="camel"):
    pass


class Authorize(NamedTuple):
    id_tag: str


class StartTransaction(NamedTuple):
    """What could not be read of it is None: it is the card's tap all the same."""

    id_tag: str
    connector_id: int | None
    meter_start: int | None
    timestamp: datetime | None


class _Presented(_Message):
    """Either of them as it was sent. SteVe, too, reads a number for a text, and a text for a number."""

    id_tag: str | int
    connector_id: Any = None
    meter_start: Any = None
    timestamp: Any = None


class StopTransaction(NamedTuple):
    """What could not be read of it is None: the session is over all the same."""

    transaction_id: int
    id_tag: str | None
    meter_stop: int | None
    timestamp: datetime | None
    reason: str | None


class _Stopped(_Message):
    transaction_id: Any
    id_tag: Any = None
    meter_stop: Any = None
    timestamp: Any = None
    reason: Any = None


class BootNotification(_Message):
    charge_point_vendor: str | None = None
    charge_point_model: str | None = None
    charge_point_serial_number: str | None = None
    charge_box_serial_number: str | None = None
    firmware_version: str | None = None


class StatusNotification(_Message):
    connector_id: Connector
    status: str
    error_code: str = "NoError"
    vendor_error_code: str | None = None
    info: str | None = None
    timestamp: datetime | None = None


class FirmwareStatusNotification(_Message):
    status: str


class RemoteStartTransaction(_Message):
    id_tag: str
    connector_id: Connector | None = None


class _IdTagInfo(_Message):
    status: str


class _AuthorizeAnswer(_Message):
    id_tag_info: _IdTagInfo


class _StartAnswer(_Message):
    transaction_id: Int64
    id_tag_info: _IdTagInfo


class _StatusAnswer(_Message):
    status: str


_TAPS: Final = frozenset({Authorize.__name__, StartTransaction.__name__})

Known = (
    Authorize
    | StartTransaction
    | StopTransaction
    | BootNotification
    | StatusNotification
    | FirmwareStatusNotification
    | RemoteStartTransaction
)

# RecursionError: brackets nested deeper than the stack.
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_call = msgspec.json.Decoder(tuple[Literal[2], str | int, str, Raw])
_result = msgspec.json.Decoder(tuple[Literal[3], str, Raw])
_error = msgspec.json.Decoder(list[Any])
_messages: Final[dict[str, msgspec.json.Decoder[Any]]] = {
    kind.__name__: msgspec.json.Decoder(kind)
    for kind in (
        BootNotification,
        StatusNotification,
        FirmwareStatusNotification,
        RemoteStartTransaction,
    )
}
_presented = msgspec.json.Decoder(_Presented)
_stopped = msgspec.json.Decoder(_Stopped)
_authorize_answer = msgspec.json.Decoder(_AuthorizeAnswer)
_start_answer = msgspec.json.Decoder(_StartAnswer)
_status_answer = msgspec.json.Decoder(_StatusAnswer)


def kind_of(frame: bytes | bytearray) -> int | None:
    """2, 3 or 4 by the frame's first characters; None for what is no OCPP-J message."""
    if len(frame) > 1 and frame[0] == 0x5B and (kind := _KINDS.get(frame[1])) is not None:
        return kind
    start = bytes(frame[:64]).lstrip()
    if not start.startswith(b"["):
        return None
    rest = start[1:].lstrip()
    return _KINDS.get(rest[0]) if rest else None


def read_call(frame: bytes | bytearray) -> Call | None:
    if len(frame) > READABLE_BYTES:
        return None
    try:
        _, message_id, action, payload = _call.decode(frame)
    except _UNREADABLE:
        return None
    # SteVe answers under the number's digits, as a text.
    return Call(str(message_id), action, payload)


def read_answer(frame: bytes | bytearray) -> Answer | None:
    if len(frame) > READABLE_BYTES:
        return None
    try:
        if kind_of(frame) == CALL_ERROR:
            match _error.decode(frame):
                case [4, str() as message_id, str() as code, *_]:
                    return Answer(message_id, None, code)
            return None
        _, message_id, payload = _result.decode(frame)
    except _UNREADABLE:
        return None
    return Answer(message_id, payload, None)


def read_known(frame: bytes | bytearray) -> tuple[Call, Known | None] | None:
    """A call, and its payload where that is a message that the gateway knows."""
    call = read_call(frame)
    return None if call is None else (call, read_message(call))


def read_message(call: Call) -> Known | None:
    """The call's payload, where it is a message that the gateway knows and that fits its schema."""
    try:
        if call.action in _TAPS:
            return _tap(call.action, _presented.decode(call.payload))
        if call.action == StopTransaction.__name__:
            return _stop(_stopped.decode(call.payload))
        decoder = _messages.get(call.action)
        message: Known | None = None if decoder is None else decoder.decode(call.payload)
    except _UNREADABLE:
        return None
    return message


def _stop(sent: _Stopped) -> StopTransaction | None:
    transaction_id = _whole(sent.transaction_id, 63)
    if transaction_id is None:
        return None
    return StopTransaction(
        transaction_id,
        str(sent.id_tag) or None if isinstance(sent.id_tag, str | int) else None,
        _whole(sent.meter_stop, 63),
        _moment(sent.timestamp),
        sent.reason if isinstance(sent.reason, str) else None,
    )


def _tap(action: str, sent: _Presented) -> Authorize | StartTransaction | None:
    """A tap is one by its card alone; of a start, whatever else can be read."""
    id_tag = str(sent.id_tag)
    if not id_tag.strip() or len(id_tag) > TEXT_CHARS or "\x00" in id_tag:
        # No card has it, or no journal can hold it.
        return None
    if action == Authorize.__name__:
        return Authorize(id_tag)
    connector_id = _whole(sent.connector_id, 31)
    return StartTransaction(
        id_tag,
        connector_id if connector_id is None or connector_id >= 0 else None,
        _whole(sent.meter_start, 63),
        _moment(sent.timestamp),
    )


def _whole(sent: object, bits: int) -> int | None:
    """A whole number, however it was written, if a column of that size can hold it."""
    try:
        number = int(sent) if isinstance(sent, int | str) or (isinstance(sent, float) and sent.is_integer()) else None
    except ValueError:
        return None
    return number if number is not None and -(2**bits) <= number < 2**bits else None


def _moment(sent: object) -> datetime | None:
    try:
        return datetime.fromisoformat(sent) if isinstance(sent, str) else None
    except ValueError:
        return None


def blocked(message_id: str, until: datetime) -> bytes:
    """The answer to an intercepted Authorize. Chargers cache it until `until`."""
    expiry = until.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return msgspec.json.encode([CALL_RESULT, message_id, {"idTagInfo": {"status": "Blocked", "expiryDate": expiry}}])


def accepted(answer: Answer) -> bool:
    """Whether an answer of the `{"status": "Accepted"}` kind says so."""
    if answer.payload is None:
        return False
    try:
        return _status_answer.decode(answer.payload).status == "Accepted"
    except _UNREADABLE:
        return False


def verdict(message: Known, answer: Answer) -> str | None:
    """The idTagInfo status in SteVe's answer to a tap, `error:<code>` for a CALLERROR, None where there is none."""
    if answer.payload is None:
        return f"error:{clean(answer.error)}"
    try:
        if isinstance(message, Authorize):
            return clean(_authorize_answer.decode(answer.payload).id_tag_info.status)
        if isinstance(message, StartTransaction):
            return clean(_start_answer.decode(answer.payload).id_tag_info.status)
    except _UNREADABLE:
        pass
    return None


def seen_when_called(charge_box_id: str, message: Known, at: datetime) -> Seen | None:
    """What a call tells by itself, whatever SteVe answers."""
    if isinstance(message, StatusNotification):
        return StatusReported(
            charge_box_id=charge_box_id,
            at=at,
            connector_id=message.connector_id,
            status=clean(message.status) or "",
            error_code=clean(message.error_code) or "NoError",
            vendor_error_code=clean(message.vendor_error_code),
            info=clean(message.info),
            reported_at=utc(message.timestamp),
        )
    if isinstance(message, FirmwareStatusNotification):
        return FirmwareReported(charge_box_id=charge_box_id, at=at, status=clean(message.status) or "")
    return None


def seen_when_answered(charge_box_id: str, message: Known, answer: Answer, at: datetime) -> Seen | None:
    """What a call and SteVe's answer tell together. A CALLERROR tells that nothing happened."""
    if answer.payload is None:
        return None
    try:
        return _seen(charge_box_id, message, answer.payload, at)
    except _UNREADABLE:
        return None


def _seen(charge_box_id: str, message: Known, payload: Raw, at: datetime) -> Seen | None:
    match message:
        case StartTransaction():
            started = _start_answer.decode(payload)
            return SessionStarted(
                charge_box_id=charge_box_id,
                at=at,
                transaction_id=started.transaction_id,
                # SteVe took the start, and counts from 0 where it says nothing.
                connector_id=message.connector_id or 0,
                id_tag=clean(message.id_tag) or "",
                verdict=clean(started.id_tag_info.status) or "",
                meter_start_wh=message.meter_start or 0,
                started_at=utc(message.timestamp) or at,
            )
        case StopTransaction():
            return SessionStopped(
                charge_box_id=charge_box_id,
                at=at,
                transaction_id=message.transaction_id,
                id_tag=clean(message.id_tag),
                meter_stop_wh=message.meter_stop,
                reason=clean(message.reason),
                stopped_at=utc(message.timestamp) or at,
            )
        case BootNotification():
            return Booted(
                charge_box_id=charge_box_id,
                at=at,
                registration=clean(_status_answer.decode(payload).status) or "",
                vendor=clean(message.charge_point_vendor),
                model=clean(message.charge_point_model),
                serial_number=clean(message.charge_point_serial_number or message.charge_box_serial_number),
                firmware_version=clean(message.firmware_version),
            )
        case _:
            return None


def clean(text: str | None) -> str | None:
    """Text that a database takes: no NUL, and no longer than a field of OCPP could reasonably be."""
    if text is None:
        return None
    return text[:TEXT_CHARS].replace("\x00", "\N{REPLACEMENT CHARACTER}")


def utc(moment: datetime | None) -> datetime | None:
    """Chargers that leave out the offset mean UTC (OCPP 1.6, 3.13); None for a moment outside of the calendar."""
    if moment is None:
        return None
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return None
