"""Scan-to-login: the one login, its page, and the ways in which somebody might steal it."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from services.preauth.decision.tap import Tap
from services.preauth.login.stream import MOST_PER_PAIRING
from shared.contracts.requests.preauth import (
    ArmPairing,
    SetCardPin,
)
from tests.databases import TestDatabase
from tests.integration.services.preauth.driving import (
    CARD,
    CP,
    arm,
    browser,
    kiosk_of,
    log_in,
    qr_of,
    read_events,
    scan,
)
from tests.integration.services.preauth.sync_double import SyncDouble
from tests.integration.services.preauth.world import Preauth, running
from tests.waiting import until


@pytest.fixture
async def preauth(database: TestDatabase, tmp_path: Path) -> AsyncIterator[Preauth]:
    async with running(database, tmp_path, cooldown_s=0) as one:
        yield one


async def test_a_scan_at_a_kiosk_becomes_a_session_once(preauth: Preauth, sync: SyncDouble) -> None:
    """Choose, tap, in: the driver gets a session, the owner an event about the new kiosk, and nobody a second login."""
    sync.know(CARD)
    async with browser(preauth) as kiosk:
        await kiosk_of(preauth, kiosk)
        pairing_id = await scan(preauth, kiosk)
        assert CARD not in (await kiosk.get(f"/api/pairings/{pairing_id}")).text
        answer = await log_in(kiosk, pairing_id)
        assert (answer.status_code, answer.json()) == (200, {"next": "/me"})
        assert "httponly" in answer.headers["set-cookie"].lower()
        me = await kiosk.get("/me")
        assert me.status_code == 200
        assert "Ada&#39;s card" in me.text
        assert CARD not in me.text
        assert (await kiosk.post("/me/sign-out")).status_code == 303
        assert (await kiosk.get("/me")).status_code == 401
        # The answer may have got lost: soon after, the same browser may ask again, but the session has ended.
        assert (await log_in(kiosk, pairing_id)).json()["code"] == "already_used"
    [succeeded] = preauth.events("scan.login_succeeded")
    assert succeeded["data"]["pairing_id"] == pairing_id
    assert [event["data"]["device"] for event in preauth.events("login.new_device")] == ["kiosk"]
    assert [event["data"]["reason"] for event in preauth.events("driver.signed_out")] == ["asked"]


async def test_many_logins_at_once_are_one(preauth: Preauth, sync: SyncDouble) -> None:
    """However often the page asks, a scan becomes one session."""
    sync.know(CARD)
    async with browser(preauth) as kiosk:
        await kiosk_of(preauth, kiosk)
        pairing_id = await scan(preauth, kiosk)
        answers = await asyncio.gather(*(log_in(kiosk, pairing_id) for _ in range(5)))
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert len(preauth.rows("SELECT 1 FROM driver_session")) == 1
    assert len(preauth.events("scan.login_succeeded")) == 1


async def test_a_lost_answer_is_asked_for_again(preauth: Preauth, sync: SyncDouble) -> None:
    """The same browser gets the same session under a new token; the one that got lost opens nothing."""
    sync.know(CARD)
    async with browser(preauth) as kiosk:
        await kiosk_of(preauth, kiosk)
        pairing_id = await scan(preauth, kiosk)
        lost = (await log_in(kiosk, pairing_id)).cookies["expressync_driver"]
        assert (await log_in(kiosk, pairing_id)).status_code == 200
        assert (await kiosk.get("/me")).status_code == 200
        async with browser(preauth) as thief:
            thief.cookies.set("expressync_driver", lost, domain="127.0.0.1")
            assert (await thief.get("/me")).status_code == 401
    assert len(preauth.rows("SELECT 1 FROM driver_session")) == 1


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({}, "unknown_card"),
        ({"blocked": True}, "blocked"),
        ({"active": False}, "inactive"),
        ({"expiry": timedelta(seconds=-1)}, "expired"),
        ({"silent": True}, "no_answer"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_every_refusal_looks_the_same(
    preauth: Preauth, sync: SyncDouble, how: dict[str, Any], reason: str
) -> None:
    """Unknown, blocked, expired, inactive, or nobody answers: one refusal, and the true reason for us."""
    if "expiry" in how:
        how = {"expiry": preauth.clock() + how["expiry"]}
    sync.silent = how.pop("silent", False)
    if reason != "unknown_card":
        sync.know(CARD, **how)
    async with browser(preauth) as kiosk:
        await kiosk_of(preauth, kiosk)
        pairing_id = await scan(preauth, kiosk)
        answer = await log_in(kiosk, pairing_id)
        assert answer.status_code == 403
        assert answer.json() == {
            "type": "urn:expressync:problem:login_refused",
            "title": "This card cannot be used here",
            "status": 403,
            "code": "login_refused",
            "detail": "You cannot log in with this card now. Ask whoever gave it to you.",
        }
        assert (await kiosk.get("/me")).status_code == 401
    assert [event["data"]["reason"] for event in preauth.events("scan.login_refused")] == [reason]
    assert preauth.rows("SELECT 1 FROM driver_session") == []


async def test_a_copied_pairing_id_is_worthless(preauth: Preauth, sync: SyncDouble) -> None:
    """Another browser, even another kiosk of the same charger, cannot see, cancel, follow or use a scan."""
    sync.know(CARD)
    async with browser(preauth) as kiosk, browser(preauth) as thief:
        await kiosk_of(preauth, kiosk)
        await kiosk_of(preauth, thief)
        pairing_id = await scan(preauth, kiosk)
        # It has a browser cookie of its own, from a scan of its own.
        assert (await arm(thief, CP)).status_code == 201
        place = f"/api/pairings/{pairing_id}"
        for answer in (
            await thief.get(place),
            await thief.delete(place),
            await thief.get(f"{place}/events"),
            await log_in(thief, pairing_id),
        ):
            assert (answer.status_code, answer.json()["code"]) == (404, "no_such_scan")
        assert (await log_in(kiosk, pairing_id)).status_code == 200


async def test_an_operators_scan_logs_nobody_in(preauth: Preauth, sync: SyncDouble) -> None:
    """A scan armed to find or link a card belongs to no browser and is no login."""
    sync.know(CARD)
    armed = await preauth.done(ArmPairing(charge_box_id=CP, purpose="link_card"))
    assert await preauth.tap(CARD, CP) == "BLOCKED"
    await preauth.until("SELECT 1 FROM pairing WHERE state = 'intercepted'")
    async with browser(preauth) as kiosk:
        await kiosk_of(preauth, kiosk, "other")
        await arm(kiosk, "other")
        assert (await log_in(kiosk, armed["pairing_id"])).status_code == 404
    assert preauth.rows("SELECT state FROM pairing WHERE purpose = 'link_card'") == [{"state": "intercepted"}]


async def test_no_login_without_a_scan(preauth: Preauth, sync: SyncDouble) -> None:
    """Before the tap, after the window, after a cancel, and where Blocked was not told in time, nobody gets in."""
    sync.know(CARD)
    async with browser(preauth) as kiosk:
        await kiosk_of(preauth, kiosk)
        first = (await arm(kiosk)).json()["pairing_id"]
        assert (await log_in(kiosk, first)).json()["code"] == "not_scanned"
        assert (await kiosk.delete(f"/api/pairings/{first}")).status_code == 204
        assert (await log_in(kiosk, first)).json()["code"] == "scan_over"
        second = (await arm(kiosk)).json()["pairing_id"]
        decider = preauth.taps.decider
        decision = await decider.decide(Tap(CARD, CP, "authorize", "hook", asyncio.get_running_loop().time()))
        assert decision.reason == "matched"
        assert (await log_in(kiosk, second)).json()["code"] == "not_scanned"
        decider.told(decision, "passed")
        await preauth.until("SELECT 1 FROM pairing WHERE state = 'void'")
        assert (await log_in(kiosk, second)).json()["code"] == "scan_over"
        third = await scan(preauth, kiosk, "04B2")
        preauth.clock.ahead += timedelta(seconds=121)
        assert (await log_in(kiosk, third)).json()["code"] in {"scan_over", "already_used"}
    assert preauth.rows("SELECT 1 FROM driver_session") == []


async def test_the_page_learns_of_the_match_and_resumes(preauth: Preauth, sync: SyncDouble) -> None:
    """The stream tells each stage once; a page that reconnects after the match goes on from there."""
    sync.know(CARD)
    async with browser(preauth) as kiosk:
        await kiosk_of(preauth, kiosk)
        pairing_id = (await arm(kiosk)).json()["pairing_id"]
        following = asyncio.create_task(read_events(kiosk, pairing_id))
        await asyncio.sleep(0.1)
        assert await preauth.tap(CARD, CP) == "BLOCKED"
        async with asyncio.timeout(2):
            told = await following
        assert told[0] == ("1", "armed")
        assert told[-1] == ("3", "intercepted")
        assert await read_events(kiosk, pairing_id, last="1") == [("3", "intercepted")]
        assert (await log_in(kiosk, pairing_id)).status_code == 200
        assert await read_events(kiosk, pairing_id, last="3") == [("4", "consumed")]
        over = await kiosk.get(f"/api/pairings/{pairing_id}/events", headers={"Last-Event-ID": "4"})
        assert over.status_code == 204


async def test_the_page_learns_that_it_was_another_card(preauth: Preauth, sync: SyncDouble) -> None:
    """Behind a QR code each card that may not sign in is told as a hint, known or not, and the scan goes on."""
    sync.know(CARD)
    sync.know("04C3")
    await preauth.done(SetCardPin(id_tag=CARD, pin="2468"))
    key = await qr_of(preauth)
    async with browser(preauth) as phone, browser(preauth) as stranger:
        pairing_id = (await arm(phone, key=key)).json()["pairing_id"]
        place = f"/api/pairings/{pairing_id}"
        told: list[tuple[str, str]] = []
        following = asyncio.create_task(read_events(phone, pairing_id, found=told))
        await until(lambda: was_told(told, ("1", "armed")))
        said = []
        for n, card in enumerate(("04C3", "NOBODY"), start=1):
            assert await preauth.tap(card, CP) is None
            await until(lambda n=n: was_told(told, (f"1.{n}", "another_card")))  # type: ignore[misc]
            view = (await phone.get(place)).json()
            said.append({name: view[name] for name in view if name not in {"expires_in_s", "other_cards"}})
        assert said[0] == said[1]
        assert "04C3" not in str(said)
        # Told in words also where no script runs.
        page = await phone.get("/scan", params={"charger": CP, "scan": pairing_id})
        assert "That was another card" in page.text.partition("<template")[0]
        assert (await stranger.get(place)).status_code == 404
        assert await preauth.tap(CARD, CP) == "BLOCKED"
        async with asyncio.timeout(5):
            await following
        assert [name for _, name in told if name != "matched"] == [
            "armed",
            "another_card",
            "another_card",
            "intercepted",
        ]
        # A page that comes back is told only what it missed.
        resumed = await read_events(phone, pairing_id, last="1.1")
        assert resumed == [("3.2", "intercepted")]
        # While the PIN is asked for, too: the card that was read may have been somebody else's.
        assert (await phone.get(place)).json()["other_card"] == "another_card"
        assert await preauth.tap("04C3", CP) is None
        assert await read_events(phone, pairing_id, last="3.2") == [("3.3", "another_card")]
        assert (await phone.get(place)).json()["other_card"] == "came_later"


async def test_the_page_learns_that_the_card_charges_there(preauth: Preauth, sync: SyncDouble) -> None:
    """A driver who wants to sign in with the card that charges there hears why it did not work.

    Behind a QR code, which may be read from afar, it is a card like any other.
    """
    sync.know(CARD)
    said = []
    async with browser(preauth) as kiosk, browser(preauth) as phone:
        await kiosk_of(preauth, kiosk)
        for page, charger, more in ((kiosk, CP, {}), (phone, "CP-8", {"key": await qr_of(preauth, "CP-8")})):
            preauth.run(
                "INSERT INTO open_session (charge_box_id, transaction_id, connector_id, id_tag, started_at)"
                " VALUES (%s, 1, 1, %s, now())",
                charger,
                CARD,
            )
            place = f"/api/pairings/{(await arm(page, charger, **more)).json()['pairing_id']}"
            assert await preauth.tap(CARD, charger) is None
            view = (await page.get(place)).json()
            said.append((view["state"], view["other_cards"], view["other_card"]))
            html = (await page.get("/scan", params={"charger": charger, "scan": view["pairing_id"]})).text
            assert ("That card is charging here" in html.partition("<template")[0]) == (page is kiosk)
    assert said == [("armed", 1, "charges_here"), ("armed", 1, "another_card")]


async def was_told(told: list[tuple[str, str]], event: tuple[str, str]) -> bool:
    return event in told


async def test_another_replica_completes_the_login(
    preauth: Preauth, sync: SyncDouble, database: TestDatabase, tmp_path: Path
) -> None:
    """Armed here, tapped at another replica: the page here learns of it within a moment."""
    sync.know(CARD)
    async with running(database, tmp_path / "b") as other, browser(preauth) as kiosk:
        await kiosk_of(preauth, kiosk)
        pairing_id = (await arm(kiosk)).json()["pairing_id"]
        following = asyncio.create_task(read_events(kiosk, pairing_id))
        assert await other.tap(CARD, CP) == "BLOCKED"
        async with asyncio.timeout(3):
            assert (await following)[-1] == ("3", "intercepted")
        assert (await log_in(kiosk, pairing_id)).status_code == 200


async def test_a_flood_of_pages_is_refused_before_it_is_answered(preauth: Preauth) -> None:
    """More streams than a page needs are 503 at once; those that end make room, and nothing of them is kept."""
    async with browser(preauth) as kiosk:
        await kiosk_of(preauth, kiosk)
        pairing_id = (await arm(kiosk)).json()["pairing_id"]
        place = f"/api/pairings/{pairing_id}/events"
        async with AsyncExitStack() as pages:
            for _ in range(MOST_PER_PAIRING):
                page = await pages.enter_async_context(kiosk.stream("GET", place))
                assert page.status_code == 200
            flood = await asyncio.gather(*(kiosk.get(place) for _ in range(20)))
            assert {(one.status_code, one.json()["code"]) for one in flood} == {(503, "too_many_waiting")}

        async def room() -> bool:
            async with kiosk.stream("GET", place) as page:
                return page.status_code == 200

        await until(room)
        await kiosk.delete(f"/api/pairings/{pairing_id}")
    watch = preauth.drivers.watch

    async def nobody_waits() -> bool:
        return watch.waiting == 0

    await until(nobody_waits)
    # Also a refused page leaves nothing behind.
    assert not watch._waiting
    assert not watch._states


@pytest.mark.parametrize("last", ["²", "-1", "9", "1e0", "99999999999999999999"])
async def test_a_strange_last_event_id_starts_from_the_beginning(preauth: Preauth, last: str) -> None:
    """What is no id of ours is as good as none."""
    async with browser(preauth) as kiosk:
        await kiosk_of(preauth, kiosk)
        pairing_id = (await arm(kiosk)).json()["pairing_id"]
        await kiosk.delete(f"/api/pairings/{pairing_id}")
        headers = {b"Last-Event-ID": last.encode("latin-1")}
        told = await kiosk.get(f"/api/pairings/{pairing_id}/events", headers=headers)
        assert "event: cancelled" in told.text


async def test_idle_drivers_are_signed_out(preauth: Preauth, sync: SyncDouble) -> None:
    """After the idle time a session opens nothing, and that it ended is told."""
    sync.know(CARD)
    async with browser(preauth) as kiosk:
        await kiosk_of(preauth, kiosk)
        await log_in(kiosk, await scan(preauth, kiosk))
        preauth.clock.ahead += timedelta(seconds=170)
        assert (await kiosk.get("/me")).status_code == 200
        preauth.clock.ahead += timedelta(seconds=181)
        assert (await kiosk.get("/me")).status_code == 401
    await preauth.until("SELECT 1 FROM outbox WHERE routing_key = 'driver.signed_out'")
    assert preauth.events("driver.signed_out")[0]["data"]["reason"] == "idle"


async def test_a_page_that_looks_keeps_nobody_signed_in(preauth: Preauth, sync: SyncDouble) -> None:
    """Two pages of one session, each of which looks when its time is over: what they see is the time that is left."""
    sync.know(CARD)
    async with browser(preauth) as kiosk:
        await kiosk_of(preauth, kiosk)
        await log_in(kiosk, await scan(preauth, kiosk))
        assert 'data-left="180"' in (await kiosk.get("/me")).text
        for after_s, left_s in ((90, 90), (60, 30), (20, 10)):
            preauth.clock.ahead += timedelta(seconds=after_s)
            look = await kiosk.get("/me", params={"look": ""})
            found = re.search(r'data-left="(\d+)"', look.text)
            assert look.status_code == 200
            assert found is not None
            assert left_s - 8 < int(found[1]) <= left_s
            assert 'url=/me?look"' in look.text
        preauth.clock.ahead += timedelta(seconds=10)
        out = await kiosk.get("/me", params={"look": ""})
        assert out.status_code == 401
        assert "You are signed out" in out.text


async def test_another_sites_request_is_refused(preauth: Preauth) -> None:
    """A change that another site makes the browser send is refused."""
    async with browser(preauth) as kiosk:
        await kiosk_of(preauth, kiosk)
        for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            answer = await kiosk.post("/api/pairings", json={"charge_box_id": CP}, headers=headers)
            assert answer.status_code == 403
        answer = await kiosk.post("/api/pairings", content=b'{"charge_box_id":"x"}')
        assert answer.json()["code"] == "invalid_body"
