"""Chargers by the thousand in one process: reads one JSON command a line, answers each with one line.

`connect {host, port, path, count}`; `paced {per_s, seconds}`: each charger calls in its turn, whatever became of the
calls before; `closed {connections, seconds}`: the first ones call again as soon as they are answered; `storm`: all lose
their socket and come back at once; `close`.

A frame's time counts from the moment it is written. It cannot count from the moment it was due: the loop's timers count
whole milliseconds from the beginning of a turn and run up to one early, which is more than a frame takes.
"""

import asyncio
import gc
import json
import random
import sys
import time
from typing import Any, Final, cast

import uvloop

from tests.bench.figures import quantile
from tests.bench.gateway_wire import client_frame, measure, upgrade_request

OPEN_TIMEOUT_S: Final = 60.0
METER_VALUES: Final = (
    '{"connectorId":1,"transactionId":4711,"meterValue":[{"timestamp":"2026-05-01T10:00:00.000Z","sampledValue":'
    '[{"value":"123456","context":"Sample.Periodic","measurand":"Energy.Active.Import.Register","unit":"Wh"}]}]}'
)
STATUS: Final = '{"connectorId":1,"errorCode":"NoError","status":"Charging","timestamp":"2026-05-01T10:00:00.000Z"}'
# What a charging charger sends in an hour or two of readings every ten seconds: now and then a status, seldom a card.
# About 200 bytes on average.
MIX: Final = (
    *(("MeterValues", METER_VALUES),) * 450,
    *(("Heartbeat", "{}"),) * 40,
    *(("StatusNotification", STATUS),) * 9,
    ("Authorize", '{"idTag":"04A1B2C3D4E5F6"}'),
)
FRAMES: Final = [
    client_frame(f'[2,"{number:08d}","{action}",{payload}]'.encode()) for number, (action, payload) in enumerate(MIX)
]


class Charger(asyncio.Protocol):
    """One charger's socket. `latencies` takes what is measured, in seconds."""

    def __init__(self, name: str, path: str) -> None:
        self._name, self._path = name, path
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._called = 0.0
        self._next = random.randrange(len(FRAMES))
        self.status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.latencies: list[float] = []
        self.closed_loop = False
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's by class.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(upgrade_request("127.0.0.1", f"{self._path}/{self._name}"))

    def connection_lost(self, _: Exception | None) -> None:
        self.lost = True
        if not self.status.done():
            self.status.set_result(0)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        if not self.status.done():
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self.status.set_result(int(buffer[9:12]))
            del buffer[: end + 4]
        at = 0
        while (frame := measure(buffer, at)) is not None:
            at = frame[2]
            self.latencies.append(time.perf_counter() - self._called)
            if self.closed_loop:
                self.call()
        del buffer[:at]

    def call(self) -> None:
        """Send the next frame."""
        if self._transport is None or self.lost:
            return
        self._called = time.perf_counter()
        self._next = (self._next + 1) % len(FRAMES)
        self._transport.write(FRAMES[self._next])

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class Fleet:
    def __init__(self) -> None:
        self._chargers: list[Charger] = []
        self._to: dict[str, Any] = {}

    async def connect(self, **to: Any) -> dict[str, Any]:  # noqa: ANN401 - host, port, path, count
        self._to = to
        loop = asyncio.get_running_loop()
        started = time.perf_counter()
        self._chargers = [Charger(f"CP-{number:04d}", to["path"]) for number in range(to["count"])]

        async def one(charger: Charger) -> int:
            await loop.create_connection(lambda: charger, to["host"], to["port"])
            return await charger.status

        async with asyncio.timeout(OPEN_TIMEOUT_S):
            statuses = await asyncio.gather(*(one(charger) for charger in self._chargers))
        refused = sum(status != 101 for status in statuses)
        return {"seconds": time.perf_counter() - started, "refused": refused}

    async def paced(self, per_s: float, seconds: float) -> dict[str, Any]:
        loop, period = asyncio.get_running_loop(), len(self._chargers) / per_s
        begin = loop.time() + 0.1
        for charger in self._chargers:
            charger.latencies.clear()
            phase = random.uniform(0, period)
            for turn in range(int(seconds / period)):
                loop.call_at(begin + phase + turn * period, charger.call)
        await asyncio.sleep(seconds + period + 1)
        return self._figures(seconds)

    async def closed(self, connections: int, seconds: float) -> dict[str, Any]:
        some = self._chargers[:connections]
        for charger in self._chargers:
            charger.latencies.clear()
        for charger in some:
            charger.closed_loop = True
            charger.call()
        started = time.perf_counter()
        await asyncio.sleep(seconds)
        for charger in some:
            charger.closed_loop = False
        took = time.perf_counter() - started
        await asyncio.sleep(0.5)
        return self._figures(took)

    async def storm(self) -> dict[str, Any]:
        self._abort()
        return await self.connect(**self._to)

    async def close(self) -> dict[str, Any]:
        self._abort()
        self._chargers = []
        await asyncio.sleep(0.2)
        return {}

    def _abort(self) -> None:
        for charger in self._chargers:
            charger.abort()

    def _figures(self, seconds: float) -> dict[str, Any]:
        latencies = [one * 1000 for charger in self._chargers for one in charger.latencies]
        return {
            "calls": len(latencies),
            "per_s": len(latencies) / seconds,
            "p50_ms": quantile(latencies, 0.5),
            "p99_ms": quantile(latencies, 0.99),
            "lost": sum(charger.lost for charger in self._chargers),
        }


async def main() -> None:
    gc.freeze()
    gc.disable()
    fleet = Fleet()
    while line := await asyncio.to_thread(sys.stdin.readline):
        command = json.loads(line)
        answer = await getattr(fleet, command.pop("do"))(**command)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
