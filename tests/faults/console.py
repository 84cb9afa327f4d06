"""An operator at the real admin_api, who asks again while nobody answers."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx

from services.admin_api.bootstrap import first_operator
from tests.faults.world import World
from tests.waiting import until

OWN_PASSWORD = "a long enough password"
# A service that was away asks SteVe again after half a minute at the latest.
WITHIN_S = 90.0


@dataclass(frozen=True)
class Console:
    http: httpx.AsyncClient

    async def until_known(self, id_tag: str) -> None:
        """Wait until sync has read the card from SteVe and says so."""

        async def known() -> bool:
            answer = await self.http.get("/cards", params={"q": id_tag})
            return answer.is_success and bool(answer.json()["items"])

        await until(known, within_s=WITHIN_S)

    async def link(self, id_tag: str, customer: str, subscription: str, valid_from: datetime) -> None:
        body = {
            "external_customer_id": customer,
            "external_subscription_id": subscription,
            "valid_from": valid_from.isoformat(),
        }
        headers = {"Idempotency-Key": uuid4().hex}

        async def linked() -> bool:
            # Unknown, on a busy machine: the same key finds out.
            answer = await self.http.post(f"/cards/{id_tag}/link", json=body, headers=headers)
            assert answer.is_success or answer.status_code in {503, 504}, answer.text
            return answer.is_success

        await until(linked, within_s=WITHIN_S)

    async def entries_of(self, event_type: str, count: int) -> list[dict[str, Any]]:
        """What audit has recorded of a type, once it is that many."""

        async def entries() -> list[dict[str, Any]]:
            answer = await self.http.get("/audit/entries", params={"type": event_type})
            found = list(answer.json()["items"]) if answer.is_success else []
            return found if len(found) >= count else []

        return await until(entries, within_s=WITHIN_S)


@contextlib.asynccontextmanager
async def signed_in(world: World) -> AsyncIterator[Console]:
    """The first operator, with a password of its own."""
    made = await first_operator(world.database.url("admin_api"), one_time=timedelta(hours=1))
    assert made is not None
    url = f"http://127.0.0.1:{world.services['admin_api'].port}/api/v1"
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as http:
        body = {"name": made.operator, "password": made.password, "new_password": OWN_PASSWORD}
        answer = await http.post("/session", json=body)
        assert answer.status_code == 201, answer.text
        http.headers["Authorization"] = f"Bearer {answer.json()['token']}"
        yield Console(http)
