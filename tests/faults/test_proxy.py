import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from tests.faults.proxy import DOWN, UP, Proxy
from tests.faults.wire import says

# Long enough for loopback to deliver, when nothing should come.
SILENCE_S = 0.2


@dataclass
class Echo:
    """A server that answers each line with itself in capitals, and remembers all it got."""

    port: int = 0
    got: bytearray = field(default_factory=bytearray)
    resets: int = 0
    ends: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                self.got += line
                writer.write(line.upper())
                await writer.drain()
            self.ends += 1
        except ConnectionResetError:
            self.resets += 1
        finally:
            writer.close()


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    server = Echo()
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    yield server
    listener.close()


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[Proxy]:
    between = Proxy("127.0.0.1", echo.port)
    await between.accept()
    yield between
    await between.close()


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def say(self, line: bytes) -> None:
        self.writer.write(line)

    async def hear(self) -> bytes:
        async with asyncio.timeout(5):
            return await self.reader.readline()

    async def hears_nothing(self) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SILENCE_S):
                return await self.reader.readline() is None
        return True


@contextlib.asynccontextmanager
async def client_of(proxy: Proxy) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


async def until(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - polling is the point: nothing here sets an event
            await asyncio.sleep(0.01)


async def test_bytes_pass_both_ways_and_so_does_the_end(proxy: Proxy, echo: Echo) -> None:
    """Left alone, a proxy is not noticed: bytes and the end of the stream arrive."""
    async with client_of(proxy) as client:
        client.say(b"one\n")
        assert await client.hear() == b"ONE\n"
        client.writer.write_eof()
        assert await client.hear() == b""
    await until(lambda: echo.ends == 1 and proxy.connections == 0)


async def test_a_stall_upwards_holds_what_the_client_says(proxy: Proxy, echo: Echo) -> None:
    """Stalled upwards, the server sees nothing until resume, and then all of it in order."""
    async with client_of(proxy) as client:
        proxy.stall(UP)
        client.say(b"one\n")
        client.say(b"two\n")
        assert await client.hears_nothing()
        assert echo.got == b""
        proxy.resume()
        assert [await client.hear(), await client.hear()] == [b"ONE\n", b"TWO\n"]


async def test_a_stall_downwards_holds_the_answers(proxy: Proxy, echo: Echo) -> None:
    """Stalled downwards, the server gets everything and the client no answer until resume."""
    async with client_of(proxy) as client:
        proxy.stall(DOWN)
        client.say(b"one\n")
        await until(lambda: echo.got == b"one\n")
        assert await client.hears_nothing()
        proxy.resume()
        assert await client.hear() == b"ONE\n"


async def test_a_new_connection_is_stalled_too(proxy: Proxy, echo: Echo) -> None:
    """A stall holds for connections made after it."""
    proxy.stall()
    async with client_of(proxy) as client:
        client.say(b"one\n")
        assert await client.hears_nothing()
        assert echo.got == b""
        proxy.resume()
        assert await client.hear() == b"ONE\n"


async def test_cut_resets_both_sides_and_loses_what_was_held(proxy: Proxy, echo: Echo) -> None:
    """After cut both sides see a reset, not an end, and held bytes never arrive."""
    async with client_of(proxy) as client:
        client.say(b"one\n")
        assert await client.hear() == b"ONE\n"
        proxy.stall(UP)
        client.say(b"two\n")
        assert await client.hears_nothing()
        await proxy.cut()
        with pytest.raises(ConnectionResetError):
            await client.hear()
    await until(lambda: echo.resets == 1)
    proxy.resume()
    async with client_of(proxy) as client:
        client.say(b"three\n")
        assert await client.hear() == b"THREE\n"
    assert echo.got == b"one\nthree\n"


async def test_refuse_refuses_new_connections_only(proxy: Proxy) -> None:
    """Refused connections get ECONNREFUSED, open ones go on, and accept listens on the same port again."""
    async with client_of(proxy) as client:
        await proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", proxy.port)
        client.say(b"one\n")
        assert await client.hear() == b"ONE\n"
    await proxy.accept()
    async with client_of(proxy) as client:
        client.say(b"two\n")
        assert await client.hear() == b"TWO\n"


async def test_an_absent_server_resets_the_client(proxy: Proxy) -> None:
    """When the server behind the proxy is not there, the client's connection is reset at once."""
    nowhere = Proxy("127.0.0.1", 9)
    await nowhere.accept()
    async with client_of(nowhere) as client:
        with pytest.raises(ConnectionResetError):
            await client.hear()
    await nowhere.close()


async def test_a_trap_holds_exactly_from_its_message_on(proxy: Proxy, echo: Echo) -> None:
    """The server has seen all before the matching message and nothing of it; another connection goes on."""
    trap = proxy.stall_when(UP, says(b"commit"))
    async with client_of(proxy) as client, client_of(proxy) as other:
        client.say(b"insert\n")
        assert await client.hear() == b"INSERT\n"
        client.say(b"commit\n")
        assert b"commit" in (await trap.reached()).raw
        assert await client.hears_nothing()
        assert echo.got == b"insert\n"
        other.say(b"commit\n")
        assert await other.hear() == b"COMMIT\n"
        proxy.resume()
        assert await client.hear() == b"COMMIT\n"


async def test_a_trap_can_let_the_message_pass_and_hold_the_answer(proxy: Proxy, echo: Echo) -> None:
    """With hold=DOWN the server acts on the message, and the client never learns of it."""
    trap = proxy.stall_when(UP, says(b"commit"), hold=DOWN)
    async with client_of(proxy) as client:
        client.say(b"commit\n")
        await trap.reached()
        await until(lambda: echo.got == b"commit\n")
        assert await client.hears_nothing()
        await proxy.cut()
        with pytest.raises(ConnectionResetError):
            await client.hear()


async def test_a_trap_can_skip(proxy: Proxy) -> None:
    """With skip=2 the third matching message is the one that is held."""
    trap = proxy.stall_when(UP, says(b"tap"), skip=2)
    async with client_of(proxy) as client:
        for answer in (b"TAP 1\n", b"TAP 2\n"):
            client.say(answer.lower())
            assert await client.hear() == answer
        client.say(b"tap 3\n")
        assert (await trap.reached()).raw == b"tap 3\n"
        assert await client.hears_nothing()


async def test_a_trap_that_is_not_reached_says_so(proxy: Proxy) -> None:
    """Waiting for a moment that does not come ends with TimeoutError."""
    trap = proxy.stall_when(UP, says(b"never"))
    with pytest.raises(TimeoutError):
        await trap.reached(timeout=0.05)


async def test_the_end_of_a_killed_client_waits_behind_its_held_bytes(proxy: Proxy, echo: Echo) -> None:
    """A client that goes away while its bytes are held has still sent them: they arrive after resume, then its end."""
    async with client_of(proxy) as client:
        await until(lambda: proxy.connections == 1)
        proxy.stall(UP)
        client.say(b"last words\n")
        await client.writer.drain()
    assert await _stays(lambda: echo.got == b"" and echo.ends == 0)
    proxy.resume()
    await until(lambda: echo.got == b"last words\n")
    await until(lambda: echo.ends + echo.resets == 1)


async def _stays(condition: object) -> bool:
    assert callable(condition)
    await asyncio.sleep(SILENCE_S)
    return bool(condition())


async def test_a_connection_that_is_cut_as_it_comes_is_closed() -> None:
    """Cut before anything was done for it, its socket is closed too, and nobody counts it."""
    came: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    async with await asyncio.start_server(lambda *both: came.put_nowait(both), "127.0.0.1", 0) as server:
        _, client = await asyncio.open_connection(*server.sockets[0].getsockname())
        reader, writer = await came.get()
        proxy = Proxy("127.0.0.1", 1)
        proxy._accepted(reader, writer)
        await proxy.cut()
        assert (writer.is_closing(), proxy.connections) == (True, 0)
        client.close()
