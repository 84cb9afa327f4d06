"""The patched SteVe's call before it answers a tap. Bytes, headers and budget: facts/hook.md."""

import asyncio
import hashlib
import hmac
from collections import Counter

import httpx
import msgspec

from deploy.demo.steve.settings import HookSettings


class _Call(msgspec.Struct, rename="camel"):
    id_tag: str
    charge_box_id: str
    connector_id: int | None
    is_start_tx: bool
    ts: int  # epoch milliseconds


class _Answer(msgspec.Struct):
    override: str | None


def signature(key: str, body: bytes) -> str:
    """Lowercase hex HMAC-SHA256 of the raw body."""
    return hmac.new(key.encode(), body, hashlib.sha256).hexdigest()


class PreAuthorizeHook:
    """Asks for an override. Anything but a well-formed 200 within the budget is no override.

    `outcomes` counts how calls ended: "BLOCKED", "none", "timeout", "unreachable", "status 500", "bad body".
    """

    def __init__(self, settings: HookSettings) -> None:
        self._settings = settings
        # A connection that the other side closes under a call is no override: keeping them is that side's business.
        limits = httpx.Limits(
            max_connections=None, max_keepalive_connections=None, keepalive_expiry=settings.keep_alive_s
        )
        self._client = httpx.AsyncClient(timeout=None, limits=limits, trust_env=False)  # noqa: S113
        self.outcomes: Counter[str] = Counter()

    async def asks_to_block(
        self, *, id_tag: str, charge_box_id: str, connector_id: int | None, is_start: bool, ts_ms: int
    ) -> bool:
        call = _Call(
            id_tag=id_tag, charge_box_id=charge_box_id, connector_id=connector_id, is_start_tx=is_start, ts=ts_ms
        )
        outcome = await self._ask(msgspec.json.encode(call))
        self.outcomes[outcome] += 1
        return outcome == "BLOCKED"

    async def close(self) -> None:
        await self._client.aclose()

    async def _ask(self, body: bytes) -> str:
        headers = {"Content-Type": "application/json", "X-Signature": signature(self._settings.key, body)}
        try:
            async with asyncio.timeout(self._settings.budget_ms / 1000):
                response = await self._client.post(self._settings.url, content=body, headers=headers)
        except TimeoutError:
            return "timeout"
        except httpx.HTTPError:
            return "unreachable"
        if response.status_code != httpx.codes.OK:
            return f"status {response.status_code}"
        try:
            answer = msgspec.json.decode(response.content, type=_Answer)
        except msgspec.DecodeError:
            return "bad body"
        return "BLOCKED" if answer.override == "BLOCKED" else "none"
