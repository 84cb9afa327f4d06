"""What somebody tries from outside for another driver's login, or to keep drivers from charging: guess, replay, flood.

Arming from afar and a stolen QR code are tested with presence, a copied pairing id and another browser with the login.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from services.preauth.login.browser import BROWSER_COOKIE
from services.preauth.pairing import arming
from shared.contracts.requests.preauth import EnrolKiosk, SetCardPin
from shared.database import engine
from tests.databases import TestDatabase
from tests.integration.services.preauth.driving import CARD, CP, arm, browser, kiosk_of, log_in, qr_of, scan
from tests.integration.services.preauth.sync_double import SyncDouble
from tests.integration.services.preauth.world import Preauth, running


@pytest.fixture
async def preauth(database: TestDatabase, tmp_path: Path) -> AsyncIterator[Preauth]:
    async with running(database, tmp_path, cooldown_s=0) as one:
        yield one


async def test_guessed_ids_secrets_and_codes_open_nothing(preauth: Preauth, sync: SyncDouble) -> None:
    """Ids of scans, secrets of QR codes, tokens of drivers, codes for tokens: a guess always gets the same refusal."""
    sync.know(CARD)
    await qr_of(preauth)
    async with browser(preauth) as kiosk, browser(preauth) as thief:
        await kiosk_of(preauth, kiosk)
        await scan(preauth, kiosk)
        thief.cookies.set("expressync_browser", "guess", domain="127.0.0.1")
        thief.cookies.set("expressync_driver", "guess", domain="127.0.0.1")
        thief.cookies.set("expressync_kiosk", "guess", domain="127.0.0.1")
        scans = [await log_in(thief, str(uuid4())) for _ in range(5)]
        assert {(one.status_code, one.json()["code"]) for one in scans} == {(404, "no_such_scan")}
        arms = [await arm(thief, key=guess) for guess in ("a", "A" * 43, "\x00", "' OR 1=1")]
        assert {one.json()["code"] for one in arms} == {"not_present"}
        assert (await thief.get("/me")).status_code == 401
        form = {"grant_type": "authorization_code", "code": "guess", "client_id": "app", "code_verifier": "v" * 43}
        assert (await thief.post("/api/token", data=form)).json()["error"] == "invalid_grant"
    assert preauth.rows("SELECT 1 FROM driver_session") == []


async def test_a_recorded_call_of_a_card_that_charged_is_no_tap(preauth: Preauth, sync: SyncDouble) -> None:
    """Who has overheard SteVe's call for a card, arms a scan and sends the call again, has no scan."""
    sync.know(CARD)
    overheard = preauth.body(CARD, CP)
    assert (await preauth.post(overheard)).json() == {"override": None}
    async with browser(preauth) as thief:
        await kiosk_of(preauth, thief)
        pairing_id = (await arm(thief)).json()["pairing_id"]
        for later_s in (1, 30, 45):
            assert (await preauth.post(overheard)).json() == {"override": None}
            assert (await log_in(thief, pairing_id)).json()["code"] == "not_scanned"
            preauth.clock.ahead += timedelta(seconds=later_s)
    assert len(preauth.rows("SELECT 1 FROM tap")) == 1


async def test_a_recorded_call_of_a_scan_is_no_other_scan(preauth: Preauth, sync: SyncDouble) -> None:
    """Sent again after its scan became a login, the call is answered as then, and the next scan goes on waiting."""
    sync.know(CARD)
    async with browser(preauth) as kiosk, browser(preauth) as thief:
        await kiosk_of(preauth, kiosk)
        await kiosk_of(preauth, thief)
        armed = (await arm(kiosk)).json()["pairing_id"]
        overheard = preauth.body(CARD, CP)
        assert (await preauth.post(overheard)).json() == {"override": "BLOCKED"}
        await preauth.until("SELECT 1 FROM pairing WHERE state = 'intercepted'")
        assert (await log_in(kiosk, armed)).status_code == 200
        pairing_id = (await arm(thief)).json()["pairing_id"]
        assert (await preauth.post(overheard)).json() == {"override": "BLOCKED"}
        assert (await log_in(thief, pairing_id)).json()["code"] == "not_scanned"
    assert len(preauth.rows("SELECT 1 FROM driver_session")) == 1
    assert len(preauth.events("scan.intercepted")) == 1


async def test_a_flood_of_scans_from_one_address_is_bounded(preauth: Preauth) -> None:
    """With photos of many QR codes one address arms ten scans in ten minutes, whatever it says where it comes from."""
    chargers = [f"CP-{number}" for number in range(12)]
    keys = {charger: await qr_of(preauth, charger) for charger in chargers}
    statuses = []
    for number, charger in enumerate(chargers):
        async with browser(preauth) as thief:
            thief.headers["X-Forwarded-For"] = f"192.0.2.{number}"
            statuses.append((await arm(thief, charger, key=keys[charger])).status_code)
    assert statuses == [201] * 10 + [429] * 2


async def test_a_flood_of_scans_holds_up_nobody_else(database: TestDatabase, tmp_path: Path) -> None:
    """With photos of many QR codes one address starts a hundred scans at once, while its budget cannot be looked at:
    pages are there for others as ever, and scans from elsewhere, also at these chargers.
    """
    chargers = [f"CP-{number}" for number in range(20)]
    more: dict[str, Any] = {"cooldown_s": 0, "trusted_proxies": "127.0.0.0/8"}
    async with running(database, tmp_path, **more) as preauth, browser(preauth) as thief, browser(preauth) as driver:
        keys = {charger: await qr_of(preauth, charger) for charger in chargers}
        thief.headers["X-Forwarded-For"], driver.headers["X-Forwarded-For"] = "192.0.2.1", "192.0.2.2"
        with psycopg.connect(database.admin_url) as holding:
            holding.execute("SELECT pg_advisory_lock(hashtextextended('preauth.budget 192.0.2.1', 0))")
            flood = asyncio.gather(*(arm(thief, charger, key=keys[charger]) for charger in chargers * 5))
            await preauth.until("SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
            began = asyncio.get_running_loop().time()
            assert (await driver.get("/kiosk")).status_code == 200
            assert (await arm(driver, chargers[-1], key=keys[chargers[-1]])).status_code == 201
            assert asyncio.get_running_loop().time() - began < 2
            waiting = preauth.rows("SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        statuses = [answer.status_code for answer in await flood]
    assert len(waiting) == 1
    assert (statuses.count(201), statuses.count(429)) == (10, 90)


async def test_who_waits_too_long_for_a_turn_is_told_why(
    database: TestDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a scan from there that does not come to an end: that many are started. While no connection is to be had:
    that, also to those who only waited for their turn meanwhile.
    """
    monkeypatch.setattr(engine, "WAIT_FOR_CONNECTION_S", 0.4)
    monkeypatch.setattr(arming, "WAIT_S", 0.4)
    async with running(database, tmp_path, cooldown_s=0) as preauth, browser(preauth) as phone:
        key = await qr_of(preauth)
        with psycopg.connect(database.admin_url) as holding:
            holding.execute("SELECT pg_advisory_lock(hashtextextended('preauth.budget 127.0.0.1', 0))")
            first = asyncio.create_task(arm(phone, key=key))
            await preauth.until("SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
            async with asyncio.timeout(2):
                second = await arm(phone, key=key)
            assert (second.status_code, second.json()["code"]) == (429, "too_many_scans")
            assert not first.done()
        assert (await first).status_code == 201
        pool = preauth.service.database.pool
        async with AsyncExitStack() as all_of_them:
            for _ in range(pool.max_size):
                await all_of_them.enter_async_context(pool.connection(timeout=5))
            answers = await asyncio.gather(*(arm(phone, key=key) for _ in range(5)))
        assert [(one.status_code, one.json()["code"]) for one in answers] == [(503, "unavailable")] * 5


async def test_a_flood_of_calls_that_nobody_signed_is_no_tap(preauth: Preauth) -> None:
    """They are refused, none is written down, and the taps between them are decided."""
    async with browser(preauth) as kiosk:
        await kiosk_of(preauth, kiosk)
        await arm(kiosk)
        forged = [preauth.post(preauth.body(f"F{n}", CP), **{"X-Signature": "0" * 64}) for n in range(100)]
        refused, told = await asyncio.gather(asyncio.gather(*forged), preauth.tap(CARD, CP))
    assert {answer.status_code for answer in refused} == {401}
    assert told == "BLOCKED"
    assert [row["id_tag"] for row in preauth.rows("SELECT id_tag FROM tap")] == [CARD]


async def test_a_browser_is_known_by_what_was_made_here(preauth: Preauth) -> None:
    """A name that somebody planted in a browser is replaced by one of ours when it arms a scan; ours is kept."""
    key = await qr_of(preauth)
    async with browser(preauth) as phone:
        plant(phone, "planted-by-a-neighbour")
        armed = await arm(phone, key=key)
        held = phone.cookies[BROWSER_COOKIE]
        assert held != "planted-by-a-neighbour"
        assert len(held) >= 43
        await phone.delete(f"/api/pairings/{armed.json()['pairing_id']}")
        await phone.post("/scan", data={"charger": CP, "key": key, "do": "start"})
        assert phone.cookies[BROWSER_COOKIE] == held


@pytest.mark.parametrize("how", ["a kiosk's offer", "the PIN", "the PIN, by a form"])
async def test_a_planted_browser_is_not_the_owners(preauth: Preauth, sync: SyncDouble, how: str) -> None:
    """The thief gets a name made here and plants it in the owner's phone. The phone is bound, the thief's copy is not:
    it signs in with nothing but the PIN; and the phone still stands for the other card that it was bound to.
    """
    for card in (CARD, "04B2"):
        sync.know(card)
        await preauth.done(SetCardPin(id_tag=card, pin="2468"))
    key = await qr_of(preauth)
    async with browser(preauth) as kiosk, browser(preauth) as phone, browser(preauth) as thief:
        await kiosk_of(preauth, kiosk)
        await thief.delete(f"/api/pairings/{(await arm(thief, key=key)).json()['pairing_id']}")
        planted = thief.cookies[BROWSER_COOKIE]
        plant(phone, planted)
        preauth.run("INSERT INTO bound_browser SELECT '04B2', browser, now(), now() FROM pairing")
        preauth.run("INSERT INTO known_device SELECT '04B2', browser, now(), now() FROM pairing")
        if how == "a kiosk's offer":
            assert (await log_in(kiosk, await scan(preauth, kiosk))).status_code == 200
            code = re.search(r'typed-by-hand">([A-Z0-9]+)<', (await kiosk.post("/me/bindings")).text)
            assert code is not None
            assert (await phone.post("/bind", data={"code": code[1]})).status_code == 200
        elif how == "the PIN":
            assert (await log_in(phone, await scan(preauth, phone, key=key), pin="2468")).status_code == 200
        else:
            form = {"charger": CP, "scan": await scan(preauth, phone, key=key), "do": "complete", "pin": "2468"}
            assert (await phone.post("/scan", data=form)).headers["location"] == "/me"
        assert phone.cookies[BROWSER_COOKIE] != planted
        told = len(preauth.events("login.new_device"))
        for card in (CARD, "04B2"):
            preauth.clock.ahead += timedelta(seconds=700)
            assert (await log_in(thief, await scan(preauth, thief, card, key=key))).json()["code"] == "pin_needed"
            preauth.clock.ahead += timedelta(seconds=700)
            assert (await log_in(phone, await scan(preauth, phone, card, key=key))).status_code == 200
        assert len(preauth.events("login.new_device")) == told, "the phone is no new one for being renamed"


async def test_over_https_no_neighbour_can_set_a_cookie(database: TestDatabase, tmp_path: Path) -> None:
    """Each cookie's name begins with `__Host-`, and one without is not looked at."""
    async with running(database, tmp_path, public_url="https://drivers.example") as preauth:
        made = await preauth.done(EnrolKiosk(kiosk_name="hall", charge_box_ids=[CP]))
        enrolled = await preauth.http.post("/kiosk", data={"code": made["code"]})
        [kiosk] = enrolled.headers.get_list("set-cookie")
        assert kiosk.startswith("__Host-expressync_kiosk=")
        assert {"Secure", "Path=/", "HttpOnly", "SameSite=strict"} <= set(kiosk.split("; "))
        held = kiosk.partition(";")[0]
        async with browser(preauth) as neighbour:
            bare = {"Cookie": held.removeprefix("__Host-")}
            body = {"charge_box_id": CP}
            assert (await neighbour.post("/api/pairings", json=body, headers=bare)).status_code == 403
            armed = await neighbour.post("/api/pairings", json=body, headers={"Cookie": held})
            assert armed.status_code == 201
            assert armed.headers["set-cookie"].startswith("__Host-expressync_browser=")
            [gone] = (await neighbour.get("/me")).headers.get_list("set-cookie")
            assert gone.startswith('__Host-expressync_driver="";')


def plant(client: httpx.AsyncClient, secret: str) -> None:
    client.cookies.set(BROWSER_COOKIE, secret, domain="127.0.0.1", path="/")
