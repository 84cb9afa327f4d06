"""The load: cards presented at chargers, told to preauth's hook as the patched SteVe tells them (facts: the hook)."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable
from dataclasses import dataclass

import httpx

from shared.web.signatures import hex_hmac

# The caller waits 200 ms (facts: the hook).
BUDGET_S = 0.2
CHARGERS = 10
# A machine that is busy with other things than this test.
AT_MOST_S = 10.0


@dataclass(frozen=True)
class Answer:
    """`status` is None where the caller got none: refused, reset, or later than `AT_MOST_S`."""

    id_tag: str
    status: int | None
    override: str | None
    seconds: float

    @property
    def answered(self) -> bool:
        return self.status == 200


class Taps:
    """Every tap is by another card, so that each is to be found once, by its card, in every table."""

    def __init__(self, http: httpx.AsyncClient, port: int, key: str) -> None:
        self._http, self._key = http, key.encode()
        self._url = f"http://127.0.0.1:{port}/api/ocpp/pre-authorize"
        self._number = 0
        self.answers: list[Answer] = []

    @property
    def answered(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.answered]

    @property
    def next_tag(self) -> str:
        """The card of the next tap."""
        return f"CARD-{self._number:06}"

    async def one(self, charger: str | None = None) -> Answer:
        id_tag = self.next_tag
        self._number += 1
        call = {
            "idTag": id_tag,
            "chargeBoxId": charger or f"CP-{self._number % CHARGERS}",
            "connectorId": None,
            "isStartTx": False,
            "ts": int(time.time() * 1000),
        }
        body = json.dumps(call).encode()
        started = time.monotonic()
        status, override = None, None
        try:
            response = await self._http.post(
                self._url, content=body, headers={"X-Signature": hex_hmac(self._key, body)}, timeout=AT_MOST_S
            )
        except httpx.HTTPError:
            pass
        else:
            status = response.status_code
            override = response.json()["override"] if status == 200 else None
        answer = Answer(id_tag, status, override, time.monotonic() - started)
        self.answers.append(answer)
        return answer

    async def many(self, count: int, *, callers: int = 8) -> list[Answer]:
        """`count` taps by several callers at once, each the next as soon as it is answered."""
        before = len(self.answers)
        left = iter(range(count))

        async def call() -> None:
            for _ in left:
                await self.one()

        async with asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(call())
        return self.answers[before:]

    async def during(self, happening: Awaitable[object], *, pause_s: float = 0.01, callers: int = 2) -> list[Answer]:
        """Taps for as long as something takes, at least one; a pause after each leaves the machine to others."""
        before = len(self.answers)
        task = asyncio.ensure_future(happening)

        async def call() -> None:
            while not task.done():
                await self.one()
                await asyncio.sleep(pause_s)

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._at_least_once())
                for _ in range(callers):
                    group.create_task(call())
        finally:
            task.cancel()
        await task
        return self.answers[before:]

    async def _at_least_once(self) -> None:
        await self.one()


def check_answers(answers: list[Answer]) -> None:
    """Each was answered, and most within the caller's budget: a tap never waits for what is not there."""
    unanswered = [answer for answer in answers if not answer.answered]
    assert not unanswered, f"{len(unanswered)} of {len(answers)} taps were not answered, the first {unanswered[0]}"
    slow = [answer for answer in answers if answer.seconds > BUDGET_S]
    assert len(slow) <= len(answers) // 2, f"{len(slow)} of {len(answers)} taps were answered too late"
