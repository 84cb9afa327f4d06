"""One socket of a charger's two: bytes in, whole messages out, with its reading and writing under control.

Built on the sans-I/O layer of `websockets`: a relay has no use for a task and two queues per socket, and pings must
pass instead of being answered here.
"""

import asyncio
import time
from enum import IntFlag
from typing import Final, Protocol, cast

from websockets.client import ClientProtocol
from websockets.exceptions import ProtocolError
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol

from services.preauth.gateway.pacer import Pacer

# Above this many unsent bytes the other side is not read any more.
WRITE_HIGH_BYTES: Final = 64 * 1024
# A message that is being received, or waits to be sent, counts against all sockets' common memory from this size on.
LARGE_BYTES: Final = 256 * 1024
COMMON_BYTES: Final = 256 * 1024 * 1024
# How long a peer may take to answer a close before its socket is cut.
CLOSE_TIMEOUT_S: Final = 5.0

NO_STATUS, ABNORMAL, TLS_FAILURE = 1005, 1006, 1015
UNSUPPORTED_DATA: Final = 1003
TOO_BIG: Final = 1009


class Why(IntFlag):
    """Reasons not to read from a socket; it is read again when none is left."""

    NOT_OPEN = 1
    PEER_IS_SLOW = 2
    HELD = 4
    TOO_FAST = 8
    BUSY = 16


class Memory:
    """What all sockets of a process may hold in large messages: each may have 8 MiB, but not all at once."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int = COMMON_BYTES) -> None:
        self.limit, self.used = limit, 0


class Events(Protocol):
    """What a leg tells its owner."""

    def on_connected(self, leg: "Leg") -> None:
        """Its connection stands, TLS included. One that never does is never lost either."""
        ...

    def on_handshake(self, leg: "Leg", message: Request | Response) -> None: ...

    def on_text(self, leg: "Leg", text: bytes | bytearray) -> None: ...

    def on_control(self, leg: "Leg", opcode: Opcode, data: bytes) -> None: ...

    def on_batch(self, leg: "Leg", frames: int) -> None:
        """All that came in one read was told; a good moment to send what was written meanwhile."""
        ...

    def on_closed(self, leg: "Leg", code: int, reason: str) -> None:
        """The peer closes, or has to be closed for what it sent, with this code. Told once, before on_lost."""
        ...

    def on_full(self, leg: "Leg", *, full: bool) -> None: ...

    def on_lost(self, leg: "Leg") -> None: ...


class Leg(asyncio.Protocol):
    """A WebSocket on one transport. Messages are reassembled; their bytes are never looked at."""

    __slots__ = (
        "_aside",
        "_booked",
        "_closed_told",
        "_cut",
        "_full",
        "_leaving",
        "_loop",
        "_memory",
        "_owner",
        "_pacer",
        "_parts",
        "_paused",
        "_waiting",
        "protocol",
        "transport",
    )

    def __init__(
        self, protocol: ServerProtocol | ClientProtocol, owner: Events, *, memory: Memory, pacer: Pacer
    ) -> None:
        self.protocol, self._owner, self._memory, self._pacer = protocol, owner, memory, pacer
        # Read, and not worked on yet.
        self._aside = b""
        self._booked = 0
        self._waiting = 0
        self._loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self._parts: bytearray | None = None
        self._paused = Why(0)
        self._full = False
        self._closed_told = False
        # We began to close: what still comes finds nobody.
        self._leaving = False
        self._cut: asyncio.TimerHandle | None = None

    # From the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        if self._leaving:
            self.transport.abort()
            return
        self.transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
        self._owner.on_connected(self)

    def data_received(self, data: bytes) -> None:
        if self._aside:
            self._aside += data
        elif self._pacer.admits():
            started = time.perf_counter()
            self._take(data)
            self._pacer.spent(time.perf_counter() - started)
        else:
            self._aside = data
            self.pause(Why.BUSY)
            self._pacer.put_aside(self)

    def work(self) -> None:
        """Work on what was put aside."""
        data, self._aside = self._aside, b""
        if data:
            self._take(data)
            self.resume(Why.BUSY)

    def _take(self, data: bytes) -> None:
        protocol = self.protocol
        protocol.receive_data(data)
        events = protocol.events_received()
        for event in events:
            if isinstance(event, Frame):
                self._frame(event)
            else:
                self._owner.on_handshake(self, event)
        if protocol.parser_exc is not None and not self._closed_told:
            self._tell_closed(protocol.close_sent)
        self.flush()
        if events:
            self._owner.on_batch(self, len(events))
        held = len(protocol.reader.buffer) + (len(self._parts) if self._parts is not None else 0)
        if held >= LARGE_BYTES or self._booked:
            self._book(held)

    def eof_received(self) -> None:
        self.work()
        self.protocol.receive_eof()
        self.flush()

    def connection_lost(self, _: Exception | None) -> None:
        self.work()
        self.protocol.receive_eof()
        self.protocol.data_to_send()
        if self._cut is not None:
            self._cut.cancel()
        self._parts = None
        self._release()
        self._memory.used -= self._waiting
        self._waiting = 0
        # One that was closed with bytes to send, and sent them, does not bear to be aborted afterwards (CPython).
        self.transport = None
        if not self._closed_told:
            self._tell_closed(self.protocol.close_rcvd)
        self._owner.on_lost(self)

    def pause_writing(self) -> None:
        self._full = True
        self._waiting = self.unsent
        self._memory.used += self._waiting
        self._owner.on_full(self, full=True)

    def resume_writing(self) -> None:
        self._full = False
        self._memory.used -= self._waiting
        self._waiting = 0
        self._owner.on_full(self, full=False)

    # From the owner

    def hand_over(self, owner: Events) -> None:
        """Tell somebody else from now on."""
        self._owner = owner

    @property
    def open(self) -> bool:
        return self.protocol.state is State.OPEN and not self._leaving

    @property
    def full(self) -> bool:
        return self._full

    @property
    def unsent(self) -> int:
        """Bytes that wait for the peer to read."""
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    def send_text(self, text: bytes | bytearray) -> None:
        """Queue a message until `flush`. One that finds the socket closing is dropped, as the network would."""
        if self.open:
            self.protocol.send_text(text)

    def send_control(self, opcode: Opcode, data: bytes) -> None:
        if self.open:
            (self.protocol.send_ping if opcode is Opcode.PING else self.protocol.send_pong)(data)

    def flush(self) -> None:
        """Write what is queued, in one go."""
        writes = self.protocol.data_to_send()
        if not writes or self.transport is None:
            return
        ends = writes[-1] == b""
        if ends:
            writes.pop()
        if writes and not self.transport.is_closing():
            self.transport.write(writes[0] if len(writes) == 1 else b"".join(writes))
        if ends:
            self._end()
        if self._cut is None and self.protocol.close_expected():
            self.cut_after(CLOSE_TIMEOUT_S)

    def close(self, code: int, reason: str) -> None:
        """Close as the other side did. A code that cannot be sent is mirrored by what it stands for."""
        if not self.open or code in (ABNORMAL, TLS_FAILURE):
            if self.protocol.state in (State.OPEN, State.CONNECTING):
                self.hang_up()
            return
        self._leave()
        try:
            if code == NO_STATUS:
                self.protocol.send_close()
            else:
                self.protocol.send_close(code, reason)
        except ProtocolError:
            self.hang_up()
            return
        self.flush()

    def refuse(self, code: int, reason: str) -> None:
        """Close a peer for what it sent (RFC 6455, 7.1.7)."""
        if self.open:
            self._leave()
            self.protocol.fail(code, reason)
            self._tell_closed(self.protocol.close_sent)
            self.flush()

    def hang_up(self) -> None:
        """Send what is written and end the TCP connection without a close frame: the peer sees 1006."""
        self._leaving = True
        if self.transport is not None:
            self.transport.close()
            self.cut_after(CLOSE_TIMEOUT_S)

    def abort(self) -> None:
        self._leaving = True
        if self.transport is not None:
            self.transport.abort()

    def cut_after(self, seconds: float) -> None:
        """End the TCP connection by force, unless it ended by then."""
        if self._cut is not None:
            self._cut.cancel()
        self._cut = self._loop.call_later(seconds, self.abort)

    def keep(self) -> None:
        """Call off `cut_after`."""
        if self._cut is not None:
            self._cut.cancel()
            self._cut = None

    def pause(self, why: Why) -> None:
        if self._leaving:
            return
        if not self._paused and self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()
        self._paused |= why

    def resume(self, why: Why) -> None:
        if not self._paused & why:
            return
        self._paused &= ~why
        if not self._paused and self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    # Inside

    def _book(self, held: int) -> None:
        """Count what this socket holds, and close the one that makes it too much."""
        self._release()
        if held < LARGE_BYTES:
            return
        self._booked = held
        self._memory.used += held
        if self._memory.used > self._memory.limit:
            self._parts = None
            self._release()
            self.refuse(TOO_BIG, "Too many large messages at once")

    def _release(self) -> None:
        self._memory.used -= self._booked
        self._booked = 0

    def _leave(self) -> None:
        self._leaving = True
        self._read_on()

    def _read_on(self) -> None:
        # A paused socket would never see that the peer agrees to the end.
        if self._paused:
            self._paused = Why(0)
            if self.transport is not None and not self.transport.is_closing():
                self.transport.resume_reading()

    def _frame(self, frame: Frame) -> None:
        opcode = frame.opcode
        if opcode is Opcode.TEXT:
            if frame.fin:
                self._text(frame.data)
            else:
                self._parts = bytearray(frame.data)
        elif opcode is Opcode.CONT:
            if self._parts is None:  # of a binary message that was refused
                return
            self._parts += frame.data
            if frame.fin:
                whole, self._parts = self._parts, None
                self._text(whole)
        elif opcode is Opcode.CLOSE:
            self._tell_closed(self.protocol.close_rcvd)
        elif opcode is Opcode.BINARY:
            self.refuse(UNSUPPORTED_DATA, "Binary messages not supported")
        elif not self._closed_told and not self._leaving:
            self._owner.on_control(self, opcode, bytes(frame.data))

    def _text(self, text: object) -> None:
        if not self._closed_told and not self._leaving:
            self._owner.on_text(self, cast("bytes | bytearray", text))

    def _tell_closed(self, close: Close | None) -> None:
        if not self._closed_told:
            self._closed_told = True
            self._owner.on_closed(self, close.code if close else ABNORMAL, close.reason if close else "")

    def _end(self) -> None:
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        self._read_on()
        if transport.can_write_eof():
            try:
                transport.write_eof()
            except (OSError, RuntimeError):
                transport.abort()
        else:
            transport.close()
