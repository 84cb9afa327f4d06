"""Executing requests: queries read, commands change something, once per idempotency key."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import sqlalchemy as sa
from opentelemetry import trace
from prometheus_client import CollectorRegistry, Counter
from pydantic import BaseModel, ValidationError
from sqlalchemy.dialects.postgresql import insert

from shared.bus.effects import Effect, EffectUnknown, StillRunning, TooLateError
from shared.contracts.identity import Cause
from shared.contracts.problem import Conflict, Invalid, Problem
from shared.contracts.request import MAX_REPLY_BYTES, ReplyEnvelope, Request, RequestEnvelope, canonical
from shared.database.engine import Database, Write
from shared.runtime.clock import Clock
from shared.runtime.log import get_logger
from shared.runtime.tracing import span

log = get_logger(__name__)

Q = TypeVar("Q", bound="Request[Any]")
Query = Callable[[Any, Cause], Awaitable[BaseModel]]
Command = Callable[[Write, Any, Cause], Awaitable[BaseModel]]
Effective = Callable[[Write, Any, Cause, Effect], Awaitable[BaseModel]]


class ReplyTooLarge(Problem):
    code, status, title = "reply_too_large", 413, "The answer is too large for one reply"


class KeyReused(Conflict):
    code, title = "idempotency_key_reused", "This idempotency key belongs to another request"


class Dispatcher:
    """Routes requests to their queries and commands and turns every outcome into a reply."""

    def __init__(self, database: Database, *, metadata: sa.MetaData, clock: Clock, registry: CollectorRegistry) -> None:
        self._database, self._clock = database, clock
        self._results = metadata.tables[f"{metadata.schema}.request_result"]
        self._queries: dict[str, tuple[type[Request[Any]], Query]] = {}
        self._commands: dict[str, tuple[type[Request[Any]], Command]] = {}
        self._effects: dict[str, tuple[type[Request[Any]], Effective]] = {}
        self._counted = Counter(
            "requests_total", "Requests answered", labelnames=("name", "outcome"), registry=registry
        )

    def query(self, request: type[Q], function: Callable[[Q, Cause], Awaitable[BaseModel]]) -> None:
        """Answer `request` with `function`, which changes nothing."""
        self._queries[request.name] = (request, function)

    def command(self, request: type[Q], function: Callable[[Write, Q, Cause], Awaitable[BaseModel]]) -> None:
        """Execute `request` with `function` in the transaction that also keeps its result under its key."""
        self._commands[request.name] = (request, function)

    def effect(self, request: type[Q], function: Callable[[Write, Q, Cause, Effect], Awaitable[BaseModel]]) -> None:
        """Execute `request` with `function`, which does something outside the database after `Effect.begin`.

        What it writes in its transaction is committed with the result, though the deadline may have passed by then.
        """
        self._effects[request.name] = (request, function)

    async def answer(self, envelope: RequestEnvelope) -> ReplyEnvelope | None:
        """The reply, or None where nobody must be told anything: the outcome is unknown, and stays it."""
        cause = Cause(actor=envelope.actor, correlation_id=envelope.correlationid)
        with span(f"answer {envelope.name}", kind=trace.SpanKind.SERVER):
            try:
                reply = await self._execute(envelope, cause)
            except Problem as problem:
                reply = _refused(problem)
            except TooLateError:
                log.info("A command came too late and was rolled back.", action="request.late", request=envelope.name)
                self._counted.labels(envelope.name, "late").inc()
                return None
            except Exception as error:
                # The caller learns nothing it could rely on, so it is told nothing: unknown.
                log.exception("A request failed.", action="request.failed", request=envelope.name, error=repr(error))
                self._counted.labels(envelope.name, "failed").inc()
                return None
        self._counted.labels(envelope.name, "ok" if reply.ok else "refused").inc()
        return reply

    async def _execute(self, envelope: RequestEnvelope, cause: Cause) -> ReplyEnvelope:
        if envelope.name in self._queries:
            request, query = self._queries[envelope.name]
            timeout = (envelope.deadline - self._clock()).total_seconds()
            async with asyncio.timeout(max(timeout, 0)):
                return _value(envelope, await query(_read(request, envelope), cause))
        if envelope.name in self._commands:
            request_type, command = self._commands[envelope.name]
            _check_key(envelope)
            return await self._execute_once(envelope, _read(request_type, envelope), command, cause)
        if envelope.name in self._effects:
            request_type, effective = self._effects[envelope.name]
            _check_key(envelope)
            return await self._execute_effect(envelope, _read(request_type, envelope), effective, cause)
        raise Invalid(f"there is no request named {envelope.name!r} here")

    async def _execute_once(
        self, envelope: RequestEnvelope, request: Request[Any], command: Command, cause: Cause
    ) -> ReplyEnvelope:
        fingerprint = _fingerprint(envelope, request)
        async with self._database.write() as tx:
            # The same key in another transaction makes this wait until that one has ended.
            if not await self._claim(tx, envelope, fingerprint):
                kept = await self._kept(tx, envelope, fingerprint)
                assert kept is not None  # noqa: S101 - it was there, and nobody deletes it within its deadline
                return kept
            try:
                async with tx.begin_nested():
                    reply = _value(envelope, await command(tx, request, cause))
            except Problem as problem:
                # A refusal changed nothing, and it too is the result that this key stands for.
                reply = _refused(problem)
            await self._keep(tx, envelope, request, reply)
            if not self._in_time(envelope):
                raise TooLateError
            return reply

    async def _execute_effect(
        self, envelope: RequestEnvelope, request: Request[Any], command: Effective, cause: Cause
    ) -> ReplyEnvelope:
        fingerprint = _fingerprint(envelope, request)
        async with self._database.write() as tx:
            # Held as long as somebody is at it, in whichever process; PostgreSQL lets go of it for one that died.
            mine = sa.select(sa.func.pg_try_advisory_xact_lock(sa.func.hashtextextended(self._lock(envelope), 0)))
            if not (await tx.execute(mine)).scalar_one():
                raise StillRunning(envelope.name)
            kept = await self._kept(tx, envelope, fingerprint)
            if kept is not None:
                return kept

            async def claim(beside: Write) -> None:
                await self._claim(beside, envelope, fingerprint)

            effect = Effect(self._database, _key(envelope), claim=claim, in_time=lambda: self._in_time(envelope))
            try:
                async with tx.begin_nested():
                    value = await command(tx, request, cause, effect)
                # What was done stays recorded, also where its description is too large.
                reply = _value(envelope, value)
            except Problem as problem:
                reply = _refused(problem)
            if not effect.begun:
                await self._claim(tx, envelope, fingerprint)
                if not self._in_time(envelope):
                    raise TooLateError
            await self._keep(tx, envelope, request, reply)
            return reply

    def _in_time(self, envelope: RequestEnvelope) -> bool:
        return self._clock() < envelope.deadline

    def _lock(self, envelope: RequestEnvelope) -> str:
        return f"{self._results.schema}.request.{_key(envelope)}"

    async def _claim(self, tx: Write, envelope: RequestEnvelope, fingerprint: bytes) -> bool:
        """Whether the key was free. It is taken in any case."""
        claimed = await tx.execute(
            insert(self._results)
            .values(key=_key(envelope), name=envelope.name, fingerprint=fingerprint)
            .on_conflict_do_nothing()
            .returning(self._results.c.key)
        )
        return claimed.first() is not None

    async def _keep(self, tx: Write, envelope: RequestEnvelope, request: Request[Any], reply: ReplyEnvelope) -> None:
        if reply.value is not None:
            reply = reply.model_copy(update={"value": request.kept_value(reply.value)})
        await tx.execute(
            self._results.update().where(self._results.c.key == _key(envelope)).values(reply=reply.model_dump_json())
        )

    async def _kept(self, tx: Write, envelope: RequestEnvelope, fingerprint: bytes) -> ReplyEnvelope | None:
        """What the key stands for; None while it is free.

        :raises EffectUnknown: an effect was begun under it and has no outcome.
        """
        row = (
            await tx.execute(
                sa.select(self._results.c.fingerprint, self._results.c.reply).where(
                    self._results.c.key == _key(envelope)
                )
            )
        ).first()
        if row is None:
            return None
        if bytes(row.fingerprint) != fingerprint:
            raise KeyReused(f"The key {envelope.idempotency_key!r} was used for a different request. Use a new key.")
        if row.reply is None:
            raise EffectUnknown(envelope.name)
        return ReplyEnvelope.model_validate_json(row.reply)


def _read(request: type[Q], envelope: RequestEnvelope) -> Q:
    """:raises Invalid: it does not fit its form. Whatever does not fit later is a fault of ours, and no refusal."""
    try:
        return request.model_validate(envelope.data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Invalid(f"{where}: {first['msg']}") from error


def _check_key(envelope: RequestEnvelope) -> None:
    if envelope.idempotency_key is None:
        raise Invalid(f"{envelope.name} changes something and needs an idempotency key")


def _key(envelope: RequestEnvelope) -> str:
    # Keys are chosen by callers: one caller's key must not answer another's request.
    return f"{envelope.actor.kind}/{envelope.actor.id}/{envelope.idempotency_key}"


def _fingerprint(envelope: RequestEnvelope, request: Request[Any]) -> bytes:
    return hashlib.sha256(f"{envelope.name}\n{canonical(request.open_data(envelope.data))}".encode()).digest()


def _value(envelope: RequestEnvelope, value: BaseModel) -> ReplyEnvelope:
    """:raises ReplyTooLarge: inside a command's transaction, so that what is refused was not done either."""
    reply = ReplyEnvelope(ok=True, value=value.model_dump(mode="json"))
    if reply.size() > MAX_REPLY_BYTES:
        raise ReplyTooLarge(f"{envelope.name} found more than {MAX_REPLY_BYTES} bytes; ask for less.")
    return reply


def _refused(problem: Problem) -> ReplyEnvelope:
    return ReplyEnvelope(ok=False, problem=problem.details())
