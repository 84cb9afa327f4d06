import struct

import aio_pika
from pamqp import decode, encode

from shared.bus.parking import parked_message


def text_header(name: bytes, value: bytes) -> bytes:
    field = bytes([len(name)]) + name + b"S" + struct.pack(">I", len(value)) + value
    return struct.pack(">I", len(field)) + field


def test_a_message_with_a_header_that_is_not_utf_8_can_be_parked() -> None:
    """What a foreign publisher sent as Latin-1 goes out again, byte for byte, wherever in the headers it stands."""
    _, received = decode.field_table(text_header(b"note", b"K\xf6ln"))
    headers = {**received, "list": [received["note"]], "table": received}
    parked = parked_message(aio_pika.Message(b"{}", headers=headers), queue="q", reason="no event")
    _, sent = decode.field_table(encode.field_table(parked.headers))
    assert (sent["note"], sent["list"], sent["table"]) == (b"K\xf6ln", [b"K\xf6ln"], {"note": b"K\xf6ln"})
