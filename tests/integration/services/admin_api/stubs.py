"""Preauth, sync and audit as the bus sees them: they take requests off their queues and answer as they are told."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from pydantic import BaseModel

from shared.bus.requests import RequestServer
from shared.bus.topology import OWNERS, Topology
from shared.contracts.problem import NotFound, Problem
from shared.contracts.request import ReplyEnvelope, Request, RequestEnvelope, registered
from shared.contracts.requests import audit, preauth, sync
from shared.runtime.clock import Clock
from shared.runtime.tracing import current_traceparent
from tests.waiting import until

VOCABULARY = (audit, preauth, sync)
Answer = Callable[[Any], Any]


class Silence(Exception):  # noqa: N818 - not an error: nobody answers
    """Raised by an answer that never comes."""


class Owners:
    """`owners.answer(GetCard, lambda request: CardView(...))`; what nobody set an answer for is silent."""

    def __init__(self, amqp_url: str, clock: Clock) -> None:
        self._servers = [
            RequestServer(amqp_url, service=name, topology=Topology(), clock=clock, answer=self._answer)
            for name in OWNERS
        ]
        self._answers: dict[str, Answer] = {}
        self.asked: list[RequestEnvelope] = []
        self.traceparents: list[str | None] = []

    def reset(self) -> None:
        self._answers.clear()
        self.asked.clear()
        self.traceparents.clear()

    def answer(self, request: type[Request[Any]], answer: Answer | BaseModel | Problem) -> None:
        """What comes back: a value, a refusal, or what a function makes of the request."""
        self._answers[request.name] = answer if inspect.isroutine(answer) else lambda _: answer

    def silence(self, request: type[Request[Any]]) -> None:
        self._answers.pop(request.name, None)

    def requests(self, request: type[Request[Any]]) -> list[RequestEnvelope]:
        """Those that arrived, in order."""
        return [envelope for envelope in self.asked if envelope.name == request.name]

    async def _answer(self, envelope: RequestEnvelope) -> ReplyEnvelope | None:
        if envelope.actor.kind != "system":  # what the service asks by itself now and then
            self.asked.append(envelope)
            self.traceparents.append(current_traceparent())
        answer = self._answers.get(envelope.name)
        if answer is None:
            return None
        request = registered()[envelope.name].model_validate(envelope.data)
        try:
            value = answer(request)
            if isinstance(value, Problem):
                raise value
        except Problem as problem:
            return ReplyEnvelope(ok=False, problem=problem.details())
        except Silence:
            return None
        return ReplyEnvelope(ok=True, value=value.model_dump(mode="json"))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        stop = asyncio.Event()
        tasks = [asyncio.create_task(server.run(stop)) for server in self._servers]

        async def up() -> bool:
            return all(server.connected for server in self._servers)

        try:
            await until(up)
            yield
        finally:
            stop.set()
            await asyncio.gather(*tasks)


def nothing(_: object) -> Any:  # noqa: ANN401 - it never returns
    raise NotFound("There is none.")
