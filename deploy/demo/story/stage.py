"""The doors that the story goes through: the fleet's remote control, the operators' API, a kiosk, the counts."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any, TypeVar
from urllib.parse import quote
from uuid import uuid4

import httpx

T = TypeVar("T")
Json = dict[str, Any]


class StageError(Exception):
    """A door did not open: who was asked for what, and what came back."""

    def __init__(self, asked: str, answer: httpx.Response) -> None:
        super().__init__(f"{asked} answered {answer.status_code}: {answer.text[:500]}")
        self.status = answer.status_code


class Stage:
    """Clients of one running demo. Use as an async context manager's value and close it."""

    def __init__(
        self,
        *,
        fleet_url: str,
        admin_url: str,
        token: str,
        drivers_url: str,
        lago_url: str,
        steve_url: str,
        steve_user: tuple[str, str],
    ) -> None:
        self.admin_url = admin_url
        self._steve_user = steve_user
        self._fleet = httpx.AsyncClient(base_url=fleet_url, timeout=20, trust_env=False)
        self._admin = httpx.AsyncClient(
            base_url=f"{admin_url}/api/v1",
            headers={"Authorization": f"Bearer {token}"},
            timeout=20,
            trust_env=False,
        )
        # A browser with cookies of its own: the screen that stands beside the chargers.
        self._kiosk = httpx.AsyncClient(base_url=drivers_url, timeout=20, trust_env=False)
        self._lago = httpx.AsyncClient(base_url=lago_url, timeout=20, trust_env=False)
        self._steve = httpx.AsyncClient(base_url=steve_url, timeout=20, trust_env=False)

    async def close(self) -> None:
        for client in (self._fleet, self._admin, self._kiosk, self._lago, self._steve):
            await client.aclose()

    async def connected_chargers(self) -> set[str]:
        answer = await self._steve.get("/_sim/state")
        return {charger["charge_box_id"] for charger in answer.json()["chargers"] if charger["connected"]}

    async def close_left_over(self) -> int:
        """Stop by hand, in SteVe, transactions that no charger knows of: a demo that was killed left them."""
        charging = {session["transaction_id"] for *_, session in await self._sessions()}
        active: list[int] = (await self._steve.get("/_sim/state")).json()["active_transactions"]
        left_over = [pk for pk in active if pk not in charging]
        for pk in left_over:
            answer = await self._steve.patch(f"/steve/api/v1/transactions/{pk}/stop", auth=self._steve_user)
            if answer.status_code >= 400:
                raise StageError(f"stopping transaction {pk}", answer)
        return len(left_over)

    async def send_drivers_home(self) -> None:
        """End every session, so that none stays open when the chargers go."""
        for charge_box_id, connector_id, _ in await self._sessions():
            await self.stop(charge_box_id, connector_id)

    async def _sessions(self) -> list[tuple[str, int, Json]]:
        chargers = (await self._fleet.get("/state")).json()["chargers"]
        return [
            (charger["charge_box_id"], connector["connector_id"], connector["session"])
            for charger in chargers
            for connector in charger["connectors"]
            if connector["session"]
        ]

    async def tap(self, charge_box_id: str, connector_id: int, id_tag: str) -> Json:
        """What the charger was told: {"authorize": "Blocked", "start": null, "charging": false, ...}."""
        order = {"charge_box_id": charge_box_id, "connector_id": connector_id, "id_tag": id_tag}
        return await self._order("/tap", order)

    async def stop(self, charge_box_id: str, connector_id: int) -> Json:
        return await self._order("/stop", {"charge_box_id": charge_box_id, "connector_id": connector_id})

    async def _order(self, path: str, order: Json) -> Json:
        answer = await self._fleet.post(path, json=order)
        if answer.status_code >= 400:
            raise StageError(f"the fleet's {path}", answer)
        told: Json = answer.json()
        return told

    async def ask(self, path: str, **query: Any) -> Json:  # noqa: ANN401 - query values
        """GET of the operators' API."""
        answer = await self._admin.get(path, params=query)
        if answer.status_code >= 400:
            raise StageError(f"GET {path}", answer)
        found: Json = answer.json()
        return found

    async def change(self, path: str, body: Json | None = None) -> Json:
        """POST of the operators' API, under a fresh idempotency key."""
        answer = await self._admin.post(path, json=body or {}, headers={"Idempotency-Key": str(uuid4())})
        if answer.status_code >= 400:
            raise StageError(f"POST {path}", answer)
        made: Json = answer.json()
        return made

    async def set_up_kiosk(self, *chargers: str) -> None:
        """Make the story's browser a kiosk beside these chargers."""
        made = await self.change("/kiosks", {"name": "Demo kiosk", "charge_box_ids": list(chargers)})
        answer = await self._kiosk.post("/kiosk", data={"code": made["code"]})
        if answer.status_code != httpx.codes.SEE_OTHER:
            raise StageError("the kiosk's enrolment", answer)

    async def arm(self, charge_box_id: str) -> Json:
        """At the kiosk a driver chooses the charger; the next card tapped there logs in here."""
        return await self._at_kiosk("/api/pairings", {"charge_box_id": charge_box_id})

    async def log_in(self, pairing_id: str) -> httpx.Response:
        """The page, told of the scan, completes the login: the page that the driver arrives at."""
        return await self._kiosk.get((await self._at_kiosk(f"/api/pairings/{pairing_id}/login", {}))["next"])

    async def log_out(self) -> None:
        await self._kiosk.post("/me/sign-out")

    async def _at_kiosk(self, path: str, body: Json) -> Json:
        answer = await self._kiosk.post(path, json=body)
        if answer.status_code >= 400:
            raise StageError(f"the kiosk's POST {path}", answer)
        made: Json = answer.json()
        return made

    async def counted_wh(self, subscription: str) -> int:
        """What Lago counts for a subscription in its current period, in Wh."""
        state = (await self._lago.get("/_sim/state")).json()
        units = state["counted"].get(subscription, {}).get("ev_charging_kwh", {}).get("units", "0")
        return int(Decimal(units) * 1000)


def card_path(id_tag: str) -> str:
    return f"/cards/{quote(id_tag, safe='')}"


async def eventually(probe: Callable[[], Awaitable[T]], *, within_s: float = 20) -> T:
    """The first truthy answer, or the last one when the time is up."""
    deadline = time.monotonic() + within_s
    while not (answer := await probe()) and time.monotonic() < deadline:  # noqa: ASYNC110 - asks another process
        await asyncio.sleep(0.1)
    return answer
