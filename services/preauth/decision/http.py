"""The hook: `POST /api/ocpp/pre-authorize`, byte-compatible with the patched SteVe (facts: the hook)."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from services.preauth.decision.signature import signed, webhook_time
from services.preauth.decision.tap import Decider, Tap
from shared.contracts.events.preauth import Told
from shared.runtime.log import get_logger

log = get_logger(__name__)

PATH: Final = "/api/ocpp/pre-authorize"
MOST_BYTES: Final = 16 * 1024
LONGEST_MESSAGE_ID: Final = 255
LOOK_S: Final = 0.001

BLOCKED: Final = b'{"override":"BLOCKED"}'
NO_OVERRIDE: Final = b'{"override":null}'
INTERNAL: Final = b'{"error":"internal"}'

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=255, pattern=r"^[^\x00]*$")]


class Call(msgspec.Struct, rename="camel"):
    """The body as the patched SteVe sends it; `ts` is epoch milliseconds."""

    id_tag: Name
    charge_box_id: Name
    is_start_tx: bool
    ts: int
    connector_id: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] | None = None


class BadCallError(Exception):
    """A call that is refused. `status` and `code` are the answer; `why` is for the log."""

    def __init__(self, status: int, code: str, why: str) -> None:
        super().__init__(why)
        self.status, self.code, self.why = status, code, why


class Hook:
    """The endpoint, plain ASGI: nothing stands between the server and the decision."""

    def __init__(self, decider: Decider, keys: list[bytes], *, registry: CollectorRegistry) -> None:
        self._decider, self._keys = decider, keys
        self._decoder = msgspec.json.Decoder(Call)
        self._refused = Counter("hook_refused_total", "Hook calls refused", labelnames=("code",), registry=registry)
        self._skew = Gauge("hook_clock_skew_seconds", "The caller's clock minus ours, last call", registry=registry)

    def route(self) -> Route:
        return Route(PATH, self, methods=["POST"], name="pre-authorize")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._serve(scope, receive, send)
        except Exception:
            # No router and no middleware stands before this one, so nobody else would answer.
            log.exception("A hook call failed.", action="hook.failed")
            await _answer(send, 500, INTERNAL)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        arrived = time.monotonic()
        try:
            tap = await self._read(_headers(scope), receive, arrived)
        except BadCallError as error:
            self._refused.labels(error.code).inc()
            log.warning("A hook call was refused.", action="hook.refused", code=error.code, why=error.why)
            await _answer(send, error.status, msgspec.json.encode({"error": error.code}))
            return
        if tap is None:
            return
        decision = await self._decider.decide(tap)
        told: Told = "unknown"
        try:
            # Nobody is let in by a Blocked that nobody read. A pass is spared the look: nothing follows from it.
            gone = self._decider.may_block(decision) and await _caller_left(receive)
            # After the look, which takes its moment. Nothing waits between this and the writing.
            blocked = not gone and self._decider.may_block(decision)
            await _answer(send, 200, BLOCKED if blocked else NO_OVERRIDE)
            if not gone:
                told = "blocked" if blocked else "passed"
        finally:
            self._decider.told(decision, told)

    async def _read(self, headers: dict[str, str], receive: Receive, arrived: float) -> Tap | None:
        body = await _body(headers, receive)
        if body is None:
            return None
        if not self._keys:
            raise BadCallError(401, "unauthorized", "EXPRESSYNC_PREAUTH_HOOK_KEYS has no key")
        if not signed(self._keys, body, headers):
            raise BadCallError(401, "unauthorized", "no signature, or none that our keys make")
        try:
            call = self._decoder.decode(body)
        except msgspec.ValidationError as error:
            raise BadCallError(400, "invalid_body", str(error)) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadCallError(400, "invalid_json", str(error)) from error
        if not call.id_tag.strip():
            raise BadCallError(400, "invalid_body", "idTag is blank")
        try:
            sent_at = datetime.fromtimestamp(call.ts / 1000, UTC)
        except (ValueError, OverflowError, OSError) as error:
            raise BadCallError(400, "invalid_body", f"ts {call.ts} is no time") from error
        self._skew.set(call.ts / 1000 - time.time())
        message_id = headers.get("webhook-id")
        return Tap(
            id_tag_as_sent=call.id_tag,
            charge_box_id=call.charge_box_id,
            connector_id=call.connector_id or None,
            kind="start" if call.is_start_tx else "authorize",
            via="hook",
            arrived=arrived,
            sent_at=sent_at,
            signed_at=webhook_time(headers),
            message_id=message_id[:LONGEST_MESSAGE_ID] if message_id else None,
        )


def _headers(scope: Scope) -> dict[str, str]:
    """By lowercase name, decoded once: each is asked for. Where a name comes twice, the first counts."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])}


async def _body(headers: dict[str, str], receive: Receive) -> bytes | None:
    """The raw body, or None when the caller left before it was complete.

    :raises BadCallError: by its declared length, or as soon as too much has come in.
    """
    declared = headers.get("content-length", "")
    if declared.isdigit() and int(declared) > MOST_BYTES:
        raise BadCallError(413, "body_too_large", f"{declared} bytes; {MOST_BYTES} are allowed")
    body: bytes = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunk: bytes = message.get("body", b"")
        body += chunk
        if len(body) > MOST_BYTES:
            raise BadCallError(413, "body_too_large", f"more than {MOST_BYTES} bytes")
        if not message.get("more_body", False):
            return body


async def _caller_left(receive: Receive) -> bool:
    """Whether the caller has closed its connection: the server writes into the void then, and says nothing.

    The body is read, so all that can come is the disconnect.
    """
    looking = asyncio.ensure_future(receive())
    try:
        # Not only a turn of the loop: where it was held up, the end of the connection is still to be read.
        await asyncio.wait({looking}, timeout=LOOK_S)
        return looking.done() and looking.result()["type"] == "http.disconnect"
    finally:
        looking.cancel()


async def _answer(send: Send, status: int, body: bytes) -> None:
    length = str(len(body)).encode()
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(b"content-type", b"application/json"), (b"content-length", length)],
        }
    )
    await send({"type": "http.response.body", "body": body})
