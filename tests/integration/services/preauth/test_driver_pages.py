"""The driver pages on a real preauth: forms without scripts, and what each page shows of how things stand."""

import asyncio
import html
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from structlog.testing import capture_logs

from services.preauth.login.browser import BROWSER_COOKIE, KIOSK_COOKIE
from shared.contracts.requests.preauth import (
    ArmPairing,
    RevokeKiosk,
    SetCardPin,
    SwitchInterception,
)
from tests.databases import TestDatabase, refusing
from tests.integration.services.preauth.applications import CALLBACK, CLIENT, OLD_KEY, settings_with
from tests.integration.services.preauth.driving import CARD, CP, arm, browser, kiosk_of, qr_of
from tests.integration.services.preauth.sync_double import SyncDouble
from tests.integration.services.preauth.world import Preauth, running
from tests.waiting import until


@pytest.fixture
async def preauth(database: TestDatabase, tmp_path: Path) -> AsyncIterator[Preauth]:
    async with running(database, tmp_path, **settings_with(OLD_KEY)) as one:
        yield one


def screen(response: httpx.Response) -> str:
    """Which stage of a scan the page shows."""
    body = re.sub(r"<template.*?</template>", "", response.text, flags=re.DOTALL)
    found = re.search(r'class="stage" data-screen="([a-z_]+)"', body)
    assert found is not None, body
    return found[1]


async def started(client: httpx.AsyncClient, **more: str) -> httpx.Response:
    """Start a scan by form; the page that the browser is sent to."""
    answer = await client.post("/scan", data={"charger": CP, "do": "start", **more})
    assert answer.status_code == 303, answer.text
    return await client.get(answer.headers["location"])


def hidden(response: httpx.Response, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]+)"', response.text)
    assert found is not None
    return html.unescape(found[1])


async def test_a_login_works_without_scripts(preauth: Preauth, sync: SyncDouble) -> None:
    """Start, tap, go on, in: by plain forms, while the page asks again every few seconds."""
    sync.know(CARD)
    async with browser(preauth) as kiosk:
        await kiosk_of(preauth, kiosk)
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


async def test_a_pin_works_without_scripts(preauth: Preauth, sync: SyncDouble) -> None:
    """Behind a QR code the PIN's form comes after the tap, says when it was wrong, and lets in when it was right."""
    sync.know(CARD)
    await preauth.done(SetCardPin(id_tag=CARD, pin="1234"))
    key = await qr_of(preauth)
    async with browser(preauth) as phone:
        page = await phone.get("/scan", params={"charger": CP, "key": key})
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


async def test_a_reload_without_the_key_still_shows_the_scan(preauth: Preauth) -> None:
    """The script takes the key out of the address, so a reload comes without it; presence is asked at the start."""
    async with browser(preauth) as phone:
        assert screen(await phone.get("/scan", params={"charger": CP})) == "ready"
        refused = await phone.post("/scan", data={"charger": CP, "do": "start"})
        assert (refused.status_code, screen(refused)) == (403, "not_present")
        assert (await phone.get("/scan")).status_code == 404


async def test_a_device_in_use_is_never_forgotten(preauth: Preauth) -> None:
    """Browsers drop a cookie after 400 days: a kiosk gets its key anew with its page, a phone its name with a scan."""

    def renewed(response: httpx.Response, name: str, client: httpx.AsyncClient) -> bool:
        return any(
            cookie.startswith(f"{name}={client.cookies[name]};") and "Max-Age=34560000;" in cookie
            for cookie in response.headers.get_list("set-cookie")
        )

    async with browser(preauth) as kiosk:
        await kiosk_of(preauth, kiosk)
        assert renewed(await kiosk.get("/kiosk"), KIOSK_COOKIE, kiosk)
        first = await arm(kiosk)
        held = kiosk.cookies[BROWSER_COOKIE]
        assert (await kiosk.delete(f"/api/pairings/{first.json()['pairing_id']}")).status_code == 204
        again = await kiosk.post("/scan", data={"charger": CP, "do": "start"})
        assert renewed(again, BROWSER_COOKIE, kiosk)
        pairing_id = str(preauth.rows("SELECT pairing_id FROM pairing WHERE state = 'armed'")[0]["pairing_id"])
        assert (await kiosk.delete(f"/api/pairings/{pairing_id}")).status_code == 204
        assert renewed(await arm(kiosk), BROWSER_COOKIE, kiosk)
        assert kiosk.cookies[BROWSER_COOKIE] == held


async def test_another_browser_learns_nothing_of_a_scan(preauth: Preauth) -> None:
    """A copied address shows neither the code nor the stage, and a malformed one is answered calmly."""
    async with browser(preauth) as kiosk, browser(preauth) as thief:
        await kiosk_of(preauth, kiosk)
        waiting = await started(kiosk)
        code = preauth.rows("SELECT code FROM pairing")[0]["code"]
        stolen = await thief.get(str(waiting.url))
        assert screen(stolen) == "over"
        assert code not in stolen.text
        assert screen(await thief.get("/scan", params={"charger": CP, "scan": "x" * 4000})) == "over"


async def test_a_form_of_another_site_starts_nothing(preauth: Preauth) -> None:
    """A page elsewhere cannot start a scan, enrol or sign out with somebody's cookies."""
    async with browser(preauth) as kiosk:
        await kiosk_of(preauth, kiosk)
        for path in ("/scan", "/kiosk", "/me/sign-out"):
            form = {"charger": CP, "do": "start"}
            refused = await kiosk.post(path, data=form, headers={"Origin": "https://evil.example"})
            assert refused.status_code == 403
            assert "This came from another site" in refused.text
    assert preauth.rows("SELECT 1 FROM pairing") == []


async def test_a_kiosk_shows_how_its_chargers_stand(preauth: Preauth) -> None:
    """Free, somebody signing in, cannot sign in, switched off: each charger with its word; a revoked one is told."""
    async with browser(preauth) as screen_beside:
        made = await kiosk_of(preauth, screen_beside, "A", "B", "C", "D")
        await preauth.done(ArmPairing(charge_box_id="B", purpose="link_card"))
        preauth.run(
            "INSERT INTO charger (charge_box_id, first_seen_at, last_seen_at, ready, ready_reason)"
            " VALUES ('C', now(), now(), 'no', 'it does not ask')"
        )
        await preauth.done(SwitchInterception(on=False, charge_box_id="D", why="test"))
        text = (await screen_beside.get("/kiosk")).text
        said = re.findall(r"<strong>(\w)</strong>.*?<span>([a-z ]+)</span>", text, re.DOTALL)
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
        await preauth.done(RevokeKiosk(kiosk_id=made["kiosk"]["kiosk_id"]))
        assert "switched off by an operator" in (await screen_beside.get("/kiosk")).text


async def test_a_scan_is_cancelled_without_scripts(preauth: Preauth) -> None:
    """Cancel is a form too; it is the own scan that is cancelled, and the page says so."""
    async with browser(preauth) as kiosk, browser(preauth) as stranger:
        await kiosk_of(preauth, kiosk)
        waiting = await started(kiosk, connector="2")
        form = {"charger": CP, "scan": hidden(waiting, "scan"), "do": "cancel"}
        await stranger.post("/scan", data=form)
        assert preauth.rows("SELECT state, connector_id FROM pairing") == [{"state": "armed", "connector_id": 2}]
        answer = await kiosk.post("/scan", data={**form, "connector": hidden(waiting, "connector")})
        ended = await kiosk.get(answer.headers["location"])
        assert screen(ended) == "cancelled"
        assert "Connector 2" in ended.text
    assert len(preauth.events("pairing.cancelled")) == 1


@pytest.mark.parametrize("connector", ["0", "-1", "x", "1" * 400, "²"])
async def test_a_strange_connector_is_none(preauth: Preauth, connector: str) -> None:
    """What is no connector's number leaves the scan to the charger as a whole."""
    page = await preauth.http.get("/scan", params={"charger": CP, "connector": connector})
    assert (page.status_code, screen(page)) == (200, "ready")
    assert "data-connector" not in page.text


async def test_another_application_gets_its_code_without_scripts(preauth: Preauth, sync: SyncDouble) -> None:
    """What the application asked with goes along through every form, and the last page leads to it with a code."""
    sync.know(CARD)
    async with browser(preauth) as kiosk:
        await kiosk_of(preauth, kiosk)
        waiting = await started(kiosk, **CLIENT)
        assert await preauth.tap(CARD, CP) == "BLOCKED"
        await preauth.until("SELECT 1 FROM pairing WHERE state = 'intercepted'")
        read = await kiosk.get(str(waiting.url))
        form = {name: hidden(read, name) for name in ("charger", "scan", *CLIENT)}
        # An address that is not configured costs nothing.
        wrong = await kiosk.post("/scan", data={**form, "do": "complete", "redirect_uri": "https://evil.example"})
        assert (wrong.status_code, screen(wrong)) == (400, "failed")
        done = await kiosk.post("/scan", data={**form, "do": "complete"})
        assert (done.status_code, screen(done)) == (200, "done")
        found = re.search(r'<a class="button primary" href="([^"]+)"', done.text)
        assert found is not None
        address = httpx.URL(html.unescape(found[1]))
        assert str(address.copy_with(query=None)) == CALLBACK
        assert (len(address.params["code"]) > 20, address.params["state"]) == (True, CLIENT["state"])
        assert (await kiosk.get("/me")).status_code == 200


async def test_a_page_whose_house_is_not_all_there_says_so(preauth: Preauth) -> None:
    """While the database cannot answer, people get a page that tries again; programs get a problem."""
    async with browser(preauth) as kiosk:
        await kiosk_of(preauth, kiosk)
        preauth.run("ALTER TABLE kiosk RENAME TO kiosk_gone")
        for path in ("/kiosk", f"/scan?charger={CP}", "/me"):
            page = await kiosk.get(path)
            assert page.status_code == 503
            assert "We cannot show this page just now" in page.text
            assert 'data-after="15" data-next="/kiosk"' in page.text
            assert '<noscript><meta http-equiv="refresh" content="15;url=/kiosk"></noscript>' in page.text
        answer = await arm(kiosk)
        assert answer.headers["content-type"] == "application/problem+json"
        preauth.run("ALTER TABLE kiosk_gone RENAME TO kiosk")
        assert (await kiosk.get("/kiosk")).status_code == 200


async def test_a_page_whose_database_is_away_may_ask_again(preauth: Preauth) -> None:
    """No connection to be had: people get the page that tries again, programs a problem that says so, and afterwards
    the scan stands where it stood. The log says which pages went without, and for what kind of error.
    """
    preauth.service.database.pool.timeout = 1.0
    async with browser(preauth) as kiosk:
        await kiosk_of(preauth, kiosk)
        pairing_id = (await arm(kiosk)).json()["pairing_id"]
        pairing = f"/api/pairings/{pairing_id}"
        form = {"charger": CP, "do": "complete", "scan": pairing_id}
        with refusing(preauth.database), capture_logs() as lines:
            by_form, by_refused_form, pages, programs = await asyncio.gather(
                kiosk.post("/scan", data=form),
                # Refused without the database, which the page that says so then asks for.
                kiosk.post("/scan", data={**form, **CLIENT, "client_id": "nobody"}),
                asyncio.gather(*[kiosk.get(path) for path in ("/kiosk", f"/scan?charger={CP}")]),
                asyncio.gather(
                    arm(kiosk),
                    kiosk.get(pairing),
                    kiosk.get(f"{pairing}/events"),
                    kiosk.post(f"{pairing}/login", json={}),
                ),
            )
        assert [page.status_code for page in pages] == [503, 503]
        assert all("We cannot show this page just now" in page.text for page in (*pages, by_form, by_refused_form))
        assert all(f"scan={pairing_id}" in page.text for page in (by_form, by_refused_form))
        assert [(answer.status_code, answer.json()["code"]) for answer in programs] == [(503, "unavailable")] * 4
        said = [line for line in lines if line.get("action") == "page.away"]
        asked = ["/kiosk", "/scan", "/api/pairings", pairing, f"{pairing}/events", f"{pairing}/login"]
        assert sorted(line["path"] for line in said) == sorted(asked)
        assert {line["error"] for line in said} <= {"PoolTimeout", "OperationalError"}

        async def stands() -> bool:
            found = await kiosk.get(pairing)
            return found.status_code == 200 and bool(found.json()["state"] == "armed")

        await until(stands)


async def test_a_form_that_is_none_is_answered_with_a_page(preauth: Preauth) -> None:
    """Bytes instead of a form: a page that says where to begin."""
    answer = await preauth.http.post("/scan", content=b"\xff")
    assert answer.status_code == 400
    assert "That could not be read" in answer.text
