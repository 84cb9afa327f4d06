"""Drivers' browsers and kiosks at a running preauth: what they do before, at and after a scan."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from shared.contracts.requests.preauth import EnrolKiosk, RotateChargerQr
from tests.integration.services.preauth.world import Preauth

CP = "CP:7/ä"
CARD = "04A1"


@asynccontextmanager
async def browser(preauth: Preauth) -> AsyncIterator[httpx.AsyncClient]:
    """Another browser: cookies of its own."""
    async with httpx.AsyncClient(base_url=preauth.http.base_url, trust_env=False, timeout=20) as client:
        yield client


async def kiosk_of(preauth: Preauth, client: httpx.AsyncClient, *chargers: str) -> dict[str, Any]:
    """Make this browser a kiosk for the chargers."""
    made = await preauth.done(EnrolKiosk(kiosk_name="hall", charge_box_ids=list(chargers or (CP,))))
    response = await client.post("/kiosk", data={"code": f" {made['code'][:5].lower()}-{made['code'][5:]} "})
    assert (response.status_code, response.headers["location"]) == (303, "/kiosk")
    return made


async def arm(client: httpx.AsyncClient, charger: str = CP, **more: Any) -> httpx.Response:  # noqa: ANN401 - JSON
    return await client.post("/api/pairings", json={"charge_box_id": charger, **more})


async def scan(preauth: Preauth, client: httpx.AsyncClient, card: str = CARD, charger: str = CP, **more: Any) -> str:  # noqa: ANN401
    """Arm and tap; the pairing, intercepted."""
    armed = await arm(client, charger, **more)
    assert armed.status_code == 201, armed.text
    pairing_id: str = armed.json()["pairing_id"]
    assert await preauth.tap(card, charger) == "BLOCKED"
    await preauth.until("SELECT 1 FROM pairing WHERE pairing_id = %s AND state = 'intercepted'", pairing_id)
    return pairing_id


async def log_in(page: httpx.AsyncClient, pairing_id: str, **body: Any) -> httpx.Response:  # noqa: ANN401 - JSON
    return await page.post(f"/api/pairings/{pairing_id}/login", json=body)


async def qr_of(preauth: Preauth, charger: str = CP) -> str:
    """The secret in the charger's QR code."""
    found = await preauth.done(RotateChargerQr(charge_box_id=charger))
    return httpx.URL(found["address"]).params["key"]


async def read_events(
    client: httpx.AsyncClient, pairing_id: str, last: str | None = None, found: list[tuple[str, str]] | None = None
) -> list[tuple[str, str]]:
    """The stream until a card was taken or all is over: (id, event), each also put into `found` as it comes."""
    headers = {"Last-Event-ID": last} if last is not None else {}
    found = [] if found is None else found
    async with client.stream("GET", f"/api/pairings/{pairing_id}/events", headers=headers) as stream:
        event_id = ""
        async for line in stream.aiter_lines():
            if line.startswith("id: "):
                event_id = line.removeprefix("id: ")
            if line.startswith("event: "):
                found.append((event_id, line.removeprefix("event: ")))
            if found and found[-1][0] >= "3":
                break
    return found


def from_address(client: httpx.AsyncClient, address: str) -> httpx.AsyncClient:
    """The client as if it called from there: the proxy in front says so."""
    client.headers["X-Forwarded-For"] = address
    return client
