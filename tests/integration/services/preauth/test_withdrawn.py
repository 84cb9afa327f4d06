"""What was armed or scanned ends with what vouched for it: a revoked kiosk, a replaced QR code."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from shared.contracts.requests.preauth import (
    RevokeKiosk,
    SetCardPin,
)
from tests.databases import TestDatabase, locked
from tests.integration.services.preauth.driving import CARD, CP, arm, browser, kiosk_of, log_in, qr_of, scan
from tests.integration.services.preauth.sync_double import SyncDouble
from tests.integration.services.preauth.world import Preauth, cause, running


@pytest.fixture
async def preauth(database: TestDatabase, tmp_path: Path) -> AsyncIterator[Preauth]:
    async with running(database, tmp_path, cooldown_s=0) as one:
        yield one


async def test_a_revoked_kiosk_takes_no_card(preauth: Preauth, sync: SyncDouble) -> None:
    """What a stolen screen armed ends with its key: the next tap charges, and what was scanned completes no login.

    Another kiosk's scan goes on.
    """
    sync.know(CARD)
    async with browser(preauth) as stolen, browser(preauth) as other:
        made = await kiosk_of(preauth, stolen, CP, "CP-8", "CP-9")
        await kiosk_of(preauth, other, "CP-10")
        armed = (await arm(stolen)).json()["pairing_id"]
        scanned, done = await scan(preauth, stolen, charger="CP-8"), await scan(preauth, stolen, charger="CP-9")
        assert (await log_in(stolen, done)).status_code == 200
        assert (await arm(other, "CP-10")).status_code == 201
        await preauth.done(RevokeKiosk(kiosk_id=made["kiosk"]["kiosk_id"]))
        assert await preauth.tap(CARD, CP) is None
        codes = [(await log_in(stolen, one)).json()["code"] for one in (armed, scanned, done)]
        assert codes == ["scan_over"] * 3
        assert (await stolen.get("/me")).status_code == 401
        assert await preauth.tap(CARD, "CP-10") == "BLOCKED"
    [gone] = preauth.events("pairing.cancelled")
    assert (gone["data"]["pairing_id"], gone["data"]["why"]) == (armed, "kiosk_revoked")
    assert (gone["actorkind"], gone["actorid"]) == ("operator", "maria")
    [refused] = preauth.events("scan.login_refused")
    assert (refused["data"]["pairing_id"], refused["data"]["reason"]) == (scanned, "kiosk_revoked")
    [ended] = preauth.rows("SELECT end_reason, ended_at FROM driver_session")
    assert ended["end_reason"] == "kiosk_revoked"
    [out] = preauth.events("driver.signed_out")
    assert (out["data"]["reason"], out["actorkind"], out["actorid"]) == ("kiosk_revoked", "operator", "maria")


async def test_a_session_elsewhere_outlives_a_revoked_kiosk(preauth: Preauth, sync: SyncDouble) -> None:
    """The same card is signed in at two screens: the one that stays keeps its driver, also where the other goes."""
    sync.know(CARD)
    async with browser(preauth) as stolen, browser(preauth) as other:
        made = await kiosk_of(preauth, stolen)
        await kiosk_of(preauth, other, "CP-8")
        assert (await log_in(stolen, await scan(preauth, stolen))).status_code == 200
        assert (await log_in(other, await scan(preauth, other, charger="CP-8"))).status_code == 200
        await preauth.done(RevokeKiosk(kiosk_id=made["kiosk"]["kiosk_id"]))
        assert [(await page.get("/me")).status_code for page in (stolen, other)] == [401, 200]


async def test_a_login_beside_a_revocation_waits_for_it(preauth: Preauth, sync: SyncDouble) -> None:
    """The match became a scan after the revocation had looked for scans: its login is decided when that is done."""
    sync.know(CARD)
    waiting = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    async with browser(preauth) as kiosk:
        made = await kiosk_of(preauth, kiosk)
        pairing_id = await scan(preauth, kiosk)
        preauth.run("UPDATE pairing SET state = 'matched'")
        async with preauth.service.database.write() as tx:
            await preauth.drivers.kiosks.revoke_kiosk(tx, RevokeKiosk(kiosk_id=made["kiosk"]["kiosk_id"]), cause())
            preauth.run("UPDATE pairing SET state = 'intercepted'")
            completing = asyncio.create_task(log_in(kiosk, pairing_id))
            await preauth.until(waiting)
        assert (await completing).json()["code"] == "scan_over"
    assert preauth.rows("SELECT 1 FROM driver_session") == []


async def test_a_kiosk_revoked_during_the_match_completes_no_login(preauth: Preauth, sync: SyncDouble) -> None:
    """A card that was matched at the moment of the revocation is told Blocked, and nobody is signed in by it."""
    sync.know(CARD)
    async with browser(preauth) as stolen:
        made = await kiosk_of(preauth, stolen)
        pairing_id = await scan(preauth, stolen)
        preauth.run("UPDATE pairing SET state = 'matched'")
        await preauth.done(RevokeKiosk(kiosk_id=made["kiosk"]["kiosk_id"]))
        preauth.run("UPDATE pairing SET state = 'intercepted'")
        assert (await log_in(stolen, pairing_id)).json()["code"] == "scan_over"
    assert preauth.rows("SELECT 1 FROM driver_session") == []


async def test_a_rotated_code_takes_no_card(preauth: Preauth, sync: SyncDouble) -> None:
    """What was armed with the old code ends when the charger gets a new one; a kiosk's scan there goes on."""
    sync.know(CARD)
    await preauth.done(SetCardPin(id_tag=CARD, pin="2468"))
    key, other = await qr_of(preauth), await qr_of(preauth, "CP-8")
    async with browser(preauth) as thief, browser(preauth) as neighbour, browser(preauth) as kiosk:
        await kiosk_of(preauth, kiosk)
        armed = (await arm(thief, key=key)).json()["pairing_id"]
        assert (await arm(neighbour, "CP-8", key=other)).status_code == 201
        await qr_of(preauth)
        assert await preauth.tap(CARD, CP) is None
        assert (await log_in(thief, armed, pin="2468")).json()["code"] == "scan_over"
        assert await preauth.tap(CARD, "CP-8") == "BLOCKED"
        assert (await arm(kiosk)).status_code == 201
        await qr_of(preauth)
        assert await preauth.tap(CARD, CP) == "BLOCKED"
        await qr_of(preauth, "CP-8")
    [gone] = preauth.events("pairing.cancelled")
    assert (gone["data"]["pairing_id"], gone["data"]["why"]) == (armed, "qr_rotated")
    [refused] = preauth.events("scan.login_refused")
    assert (refused["data"]["charge_box_id"], refused["data"]["reason"]) == ("CP-8", "qr_rotated")


async def test_a_code_rotated_during_the_match_completes_no_login(preauth: Preauth, sync: SyncDouble) -> None:
    """A card that was matched at the moment of the rotation signs nobody in by the old code; by the new one it does."""
    sync.know(CARD)
    await preauth.done(SetCardPin(id_tag=CARD, pin="2468"))
    async with browser(preauth) as thief:
        pairing_id = await scan(preauth, thief, key=await qr_of(preauth))
        preauth.run("UPDATE pairing SET state = 'matched'")
        key = await qr_of(preauth)
        preauth.run("UPDATE pairing SET state = 'intercepted'")
        assert (await log_in(thief, pairing_id, pin="2468")).json()["code"] == "scan_over"
        assert preauth.rows("SELECT 1 FROM driver_session") == []
    async with browser(preauth) as driver:
        preauth.clock.ahead += timedelta(minutes=11)
        assert (await log_in(driver, await scan(preauth, driver, key=key), pin="2468")).status_code == 200


async def test_a_scan_begun_beside_a_revocation_ends_with_it(preauth: Preauth) -> None:
    """A kiosk that is revoked while it arms is revoked after that, so that its scan is found and cancelled."""
    waiting = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    async with browser(preauth) as kiosk:
        made = await kiosk_of(preauth, kiosk)
        async with locked(preauth.database, b"preauth.pairing", b"SHARE ROW EXCLUSIVE"):
            arming = asyncio.create_task(arm(kiosk))
            await preauth.until(f"{waiting} HAVING count(*) = 1")
            revoking = asyncio.create_task(preauth.done(RevokeKiosk(kiosk_id=made["kiosk"]["kiosk_id"])))
            await preauth.until(f"{waiting} HAVING count(*) = 2")
        assert (await arming).status_code == 201
        await revoking
    assert preauth.rows("SELECT state, result FROM pairing") == [{"state": "cancelled", "result": "kiosk_revoked"}]
