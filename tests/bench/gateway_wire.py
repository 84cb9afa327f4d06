"""WebSocket frames by hand, for peers that must cost next to nothing beside the relay that is measured."""

import base64
import os
import struct
from typing import Final

TEXT: Final = 0x81
KEY: Final = base64.b64encode(b"expressync-bench").decode()
SUBPROTOCOL: Final = "ocpp1.6"


def client_frame(text: bytes) -> bytes:
    """A masked text frame of at most 64 kB."""
    mask = os.urandom(4)
    return _header(len(text), masked=True) + mask + unmask(text, mask)


def server_frame(text: bytes) -> bytes:
    return _header(len(text), masked=False) + text


def unmask(data: bytes, mask: bytes) -> bytes:
    size = len(data)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


def measure(buffer: bytes | bytearray, at: int) -> tuple[int, int, int] | None:
    """(opcode, where the payload or its mask begins, where the frame ends), or None while it is incomplete."""
    if len(buffer) < at + 2:
        return None
    length, start = buffer[at + 1] & 0x7F, at + 2
    if length == 126:
        if len(buffer) < at + 4:
            return None
        length, start = struct.unpack_from(">H", buffer, at + 2)[0], at + 4
    end = start + length + (4 if buffer[at + 1] & 0x80 else 0)
    return (buffer[at] & 0x0F, start, end) if len(buffer) >= end else None


def _header(length: int, *, masked: bool) -> bytes:
    bit = 0x80 if masked else 0
    return struct.pack(">BB", TEXT, bit | length) if length < 126 else struct.pack(">BBH", TEXT, bit | 126, length)


def upgrade_request(host: str, path: str) -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
    ).encode()
