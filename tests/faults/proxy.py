"""A TCP proxy for fault tests: it holds, cuts and refuses, at any time or at a chosen moment."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import socket
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from deploy.local.infra.folder import LOOPBACK
from tests.faults.wire import AmqpReader, Matcher, Message, PostgresReader, RawReader, Reader
from tests.ports import free_port

CHUNK = 65_536
# A socket closed with linger 0 sends RST instead of FIN (socket(7)).
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
DEFAULT_PORTS = {"postgresql": 5432, "amqp": 5672, "http": 80}


class Direction(enum.Enum):
    UP = "client to server"
    DOWN = "server to client"


UP, DOWN = Direction.UP, Direction.DOWN
BOTH = (UP, DOWN)


class Trap:
    """A moment to wait for: see `Proxy.stall_when`."""

    def __init__(self, direction: Direction, matches: Matcher, hold: Direction, skip: int) -> None:
        self.direction = direction
        self.matches = matches
        self.hold = hold
        self.skip = skip
        self._reached = asyncio.Event()
        self._caught = False
        self._message: Message | None = None

    def catches(self, direction: Direction, message: Message) -> bool:
        if self._caught or direction is not self.direction or not self.matches(message):
            return False
        if self.skip:
            self.skip -= 1
            return False
        self._caught = True
        return True

    def tell(self, message: Message) -> None:
        """All before it is sent and the gate is closed: only now may whoever waits go on."""
        self._message = message
        self._reached.set()

    async def reached(self, timeout: float = 20) -> Message:
        """Wait for the moment; gives the message. Raises TimeoutError when it does not come within `timeout` s."""
        async with asyncio.timeout(timeout):
            await self._reached.wait()
        assert self._message is not None
        return self._message


@dataclass(eq=False)
class Link:
    """One client's connection, and the one made for it to the server."""

    writers: dict[Direction, asyncio.StreamWriter]
    open: dict[Direction, asyncio.Event] = field(default_factory=lambda: {side: _opened() for side in BOTH})

    def reset(self) -> None:
        for writer in self.writers.values():
            with contextlib.suppress(OSError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            writer.transport.abort()


class Proxy:
    """Stands in front of a server: give its `port`, or `url`, to a client instead of the server's.

    Held bytes are not lost: they arrive after `resume()`, in order, and so does the end of a stream. So a client that
    was killed while its bytes were held has still sent them; `cut()` is what makes them never arrive.
    """

    def __init__(self, host: str, port: int, reader: Callable[[], Reader] = RawReader) -> None:
        self._target = (host, port)
        self._reader = reader
        self._server: asyncio.Server | None = None
        self._links: set[Link] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._open = {side: _opened() for side in BOTH}
        self._traps: list[Trap] = []
        self.port = free_port()
        self.accepted = 0

    @property
    def connections(self) -> int:
        return len(self._links)

    async def accept(self) -> None:
        """Listen (again), on the same port."""
        if self._server is None:
            self._server = await asyncio.start_server(self._accepted, LOOPBACK, self.port)

    async def refuse(self) -> None:
        """Refuse new connections (ECONNREFUSED). Those that are open stay open."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def stall(self, *directions: Direction) -> None:
        """Hold all bytes, of all connections, in the given directions (both when none is given)."""
        for side in directions or BOTH:
            self._open[side].clear()

    def stall_when(
        self, direction: Direction, matches: Matcher, *, hold: Direction | None = None, skip: int = 0
    ) -> Trap:
        """From the first message in `direction` that matches (after `skip` others), hold that connection.

        By default the message itself is the first that is held: the server has seen all before it, and nothing of it.
        With `hold` the other direction, the message passes and no answer comes back. Other connections are untouched.
        """
        trap = Trap(direction, matches, hold or direction, skip)
        self._traps.append(trap)
        return trap

    def resume(self) -> None:
        """Let everything flow again, and forget the traps."""
        self._traps.clear()
        for gates in (self._open, *(link.open for link in self._links)):
            for gate in gates.values():
                gate.set()

    async def cut(self) -> None:
        """Reset (RST) every connection, on both sides. Held bytes are lost. Stalls and traps stay for new ones."""
        for link in list(self._links):
            link.reset()
        for pump in list(self._pumps):
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def close(self) -> None:
        await self.refuse()
        await self.cut()

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        link = Link({DOWN: writer})
        self._links.add(link)
        # A task of our own: asyncio reports one that it made and we cancel as an error.
        task = asyncio.create_task(self._serve(link, reader))
        self._pumps.add(task)
        # Not in the task itself: one that is cut before its first step never comes to its `finally`.
        task.add_done_callback(lambda done: self._ended(done, link))

    def _ended(self, pump: asyncio.Task[None], link: Link) -> None:
        self._pumps.discard(pump)
        self._links.discard(link)
        for side in link.writers.values():
            side.close()

    async def _serve(self, link: Link, reader: asyncio.StreamReader) -> None:
        try:
            up_reader, link.writers[UP] = await asyncio.open_connection(*self._target)
            for side in link.writers.values():
                # So that drain() means sent, and a stall stops all that is not.
                side.transport.set_write_buffer_limits(high=0)
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(link, UP, reader))
                pumps.create_task(self._pump(link, DOWN, up_reader))
        except* OSError:
            # The server is not there, or one side went away: the other learns it the same way.
            link.reset()

    async def _pump(self, link: Link, direction: Direction, reader: asyncio.StreamReader) -> None:
        # What servers say is only understood where both sides speak the same frames.
        parser = self._reader() if direction is UP or self._reader is AmqpReader else RawReader()
        writer = link.writers[direction]
        while data := await reader.read(CHUNK):
            # Whole messages only: what is held, the server has seen nothing of.
            passing = bytearray()
            for message in parser.feed(data):
                caught = [trap for trap in self._traps if trap.catches(direction, message)]
                if any(trap.hold is direction for trap in caught):
                    await self._send(link, direction, writer, passing)
                for trap in caught:
                    # A resume() meanwhile has forgotten it.
                    if trap in self._traps:
                        link.open[trap.hold].clear()
                        trap.tell(message)
                passing += message.raw
            await self._send(link, direction, writer, passing)
        await self._flow(link, direction)
        writer.write_eof()

    async def _send(self, link: Link, direction: Direction, writer: asyncio.StreamWriter, passing: bytearray) -> None:
        if passing:
            await self._flow(link, direction)
            writer.write(bytes(passing))
            passing.clear()
            await writer.drain()

    async def _flow(self, link: Link, direction: Direction) -> None:
        gates = (self._open[direction], link.open[direction])
        while not all(gate.is_set() for gate in gates):
            for gate in gates:
                await gate.wait()


def _opened() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@contextlib.asynccontextmanager
async def in_front_of(url: str) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy before the server of a `postgresql://`, `amqp://` or other URL, and the URL that leads through it."""
    parts = urlsplit(url)
    scheme = parts.scheme.split("+")[0]
    readers: dict[str, Callable[[], Reader]] = {"postgresql": PostgresReader, "amqp": AmqpReader}
    proxy = Proxy(parts.hostname or LOOPBACK, parts.port or DEFAULT_PORTS[scheme], readers.get(scheme, RawReader))
    await proxy.accept()
    user, at, _ = parts.netloc.rpartition("@")
    try:
        yield proxy, parts._replace(netloc=f"{user}{at}{LOOPBACK}:{proxy.port}").geturl()
    finally:
        await proxy.close()
