"""Our own changes, made once per idempotency key (those of other services are kept by their owners)."""

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from pydantic import BaseModel

from services.admin_api.api import store
from services.admin_api.asking import Ask
from services.admin_api.house import House
from shared.bus.commands import KeyReused
from shared.contracts.request import canonical
from shared.database.engine import Write

R = TypeVar("R", bound=BaseModel)


async def once(
    house: House,
    ask: Ask,
    key: str,
    *,
    name: str,
    given: dict[str, Any],
    reply: type[R],
    run: Callable[[Write], Awaitable[R]],
    shown_once: frozenset[str] = frozenset(),
) -> R:
    """Run a change in one transaction with its result, or return what the same key gave before.

    A refusal rolls everything back and leaves the key unused. Fields in `shown_once` are secrets: they are in the
    first answer only, and null in what is kept.

    :raises KeyReused: the key stands for another request of this caller.
    """
    # Keys are chosen by callers: one caller's key must not answer another's request.
    full_key = f"{ask.caller.kind}/{ask.caller.name}/{key}"
    fingerprint = hashlib.sha256(f"{name}\n{canonical(given)}".encode()).digest()
    async with house.database.write() as tx:
        if not await store.claim(tx, full_key, name=name, fingerprint=fingerprint):
            kept = await store.kept(tx, full_key)
            if kept.fingerprint != fingerprint:
                raise KeyReused(f"The key {key!r} was used for a different request. Use a new key.")
            return reply.model_validate_json(kept.reply)
        made = await run(tx)
        await store.keep(tx, full_key, made.model_copy(update=dict.fromkeys(shown_once)).model_dump_json())
        return made
