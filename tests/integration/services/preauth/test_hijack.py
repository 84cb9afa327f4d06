"""What somebody tries from outside for another driver's login, or to keep drivers from charging: guess, replay, flood.

Arming from afar and a stolen QR code are tested with presence, a copied pairing id and another browser with the login.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

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
