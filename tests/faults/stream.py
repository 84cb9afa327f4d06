"""The load at the gateway: chargers that speak OCPP, each with a new card as soon as the last one is answered."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from deploy.demo.chargers.charger import NO_ANSWER, Charger
from deploy.demo.chargers.settings import ChargerSettings
from deploy.demo.steve.settings import SteveSettings
from deploy.demo.steve.simulator import SteveSimulator, run_steve
from tests.faults.taps import AT_MOST_S, Answer
from tests.ports import free_port

CHARGERS = 10
DEADLINE_MS = 200
PAUSE_S = 0.1
# What two cores that also start or stop a server add to a deadline. Who waits for what is away waits for seconds.
BUSY_S = 0.5


@dataclass
class Stream:
    """Chargers behind the gateway, and a SteVe that outlives every fault. `answers`: what each card was told."""

    steve: SteveSimulator
    port: int = field(default_factory=free_port)
    chargers: list[Charger] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    @property
    def settings(self) -> dict[str, str]:
        """Preauth's settings for a gateway before this SteVe."""
        return {
            "EXPRESSYNC_PREAUTH_STEVE_OCPP_URL": self.steve.ocpp_url,
            "EXPRESSYNC_PREAUTH_OCPP_PORT": str(self.port),
            "EXPRESSYNC_PREAUTH_OCPP_DEADLINE_MS": str(DEADLINE_MS),
        }

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            for number in range(CHARGERS):
                name = f"CP-STREAM-{number}"
                self.steve.state.add_charger(name)
                settings = ChargerSettings(
                    ocpp_url=f"ws://127.0.0.1:{self.port}/ocpp",
                    charge_box_id=name,
                    answer_timeout_s=AT_MOST_S,
                    # What breaks is behind the gateway: a charger that is disconnected is a fault of ours.
                    reconnect=False,
                )
                self.chargers.append(await stack.enter_async_context(Charger(settings)))
            yield

    async def run(self, stop: asyncio.Event) -> None:
        """All chargers, until `stop`; each at least once."""
        async with asyncio.TaskGroup() as group:
            for charger in self.chargers:
                group.create_task(self._one(charger, stop))

    async def tap(self, charger: Charger) -> Answer:
        id_tag = f"STREAM-{next(self._numbers):06}"
        self.steve.state.add_tag(id_tag)
        told, took_ms = await charger.authorize(id_tag)
        override = {"Accepted": None, "Blocked": "BLOCKED"}.get(told, told)
        answer = Answer(id_tag, None if told == NO_ANSWER else 200, {"override": override}, took_ms / 1000)
        self.answers.append(answer)
        return answer

    async def _one(self, charger: Charger, stop: asyncio.Event) -> None:
        while True:
            await self.tap(charger)
            if stop.is_set():
                return
            await asyncio.sleep(PAUSE_S)


@contextlib.asynccontextmanager
async def streaming() -> AsyncIterator[Stream]:
    async with run_steve(SteveSettings(auth_delay_ms=0)) as steve:
        yield Stream(steve)


def check_each(answers: Sequence[Answer], healthy: Sequence[Answer]) -> None:
    """Each was let through, and none later than the deadline after what its way takes when all is well."""
    wrong = [answer for answer in answers if not answer.answered or answer.override is not None]
    assert not wrong, f"{len(wrong)} of {len(answers)} cards were not let through, the first {wrong[0]}"
    way_s = sorted(answer.seconds for answer in healthy)[int(len(healthy) * 0.99)]
    slowest = max(answers, key=lambda answer: answer.seconds)
    assert slowest.seconds <= DEADLINE_MS / 1000 + way_s + BUSY_S, f"{slowest}; healthy: {way_s} s"
