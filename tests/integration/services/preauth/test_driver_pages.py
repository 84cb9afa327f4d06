"""The driver pages on a real preauth: forms without scripts, and what each page shows of how things stand."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from services.preauth.login.account import Account
from services.preauth.login.attempts import Attempts
from services.preauth.login.browser import Browsers
from services.preauth.login.screens.http import Pages
from services.preauth.login.screens.render import Screens
from shared.contracts.requests.preauth import (
    ArmPairing,
    EnrolKiosk,
    RevokeKiosk,
    RotateChargerQr,
    SetCardPin,
    SwitchInterception,
)
from tests.databases import TestDatabase
from tests.integration.services.preauth.sync_double import SyncDouble
from tests.integration.services.preauth.world import Preauth, running

CP = "CP:7/ä"
CARD = "04A1"


@pytest.fixture
async def preauth(database: TestDatabase, tmp_path: Path) -> AsyncIterator[Preauth]:
    async with running(database, tmp_path, cooldown_s=0) as one:
        yield one


@pytest.fixture
def sync(preauth: Preauth, monkeypatch: pytest.MonkeyPatch) -> SyncDouble:
    double = SyncDouble()
    monkeypatch.setattr(preauth.service.requester, "ask", double.ask)
    return double


@pytest.fixture
def app(preauth: Preauth, sync: SyncDouble) -> Starlette:
    pages = Pages(
        database=preauth.service.database,
        arming=preauth.drivers.arming,
        kiosks=preauth.drivers.kiosks,
        login=preauth.drivers.login,
        account=Account(preauth.service.requester),
        browsers=Browsers(secure=False),
        attempts=Attempts(lambda: 0.0),
        clock=preauth.clock,
        idle_s=180,
        screens=Screens(),
    )
    return Starlette(routes=pages.routes())


@asynccontextmanager
async def browser(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    """Another browser: cookies of its own."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://pages") as client:
        yield client


def screen(response: httpx.Response) -> str:
    """Which stage of a scan the page shows."""
    body = re.sub(r"<template.*?</template>", "", response.text, flags=re.DOTALL)
    found = re.search(r'class="stage" data-screen="([a-z_]+)"', body)
    assert found is not None, body
    return found[1]


async def enrolled(preauth: Preauth, client: httpx.AsyncClient, *chargers: str) -> str:
    made = await preauth.done(EnrolKiosk(kiosk_name="hall", charge_box_ids=list(chargers or (CP,))))
    assert (await client.post("/kiosk", data={"code": made["code"]})).status_code == 303
    kiosk_id: str = made["kiosk"]["kiosk_id"]
    return kiosk_id


async def started(client: httpx.AsyncClient, **more: str) -> httpx.Response:
    """Start a scan by form; the page that the browser is sent to."""
    answer = await client.post("/scan", data={"charger": CP, "do": "start", **more})
    assert answer.status_code == 303, answer.text
    return await client.get(answer.headers["location"])


def hidden(response: httpx.Response, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]+)"', response.text)
    assert found is not None
    return found[1]


async def test_a_login_works_without_scripts(preauth: Preauth, app: Starlette, sync: SyncDouble) -> None:
    """Start, tap, go on, in: by plain forms, while the page asks again every few seconds."""
    sync.know(CARD)
    async with browser(app) as kiosk:
        await enrolled(preauth, kiosk)
        waiting = await started(kiosk)
        assert screen(waiting) == "wait"
        assert '<meta http-equiv="refresh"' in waiting.text
        row = preauth.rows("SELECT code, pairing_id FROM pairing")[0]
        assert f">{row['code']}<" in waiting.text
        assert await preauth.tap(CARD, CP) == "BLOCKED"
        await preauth.until("SELECT 1 FROM pairing WHERE state = 'intercepted'")
        read = await kiosk.get(str(waiting.url))
        assert screen(read) == "working"
        scan = hidden(read, "scan")
        assert scan == str(row["pairing_id"])
        answer = await kiosk.post("/scan", data={"charger": CP, "scan": scan, "do": "complete"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/me")
        me = await kiosk.get("/me")
        assert "Ada&#39;s card" in me.text
        assert CARD not in me.text
        assert me.headers["cache-control"] == "no-store"
        out = await kiosk.post("/me/sign-out")
        assert out.headers["location"] == "/kiosk"
        assert '"cache"' in out.headers["clear-site-data"]
        gone = await kiosk.get("/me")
        assert gone.status_code == 401
        assert "Ada" not in gone.text


async def test_a_pin_works_without_scripts(preauth: Preauth, app: Starlette, sync: SyncDouble) -> None:
    """Behind a QR code the PIN's form comes after the tap, says when it was wrong, and lets in when it was right."""
    sync.know(CARD)
    await preauth.done(SetCardPin(id_tag=CARD, pin="1234"))
    found = await preauth.done(RotateChargerQr(charge_box_id=CP))
    async with browser(app) as phone:
        page = await phone.get("/scan", params=dict(httpx.URL(found["address"]).params))
        assert screen(page) == "ready"
        waiting = await started(phone, key=hidden(page, "key"))
        assert await preauth.tap(CARD, CP) == "BLOCKED"
        await preauth.until("SELECT 1 FROM pairing WHERE state = 'intercepted'")
        form = {"charger": CP, "scan": hidden(await phone.get(str(waiting.url)), "scan"), "do": "complete"}
        asked = await phone.post("/scan", data=form)
        assert screen(asked) == "pin"
        assert hidden(asked, "scan") == form["scan"]
        wrong = await phone.post("/scan", data={**form, "pin": "9999"})
        assert screen(wrong) == "pin_wrong"
        right = await phone.post("/scan", data={**form, "pin": "1234"})
        assert (right.status_code, right.headers["location"]) == (303, "/me")


async def test_a_reload_without_the_key_still_shows_the_scan(app: Starlette) -> None:
    """The script takes the key out of the address, so a reload comes without it; presence is asked at the start."""
    async with browser(app) as phone:
        assert screen(await phone.get("/scan", params={"charger": CP})) == "ready"
        refused = await phone.post("/scan", data={"charger": CP, "do": "start"})
        assert (refused.status_code, screen(refused)) == (403, "not_present")
        assert (await phone.get("/scan")).status_code == 404


async def test_another_browser_learns_nothing_of_a_scan(preauth: Preauth, app: Starlette) -> None:
    """A copied address shows neither the code nor the stage, and a malformed one is answered calmly."""
    async with browser(app) as kiosk, browser(app) as thief:
        await enrolled(preauth, kiosk)
        waiting = await started(kiosk)
        code = preauth.rows("SELECT code FROM pairing")[0]["code"]
        stolen = await thief.get(str(waiting.url))
        assert screen(stolen) == "over"
        assert code not in stolen.text
        assert screen(await thief.get("/scan", params={"charger": CP, "scan": "x" * 4000})) == "over"


async def test_a_form_of_another_site_starts_nothing(preauth: Preauth, app: Starlette) -> None:
    """A page elsewhere cannot start a scan, enrol or sign out with somebody's cookies."""
    async with browser(app) as kiosk:
        await enrolled(preauth, kiosk)
        for path in ("/scan", "/kiosk", "/me/sign-out"):
            with pytest.raises(Exception, match="another site"):
                await kiosk.post(path, data={"charger": CP, "do": "start"}, headers={"Origin": "https://evil.example"})
    assert preauth.rows("SELECT 1 FROM pairing") == []


async def test_a_kiosk_shows_how_its_chargers_stand(preauth: Preauth, app: Starlette) -> None:
    """Free, somebody signing in, cannot sign in, switched off: each charger with its word; a revoked one is told."""
    async with browser(app) as screen_beside:
        kiosk_id = await enrolled(preauth, screen_beside, "A", "B", "C", "D")
        await preauth.done(ArmPairing(charge_box_id="B", purpose="link_card"))
        preauth.run(
            "INSERT INTO charger (charge_box_id, first_seen_at, last_seen_at, ready, ready_reason)"
            " VALUES ('C', now(), now(), 'no', 'it does not ask')"
        )
        await preauth.done(SwitchInterception(on=False, charge_box_id="D", why="test"))
        html = (await screen_beside.get("/kiosk")).text
        said = re.findall(r"<strong>(\w)</strong>.*?<span>([a-z ]+)</span>", html, re.DOTALL)
        assert said == [
            ("A", "free"),
            ("B", "somebody is signing in"),
            ("C", "cannot sign in here"),
            ("D", "switched off"),
        ]
        assert screen(await screen_beside.get("/scan", params={"charger": "C"})) == "unable"
        assert screen(await screen_beside.get("/scan", params={"charger": "D"})) == "off"
        busy = await screen_beside.post("/scan", data={"charger": "B", "do": "start"})
        assert (busy.status_code, screen(busy)) == (409, "busy")
        await preauth.done(RevokeKiosk(kiosk_id=kiosk_id))
        assert "switched off by an operator" in (await screen_beside.get("/kiosk")).text
