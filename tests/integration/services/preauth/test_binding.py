"""Binding a phone at a kiosk, and how somebody might get another one bound."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import httpx
import psycopg
import pytest

from services.preauth.login.browser import BROWSER_COOKIE
from services.preauth.pairing.secrets import digest
from shared.contracts.requests.preauth import SetCardPin
from tests.databases import TestDatabase
from tests.integration.services.preauth.driving import CARD, CP, arm, browser, kiosk_of, log_in, qr_of, scan
from tests.integration.services.preauth.sync_double import SyncDouble
from tests.integration.services.preauth.world import Preauth, running


@pytest.fixture
async def preauth(database: TestDatabase, tmp_path: Path) -> AsyncIterator[Preauth]:
    async with running(database, tmp_path, cooldown_s=0) as one:
        yield one


@pytest.fixture
async def kiosk(preauth: Preauth, sync: SyncDouble) -> AsyncIterator[httpx.AsyncClient]:
    """A kiosk at which the card's owner is signed in."""
    sync.know(CARD)
    async with browser(preauth) as client:
        await kiosk_of(preauth, client)
        assert (await log_in(client, await scan(preauth, client))).status_code == 200
        preauth.clock.ahead += timedelta(seconds=100)
        yield client


async def offered(kiosk: httpx.AsyncClient) -> str:
    """The code on the kiosk's screen."""
    page = await kiosk.post("/me/bindings")
    assert page.status_code == 200
    found = re.search(r'typed-by-hand">([A-Z0-9]+)<', page.text)
    assert found is not None
    return found[1]


async def bind(phone: httpx.AsyncClient, code: str) -> int:
    return (await phone.post("/bind", data={"code": code})).status_code


def stands_for(preauth: Preauth, client: httpx.AsyncClient) -> list[str]:
    """The cards that the browser is bound to, by the name that it holds."""
    held = digest(client.cookies[BROWSER_COOKIE])
    return [row["id_tag"] for row in preauth.rows("SELECT id_tag FROM bound_browser WHERE browser = %s", held)]


async def test_a_phone_is_bound_and_signs_in_without_a_pin(preauth: Preauth, kiosk: httpx.AsyncClient) -> None:
    """Offer, scan, confirm: from then on the phone is good behind a QR code, the owner is told, and it is listed."""
    key = await qr_of(preauth)
    async with browser(preauth) as phone:
        pairing_id = (await arm(phone, key=key)).json()["pairing_id"]
        assert await preauth.tap(CARD, CP) is None
        await phone.delete(f"/api/pairings/{pairing_id}")
        code = await offered(kiosk)
        asked = await phone.get("/bind", params={"code": code})
        assert f'value="{code}"' in asked.text
        # Only looked at so far: an address alone binds nothing.
        assert preauth.rows("SELECT 1 FROM bound_browser") == []
        assert await bind(phone, f" {code[:4].lower()}-{code[4:]} ") == 200
        preauth.clock.ahead += timedelta(seconds=30)
        me = await kiosk.get("/me")
        assert "Forget" in me.text
        pairing_id = await scan(preauth, phone, key=key)
        assert (await log_in(phone, pairing_id)).status_code == 200
    devices = [(event["data"]["device"], event["data"]["kiosk_id"]) for event in preauth.events("login.new_device")]
    assert [device for device, _ in devices] == ["kiosk", "browser"]
    [row] = preauth.rows("SELECT bound_at, seen_at FROM bound_browser")
    assert row["seen_at"] > row["bound_at"]


async def test_a_bound_phone_is_forgotten(preauth: Preauth, kiosk: httpx.AsyncClient, sync: SyncDouble) -> None:
    """The owner takes it back; another card's owner cannot, whatever is sent."""
    async with browser(preauth) as phone, browser(preauth) as other:
        assert await bind(phone, await offered(kiosk)) == 200
        found = re.search(r'name="binding" value="([0-9a-f]+)"', (await kiosk.get("/me")).text)
        assert found is not None
        sync.know("04B2")
        await kiosk_of(preauth, other, "elsewhere")
        await log_in(other, await scan(preauth, other, "04B2", "elsewhere"))
        await other.post("/me/bindings/forget", data={"binding": found[1]})
        assert len(preauth.rows("SELECT 1 FROM bound_browser")) == 1
        await kiosk.post("/me/bindings/forget", data={"binding": found[1]})
        assert preauth.rows("SELECT 1 FROM bound_browser") == []
        assert "Forget" not in (await kiosk.get("/me")).text


async def test_a_code_binds_one_browser(preauth: Preauth, kiosk: httpx.AsyncClient) -> None:
    """A second browser with the same code, an offer that another one replaced, and an old one: all refused alike."""
    async with browser(preauth) as phone, browser(preauth) as thief:
        replaced, code = await offered(kiosk), await offered(kiosk)
        assert await bind(thief, replaced) == 403
        assert await bind(phone, code) == 200
        assert await bind(thief, code) == 403
        late = await offered(kiosk)
        preauth.clock.ahead += timedelta(seconds=121)
        assert (await kiosk.get("/me")).status_code == 200
        assert await bind(thief, late) == 403
    assert len(preauth.rows("SELECT 1 FROM bound_browser")) == 1
    assert len(preauth.events("login.new_device")) == 2


@pytest.mark.parametrize("how", ["signed out", "idle"])
async def test_an_offer_ends_with_its_session(preauth: Preauth, kiosk: httpx.AsyncClient, how: str) -> None:
    """Who left the kiosk, or forgot to, leaves no code behind that still works."""
    code = await offered(kiosk)
    if how == "signed out":
        await kiosk.post("/me/sign-out")
    else:
        preauth.run("UPDATE driver_session SET seen_at = seen_at - interval '4 minutes'")
    async with browser(preauth) as thief:
        assert await bind(thief, code) == 403
    assert preauth.rows("SELECT 1 FROM bound_browser") == []


async def test_guessing_is_soon_over(preauth: Preauth, kiosk: httpx.AsyncClient) -> None:
    """After five tries from one address in a minute not even the right code is taken."""
    code = await offered(kiosk)
    async with browser(preauth) as thief:
        assert [await bind(thief, f"GUESS{n}") for n in range(5)] == [403] * 5
        assert await bind(thief, code) == 429
    assert preauth.rows("SELECT 1 FROM bound_browser") == []


async def test_only_who_signed_in_at_a_kiosk_may_bind(preauth: Preauth, sync: SyncDouble) -> None:
    """A session behind a QR code offers nothing, nor does nobody's; another site can neither offer nor confirm."""
    sync.know(CARD)
    await preauth.done(SetCardPin(id_tag=CARD, pin="2468"))
    key = await qr_of(preauth)
    async with browser(preauth) as phone:
        assert (await phone.post("/me/bindings")).headers["location"] == "/me"
        assert (await log_in(phone, await scan(preauth, phone, key=key), pin="2468")).status_code == 200
        assert "Bind your phone" not in (await phone.get("/me")).text
        assert (await phone.post("/me/bindings")).headers["location"] == "/me"
        for path in ("/me/bindings", "/me/bindings/forget", "/bind"):
            answer = await phone.post(path, data={"code": "X"}, headers={"Origin": "https://evil.example"})
            assert answer.status_code == 403
            assert "another site" in answer.text
    assert preauth.rows("SELECT 1 FROM binding_offer") == []
    assert len(preauth.rows("SELECT 1 FROM bound_browser")) == 1


@pytest.mark.parametrize("how", ["a kiosk's offer", "the PIN"])
async def test_a_phone_that_is_bound_keeps_its_other_scans(
    preauth: Preauth, kiosk: httpx.AsyncClient, how: str
) -> None:
    """In two other tabs a scan waits for a card, and one that was taken for its login: both go on, and without a PIN;
    what the phone held before opens neither. The login that bound it is told again to who asks with that.
    """
    await preauth.done(SetCardPin(id_tag=CARD, pin="2468"))
    keys = {charger: await qr_of(preauth, charger) for charger in ("here", "taken", "waits")}
    async with browser(preauth) as phone, browser(preauth) as before:
        here = await scan(preauth, phone, charger="here", key=keys["here"])
        taken = await scan(preauth, phone, charger="taken", key=keys["taken"])
        waits = (await arm(phone, "waits", key=keys["waits"])).json()["pairing_id"]
        before.cookies.update(phone.cookies)
        if how == "the PIN":
            assert (await log_in(phone, here, pin="2468")).status_code == 200
            assert (await log_in(before, here)).status_code == 200
        else:
            assert await bind(phone, await offered(kiosk)) == 200
        for pairing_id in (taken, waits):
            assert (await before.get(f"/api/pairings/{pairing_id}")).status_code == 404
        assert (await log_in(phone, taken)).status_code == 200
        assert await preauth.tap(CARD, "waits") == "BLOCKED"
        await preauth.until("SELECT 1 FROM pairing WHERE pairing_id = %s AND state = 'intercepted'", waits)
        assert (await log_in(phone, waits)).status_code == 200
    assert [event["data"]["device"] for event in preauth.events("login.new_device")] == ["kiosk", "browser"]


async def test_two_scans_of_a_phone_are_completed_at_once(
    preauth: Preauth, kiosk: httpx.AsyncClient, database: TestDatabase
) -> None:
    """Each with the PIN, so that each could give the phone a new name, and the other's scan with it: one after the
    other, and whichever is first, the phone is bound once and stands for its owner from then on.
    """
    await preauth.done(SetCardPin(id_tag=CARD, pin="2468"))
    keys = {charger: await qr_of(preauth, charger) for charger in ("A", "B")}
    async with browser(preauth) as phone:
        scans = [await scan(preauth, phone, charger=charger, key=key) for charger, key in keys.items()]
        with psycopg.connect(database.admin_url) as holding:
            await asyncio.to_thread(holding.execute, "LOCK TABLE preauth.driver_session IN SHARE MODE")
            both = [asyncio.create_task(log_in(phone, one, pin="2468")) for one in scans]
            await preauth.until("SELECT FROM pg_locks WHERE NOT granted HAVING count(*) = 2")
        answers = await asyncio.gather(*both)
        assert [answer.status_code for answer in answers] == [200, 200]
        assert [BROWSER_COOKIE in answer.cookies for answer in answers].count(True) == 1
        assert stands_for(preauth, phone) == [CARD]
        assert len(preauth.rows("SELECT FROM bound_browser")) == 1


async def test_a_scan_of_a_name_that_was_given_up_gets_no_other(
    preauth: Preauth, kiosk: httpx.AsyncClient, sync: SyncDouble, database: TestDatabase
) -> None:
    """A thief has the phone's name from before it was bound, and under it a scan with a card and a PIN of the thief's
    own, whose check takes until the owner has bound the phone: that is a login, and gives the thief nothing that stands
    for the owner.
    """
    sync.know("04B2")
    await preauth.done(SetCardPin(id_tag="04B2", pin="1357"))
    key = await qr_of(preauth)
    async with browser(preauth) as phone, browser(preauth) as thief:
        stolen = await scan(preauth, thief, "04B2", key=key)
        phone.cookies.update(thief.cookies)
        code = await offered(kiosk)
        with psycopg.connect(database.admin_url) as holding:
            holding.execute("SELECT FROM preauth.card_pin FOR UPDATE")
            trying = asyncio.create_task(log_in(thief, stolen, pin="1357"))
            await preauth.until("SELECT FROM pg_locks WHERE NOT granted")
            assert await bind(phone, code) == 200
        answer = await trying
        assert answer.status_code == 200
        assert BROWSER_COOKIE not in answer.cookies
        assert stands_for(preauth, thief) == []
        assert stands_for(preauth, phone) == [CARD]
