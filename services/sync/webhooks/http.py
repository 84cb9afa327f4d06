"""`POST /webhooks/lago`: what Lago tells is stored before it is answered (facts: Webhooks)."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.sync.upstreams.errors import UpstreamError
from services.sync.webhooks import rules, signature, store
from services.sync.webhooks.issuer import Issuer, IssuerCache
from services.sync.webhooks.rules import Received, UnreadableError
from services.sync.webhooks.signature import BadSignatureError
from shared.bus.outbox import Outbox
from shared.contracts.events.sync import WebhookReceived
from shared.contracts.identity import Actor, Cause
from shared.contracts.problem import Conflict, Problem
from shared.database.engine import Database, after_commit, is_unavailable
from shared.runtime.clock import Clock, NewId
from shared.runtime.log import get_logger
from shared.web.body import read_body
from shared.web.problems import BadBody, Forbidden, Unauthorized, problem_response

log = get_logger(__name__)

PATH: Final = "/webhooks/lago"
# An invoice with thousands of fees; anything larger is only a hint that is missed.
MOST_BYTES: Final = 2 * 1024 * 1024
READ_WITHIN_S: Final = 10.0
LONGEST_KEY: Final = 255

Algorithm = Literal["hmac", "jwt"]


class KeyReused(Conflict):
    code, title = "unique_key_reused", "This unique key belongs to another webhook"


class TooSlow(Problem):
    code, status, title = "body_too_slow", 408, "The body did not come in time"


class NotNow(Problem):
    """Lago tries again by itself."""

    code, status, title = "try_again", 503, "It cannot be taken right now"


class Intake:
    """The endpoint. `dispatch` is called when there is something new to act on."""

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        issuer: IssuerCache,
        *,
        keys: Sequence[bytes],
        issued_by: str,
        clock: Clock,
        new_id: NewId,
        dispatch: Callable[[], None],
        registry: CollectorRegistry,
    ) -> None:
        self._database, self._outbox, self._issuer = database, outbox, issuer
        self._keys, self._issued_by = keys, issued_by
        self._clock, self._new_id, self._dispatch = clock, new_id, dispatch
        self._counted = Counter(
            "webhooks_total", "Webhooks by how they were answered", labelnames=("outcome",), registry=registry
        )

    def route(self) -> Route:
        return Route(PATH, self.receive, methods=["POST"], name="lago-webhook")

    async def receive(self, request: Request) -> Response:
        try:
            return await self._receive(request)
        except ClientDisconnect:
            self._counted.labels("left").inc()
            return Response(status_code=400)
        except Problem as problem:
            self._counted.labels(problem.code).inc()
            log.warning("A webhook was refused.", action="webhook.refused", code=problem.code, why=problem.detail)
            return problem_response(problem)
        except Exception as error:  # noqa: BLE001 - Lago has to be told, whatever it is
            # It was not stored, so Lago sends it again.
            self._counted.labels("not_stored").inc()
            level = log.warning if is_unavailable(error) else log.exception
            level("A webhook was not stored.", action="webhook.not_stored", error=repr(error))
            return problem_response(NotNow("It was not stored; send it again."))

    async def _receive(self, request: Request) -> Response:
        unique_key = request.headers.get("X-Lago-Unique-Key", "")
        body = await self._body(request)
        algorithm = await self._verify(request, body)
        if not (0 < len(unique_key) <= LONGEST_KEY and unique_key.isprintable()):
            raise BadBody("X-Lago-Unique-Key is missing, or is no key of Lago's.")
        try:
            received = rules.read(body)
        except UnreadableError as error:
            raise BadBody(error.why) from error
        await self._check_organization(received, algorithm)
        stored = await self._store(unique_key, algorithm, received, body)
        if stored == "other_body":
            raise KeyReused(f"Another webhook was received under the key {unique_key}; this one was not stored.")
        self._counted.labels(stored).inc()
        return JSONResponse({"stored": stored})

    @staticmethod
    async def _body(request: Request) -> bytes:
        try:
            async with asyncio.timeout(READ_WITHIN_S):
                return await read_body(request, MOST_BYTES)
        except TimeoutError as error:
            raise TooSlow(f"The body was not complete after {READ_WITHIN_S:g} s.") from error

    async def _verify(self, request: Request, body: bytes) -> Algorithm:
        given = request.headers.get("X-Lago-Signature", "")
        algorithm = request.headers.get("X-Lago-Signature-Algorithm", "")
        try:
            return await self._verified(algorithm, given, body)
        except BadSignatureError as error:
            log.warning("A webhook is not Lago's.", action="webhook.forged", why=error.why)
            raise Unauthorized("The signature is not Lago's; ExpresSync's log says why.") from error

    async def _verified(self, algorithm: str, given: str, body: bytes) -> Algorithm:
        if not given:
            raise BadSignatureError("it has no signature")
        if algorithm == "hmac":
            signature.verify_hmac(self._keys, body, given)
            return "hmac"
        if algorithm == "jwt":
            await self._verify_jwt(body, given)
            return "jwt"
        raise BadSignatureError(f"it is signed with {algorithm[:50]!r}; hmac and jwt are known")

    async def _verify_jwt(self, body: bytes, token: str) -> None:
        issuer = await self._asked_issuer()
        try:
            signature.verify_jwt(issuer.key, body, token, issuer=self._issued_by)
        except BadSignatureError:
            # Lago may have a new key since.
            renewed = await self._issuer.renewed(issuer)
            if renewed is None:
                raise
            signature.verify_jwt(renewed.key, body, token, issuer=self._issued_by)

    async def _check_organization(self, received: Received, algorithm: Algorithm) -> None:
        """An HMAC key is one organisation's own; Lago's RSA key signs for all that it hosts."""
        if algorithm == "hmac":
            return
        ours = (await self._asked_issuer()).organization_id
        if ours is not None and received.organization_id != ours:
            raise Forbidden("It is about another organisation of this Lago.")

    async def _asked_issuer(self) -> Issuer:
        try:
            return await self._issuer.current()
        except UpstreamError as error:
            raise NotNow(f"Lago's public key cannot be had: it {error.explanation}. Send it again.") from error

    async def _store(self, unique_key: str, algorithm: Algorithm, received: Received, body: bytes) -> store.Stored:
        now = self._clock()
        async with self._database.write() as tx:
            stored = await store.keep(
                tx,
                {
                    "unique_key": unique_key,
                    "webhook_type": received.webhook_type,
                    "object_type": received.object_type,
                    "object_id": received.object_id,
                    "body": body,
                    "algorithm": algorithm,
                    "received_at": now,
                    "state": "waiting",
                    "next_attempt_at": now,
                },
            )
            if stored == "new":
                event = WebhookReceived(
                    unique_key=unique_key,
                    webhook_type=received.webhook_type,
                    object_type=received.object_type,
                    object_id=received.object_id,
                )
                cause = Cause(actor=Actor(kind="upstream", id="lago"), correlation_id=self._new_id())
                await self._outbox.add(tx, event, cause)
            if stored in ("new", "revived"):
                after_commit(tx, self._dispatch)
        return stored
