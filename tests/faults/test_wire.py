import struct

import pytest

from tests.faults.wire import (
    BASIC_ACK,
    BASIC_PUBLISH,
    AmqpReader,
    Message,
    PostgresReader,
    Reader,
    calls,
    commits,
    says,
    says_sql,
)

STARTUP = struct.pack("!II", 8 + 9, 196608) + b"user\0me\0\0"
SSL_REQUEST = struct.pack("!II", 8, 80877103)


def frontend(kind: bytes, payload: bytes) -> bytes:
    return kind + struct.pack("!I", 4 + len(payload)) + payload


def query(sql: bytes) -> bytes:
    return frontend(b"Q", sql + b"\0")


def parse(name: bytes, sql: bytes) -> bytes:
    return frontend(b"P", name + b"\0" + sql + b"\0" + struct.pack("!H", 0))


def bind(portal: bytes, name: bytes, value: bytes = b"") -> bytes:
    body = struct.pack("!HHI", 0, 1, len(value)) + value + struct.pack("!H", 0)
    return frontend(b"B", portal + b"\0" + name + b"\0" + body)


def execute(portal: bytes) -> bytes:
    return frontend(b"E", portal + b"\0" + struct.pack("!I", 0))


def frame(kind: int, payload: bytes) -> bytes:
    return struct.pack("!BHI", kind, 1, len(payload)) + payload + b"\xce"


def publish(routing_key: bytes, exchange: bytes = b"expressync.events") -> bytes:
    names = bytes([len(exchange)]) + exchange + bytes([len(routing_key)]) + routing_key
    return frame(1, struct.pack("!HHH", 60, 40, 0) + names + b"\0")


def ack(tag: int) -> bytes:
    return frame(1, struct.pack("!HHQB", 60, 80, tag, 0))


def read(reader: Reader, data: bytes, piece: int) -> list[Message]:
    return [message for at in range(0, len(data), piece) for message in reader.feed(data[at : at + piece])]


@pytest.mark.parametrize("piece", [1, 7, 100_000])
def test_no_byte_is_lost_however_the_stream_is_cut(piece: int) -> None:
    """A reader gives the same messages, and all bytes, whether they come one by one or all at once."""
    said = [SSL_REQUEST, STARTUP, query(b"begin"), parse(b"", b"select $1"), bind(b"", b"", b"x" * 300), execute(b"")]
    assert [message.raw for message in read(PostgresReader(), b"".join(said), piece)] == said
    frames = [b"AMQP\x00\x00\x09\x01", publish(b"a.b"), frame(2, b"h" * 40), frame(3, b"b" * 500), ack(1)]
    assert [message.raw for message in read(AmqpReader(), b"".join(frames), piece)] == frames


def test_a_prepared_statement_is_known_by_its_name() -> None:
    """A Bind and an Execute of a statement that was prepared long before are recognised by its text."""
    reader = PostgresReader()
    read(reader, STARTUP + parse(b"s1", b"delete from preauth.outbox where id = $1") + parse(b"s2", b"select 1"), 4096)
    said = read(reader, bind(b"", b"s1") + execute(b"") + bind(b"", b"s2") + execute(b""), 4096)
    matches = says_sql(b"delete from", b"outbox")
    assert [matches(message) for message in said] == [True, True, False, False]


def test_words_in_a_parameter_are_no_statement() -> None:
    """COMMIT and DELETE as values of a parameter match nothing."""
    reader = PostgresReader()
    said = read(
        reader, STARTUP + parse(b"", b"insert into t values ($1)") + bind(b"", b"", b"COMMIT; DELETE FROM x"), 99
    )
    assert not any(commits()(message) or says_sql(b"delete from")(message) for message in said)
    assert any(says(b"DELETE FROM x")(message) for message in said)


def test_a_commit_is_known_by_what_it_commits() -> None:
    """commits("outbox") matches the COMMIT of the transaction that wrote there, and no other."""
    reader = PostgresReader()
    statements = [
        *(b"BEGIN", b"select 1", b"COMMIT"),
        *(b"BEGIN", b"insert into sync.outbox values (1)", b"ROLLBACK TO SAVEPOINT a", b"COMMIT"),
        *(b"insert into sync.outbox values (2)", b"BEGIN", b"COMMIT"),
        *(b"BEGIN", b"insert into sync.outbox values (3)", b"ROLLBACK", b"BEGIN", b"COMMIT"),
    ]
    said = read(reader, STARTUP + b"".join(map(query, statements)), 4096)[1:]
    assert [at for at, message in enumerate(said) if commits(b"insert", b"outbox")(message)] == [6]
    assert [at for at, message in enumerate(said) if commits()(message)] == [2, 6, 9, 14]


def test_amqp_methods_are_told_from_bodies() -> None:
    """A publish is matched by its routing key, an ack by its method, and a body that looks like one by nothing."""
    inner = ack(1)
    said = read(AmqpReader(), b"AMQP\x00\x00\x09\x01" + publish(b"tap.decided") + frame(3, inner) + ack(2), 11)
    assert [calls(BASIC_PUBLISH, b"tap.decided")(message) for message in said] == [False, True, False, False]
    assert [calls(BASIC_PUBLISH, b"card.blocked")(message) for message in said] == [False] * 4
    assert [calls(BASIC_ACK)(message) for message in said] == [False, False, False, True]
