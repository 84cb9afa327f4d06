"""Calls the hook the way the patched SteVe does, over kept connections. `python -m tests.bench.hook_load`: one JSON
command a line in, one JSON answer a line out.
"""

import asyncio
import hashlib
import hmac
import itertools
import json
import sys
import time
from typing import Any, Final, cast

import uvloop

from tests.bench.figures import quantile

KEY: Final = b"hook-key"
PATH: Final = "/api/ocpp/pre-authorize"
CHARGERS: Final = 500
CARDS: Final = 5_000
GIVE_UP_S: Final = 20.0

_number = itertools.count()


def call() -> bytes:
    """A signed call, different each time, of a thousand cards at hundreds of chargers."""
    n = next(_number)
    body = (
        f'{{"idTag":"04{n % CARDS:08X}","chargeBoxId":"CP-{n % CHARGERS}","connectorId":null,"isStartTx":false,'
        f'"ts":{int(time.time() * 1000)}}}'
    ).encode()
    signature = hmac.new(KEY, body, hashlib.sha256).hexdigest()
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: hook\r\nContent-Type: application/json\r\nX-Signature: {signature}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Connection(asyncio.Protocol):
    """One kept connection; one call at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[bytes] | None = None
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._received.endswith(b"}") and self._answer is not None and not self._answer.done():
            self._answer.set_result(self._received)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError())

    async def ask(self) -> None:
        """Send a call; wait for its 200."""
        assert self._transport is not None
        self._received = b""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(call())
        async with asyncio.timeout(GIVE_UP_S):
            answer = await self._answer
        assert answer.startswith(b"HTTP/1.1 200"), answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def connect(port: int) -> Connection:
    _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port)
    return connection


async def closed(port: int, connections: int, seconds: float) -> dict[str, Any]:
    """As fast as it goes, each connection waiting for its answer."""
    until = time.perf_counter() + seconds
    took: list[float] = []

    async def one() -> None:
        connection = await connect(port)
        while (began := time.perf_counter()) < until:
            await connection.ask()
            took.append(time.perf_counter() - began)
        connection.close()

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(connections)))
    return {"per_s": len(took) / (time.perf_counter() - began), **figures(took)}


async def opened(port: int, per_s: float, seconds: float) -> dict[str, Any]:
    """At a fixed rate, whatever the answers do; the time counts from the moment the call was due."""
    idle: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(32):
        idle.put_nowait(await connect(port))
    took: list[float] = []
    failed = 0

    async def one(due: float) -> None:
        nonlocal failed
        connection = idle.get_nowait() if not idle.empty() else await connect(port)
        try:
            await connection.ask()
            took.append(time.perf_counter() - due)
            idle.put_nowait(connection)
        except (OSError, TimeoutError, AssertionError):
            failed += 1

    began = time.perf_counter()
    running = []
    for n in range(int(per_s * seconds)):
        due = began + n / per_s
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        running.append(asyncio.create_task(one(due)))
    await asyncio.gather(*running)
    while not idle.empty():
        idle.get_nowait().close()
    return {"failed": failed, **figures(took)}


def figures(took: list[float]) -> dict[str, Any]:
    return {
        "calls": len(took),
        "p50_ms": quantile(took, 0.5) * 1e3,
        "p99_ms": quantile(took, 0.99) * 1e3,
        "p999_ms": quantile(took, 0.999) * 1e3,
        "max_ms": max(took) * 1e3,
    }


def main() -> None:
    for line in sys.stdin:
        command = json.loads(line)
        work = closed(**command) if command.pop("do") == "closed" else opened(**command)
        print(json.dumps(uvloop.run(work)), flush=True)


if __name__ == "__main__":
    main()
