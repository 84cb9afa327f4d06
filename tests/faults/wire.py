"""What a byte stream says, message by message: PostgreSQL's frontend protocol and AMQP 0-9-1's frames.

A reader is fed the bytes of one direction of one connection, in any pieces, and gives each message when its last byte
has arrived. It keeps its place over the whole connection, so that bytes inside a parameter or a body are never taken
for a command.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

# PostgreSQL manual, "Message Formats": these requests and the startup message have no type byte.
CANCEL_REQUEST, SSL_REQUEST, GSSENC_REQUEST = 80877102, 80877103, 80877104
REQUESTS_BEFORE_STARTUP = {CANCEL_REQUEST, SSL_REQUEST, GSSENC_REQUEST}
TRANSACTION_BEGINS = (b"BEGIN", b"START TRANSACTION")
TRANSACTION_ENDS = (b"COMMIT", b"END", b"ROLLBACK", b"ABORT")

# AMQP 0-9-1, 4.2.3 (frames) and 1.8 (the class basic): (class id, method id).
BASIC_PUBLISH = (60, 40)
BASIC_DELIVER = (60, 60)
BASIC_ACK = (60, 80)
BASIC_REJECT = (60, 90)
BASIC_NACK = (60, 120)
FRAME_HEAD, FRAME_END = 7, 1
PROTOCOL_HEADER_SIZE = 8
METHOD = 1


@dataclass(frozen=True)
class Message:
    """One message of a stream, with all its bytes in `raw`.

    PostgreSQL: `sql` is the statement's text, in upper case, also where a message only names a statement that was
    prepared before; `before` are the statements of the same transaction that came earlier on this connection.
    AMQP: `method` is (class id, method id) of a method frame.
    """

    raw: bytes
    sql: bytes | None = None
    before: tuple[bytes, ...] = ()
    method: tuple[int, int] | None = None


Matcher = Callable[[Message], bool]


class Reader(Protocol):
    def feed(self, data: bytes) -> Iterator[Message]: ...


class RawReader:
    """For streams nobody understands: every piece is a message."""

    def feed(self, data: bytes) -> Iterator[Message]:
        yield Message(data)


class PostgresReader:
    """What a client says to PostgreSQL without TLS: simple queries, and Parse, Bind and Execute."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._started = False
        self._statements: dict[bytes, bytes] = {}
        self._portals: dict[bytes, bytes] = {}
        # None outside of a transaction block, where every statement is its own transaction.
        self._transaction: list[bytes] | None = None

    def feed(self, data: bytes) -> Iterator[Message]:
        self._buffer += data
        while (raw := self._next()) is not None:
            yield self._message(raw)

    def _next(self) -> bytes | None:
        head = 1 if self._started else 0
        if len(self._buffer) < head + 4:
            return None
        # The length counts itself, but not the type byte.
        size = head + int.from_bytes(self._buffer[head : head + 4], "big")
        if len(self._buffer) < size:
            return None
        raw = bytes(self._buffer[:size])
        del self._buffer[:size]
        return raw

    def _message(self, raw: bytes) -> Message:
        if not self._started:
            self._started = int.from_bytes(raw[4:8], "big") not in REQUESTS_BEFORE_STARTUP
            return Message(raw)
        sql = self._sql(raw[:1], raw[5:])
        before = tuple(self._transaction or ())
        if sql is not None and raw[:1] in b"QE":
            self._follow(sql.lstrip())
        return Message(raw, sql, before)

    def _follow(self, sql: bytes) -> None:
        if sql.startswith(TRANSACTION_BEGINS):
            self._transaction = []
        elif sql.startswith(TRANSACTION_ENDS) and not sql.startswith(b"ROLLBACK TO"):
            self._transaction = None
        elif self._transaction is not None:
            self._transaction.append(sql)

    def _sql(self, kind: bytes, payload: bytes) -> bytes | None:
        if kind == b"Q":
            return payload.rstrip(b"\0").upper()
        if kind not in b"PBE":
            return None
        first, _, rest = payload.partition(b"\0")
        if kind == b"P":
            self._statements[first] = rest.partition(b"\0")[0].upper()
            return self._statements[first]
        if kind == b"B":
            self._portals[first] = self._statements.get(rest.partition(b"\0")[0], b"")
        return self._portals.get(first, b"")


class AmqpReader:
    """Frames of AMQP 0-9-1 in either direction; a client's stream begins with the protocol header."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._started = False

    def feed(self, data: bytes) -> Iterator[Message]:
        self._buffer += data
        while (size := self._size()) is not None and len(self._buffer) >= size:
            raw = bytes(self._buffer[:size])
            del self._buffer[:size]
            method = None
            if self._started and raw[0] == METHOD:
                # Type, channel, size, class, method.
                method = (int.from_bytes(raw[7:9], "big"), int.from_bytes(raw[9:11], "big"))
            self._started = True
            yield Message(raw, method=method)

    def _size(self) -> int | None:
        if len(self._buffer) < FRAME_HEAD:
            return None
        if not self._started:
            if self._buffer.startswith(b"AMQP"):
                return PROTOCOL_HEADER_SIZE
            self._started = True
        return FRAME_HEAD + int.from_bytes(self._buffer[3:7], "big") + FRAME_END


def says(fragment: bytes) -> Matcher:
    """Any message with these bytes in it."""
    return lambda message: fragment in message.raw


def says_sql(*fragments: bytes) -> Matcher:
    """A statement whose text contains all fragments, whether it is sent whole or was prepared before."""
    wanted = [fragment.upper() for fragment in fragments]
    return lambda message: message.sql is not None and all(fragment in message.sql for fragment in wanted)


def commits(*fragments: bytes) -> Matcher:
    """The COMMIT of a transaction in which a statement contained all fragments; without fragments, any COMMIT."""
    wanted = [fragment.upper() for fragment in fragments]

    def matches(message: Message) -> bool:
        if message.sql is None or not message.sql.lstrip().startswith(b"COMMIT"):
            return False
        return not wanted or any(all(fragment in sql for fragment in wanted) for sql in message.before)

    return matches


def all_of(*matchers: Matcher) -> Matcher:
    """A message that all of these match."""
    return lambda message: all(matches(message) for matches in matchers)


def calls(method: tuple[int, int], fragment: bytes = b"") -> Matcher:
    """An AMQP method, say BASIC_PUBLISH, with these bytes (say, a routing key) among its arguments."""
    return lambda message: message.method == method and fragment in message.raw
