"""Presence at the charger: kiosks, QR codes and PINs, and what each is good for."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from shared.contracts.requests.preauth import (
    ArmPairing,
    EnrolKiosk,
    ListKiosks,
    PrintChargerQr,
    RevokeKiosk,
    SetCardPin,
)
from tests.databases import TestDatabase
from tests.integration.services.preauth.driving import (
    CARD,
    CP,
    arm,
    browser,
    from_address,
    kiosk_of,
    log_in,
    qr_of,
    scan,
)
from tests.integration.services.preauth.sync_double import SyncDouble
from tests.integration.services.preauth.world import Preauth, running


@pytest.fixture
async def preauth(database: TestDatabase, tmp_path: Path) -> AsyncIterator[Preauth]:
    async with running(database, tmp_path, cooldown_s=0) as one:
        yield one


async def test_arming_needs_presence(preauth: Preauth) -> None:
    """From afar, with a guessed or an old secret, with another charger's kiosk, or a revoked one: nothing is armed."""
    old = await qr_of(preauth)
    await qr_of(preauth)
    async with browser(preauth) as stranger, browser(preauth) as kiosk:
        made = await kiosk_of(preauth, kiosk, "other")
        attempts = [
            await arm(stranger),
            await arm(stranger, key="guess"),
            await arm(stranger, key=old),
            await arm(stranger, key=""),
            await arm(kiosk),
            await arm(kiosk, "unknown-charger"),
        ]
        await preauth.done(RevokeKiosk(kiosk_id=made["kiosk"]["kiosk_id"]))
        attempts.append(await arm(kiosk, "other"))
        assert {(one.status_code, one.json()["code"]) for one in attempts} == {(403, "not_present")}
        assert len({one.text for one in attempts}) == 1
    assert preauth.rows("SELECT 1 FROM pairing") == []
    assert await preauth.tap(CARD, CP) is None
    [listed] = (await preauth.done(ListKiosks()))["kiosks"]
    assert listed["state"] == "revoked"


async def test_an_enrolment_code_works_once_and_not_for_long(preauth: Preauth) -> None:
    """A code that was used, is too old, or was guessed makes no kiosk; and guessing is soon over."""
    async with browser(preauth) as first, browser(preauth) as second:
        made = await kiosk_of(preauth, first)
        assert (await second.post("/kiosk", data={"code": made["code"]})).status_code == 403
        late = await preauth.done(EnrolKiosk(kiosk_name="late", charge_box_ids=[CP]))
        preauth.clock.ahead += timedelta(minutes=10)
        assert (await second.post("/kiosk", data={"code": late["code"]})).status_code == 403
        statuses = [(await second.post("/kiosk", data={"code": f"GUESS{n}"})).status_code for n in range(5)]
        assert statuses[-1] == 429
        assert (await arm(second)).status_code == 403


async def test_an_enrolment_code_is_told_once(preauth: Preauth) -> None:
    """The same key again makes no second kiosk, and finds no code: what is kept of it is a digest."""
    asked = EnrolKiosk(kiosk_name="hall", charge_box_ids=[CP])
    first, again = [(await preauth.ask(asked, key="k")).value for _ in range(2)]
    assert first is not None
    assert first["code"] is not None
    assert again == {**first, "code": None}
    [kept] = preauth.rows("SELECT name, convert_to(reply, 'UTF8') AS reply FROM request_result")
    assert first["code"].encode() not in bytes(kept["reply"])


async def test_who_guesses_from_everywhere_keeps_nobody_out(database: TestDatabase, tmp_path: Path) -> None:
    """However many addresses spend their attempts at codes, another one enrols its screen; each has its own five."""
    async with running(database, tmp_path, trusted_proxies="127.0.0.0/8") as preauth:

        async def guess(address: str) -> int:
            async with browser(preauth) as client:
                return (await from_address(client, address).post("/kiosk", data={"code": "GUESS"})).status_code

        assert [await guess("198.51.100.1") for _ in range(6)] == [403] * 5 + [429]
        for n in range(2, 62):
            assert await guess(f"198.51.100.{n}") == 403
        async with browser(preauth) as screen:
            await kiosk_of(preauth, from_address(screen, "203.0.113.9"))


async def test_a_stolen_qr_code_gains_nothing_and_blocks_nobody(preauth: Preauth, sync: SyncDouble) -> None:
    """Armed with a photo of the code, a scan lets cards without a PIN charge, and asks for the PIN of the others."""
    sync.know(CARD)
    sync.know("04B2")
    await preauth.done(SetCardPin(id_tag="04b2", pin="2468"))
    key = await qr_of(preauth)
    assert (await preauth.done(PrintChargerQr(charge_box_id=CP)))["svg"].startswith("<svg")
    async with browser(preauth) as thief:
        pairing_id = (await arm(thief, key=key)).json()["pairing_id"]
        assert await preauth.tap(CARD, CP) is None
        assert preauth.rows("SELECT reason FROM tap") == [{"reason": "weak_presence"}]
        assert await preauth.tap("04B2", CP) == "BLOCKED"
        await preauth.until("SELECT 1 FROM pairing WHERE state = 'intercepted'")
        assert (await log_in(thief, pairing_id)).json()["code"] == "pin_needed"
        answers = [(await log_in(thief, pairing_id, pin=f"000{n}")).json() for n in range(4)]
        # Three tries, then the scan is over, also for the right one.
        assert [answer["code"] for answer in answers] == ["pin_wrong", "pin_wrong", "pins_spent", "already_used"]
        assert (await log_in(thief, pairing_id, pin="2468")).json()["code"] == "already_used"
        # With the card at the charger again there are more, until the card has had five.
        preauth.clock.ahead += timedelta(seconds=600)
        again = await scan(preauth, thief, "04B2", key=key)
        codes = [(await log_in(thief, again, pin=pin)).json()["code"] for pin in ("0003", "0004", "2468")]
        assert codes == ["pin_wrong", "pin_wrong", "pin_locked"]
        assert (await log_in(thief, again, pin="2468")).json()["code"] == "already_used"
        page = await thief.get("/scan", params={"charger": CP, "scan": again})
        assert 'class="stage" data-screen="pin_locked"' in page.text
        preauth.clock.ahead += timedelta(seconds=60)
        assert (await arm(thief, key=key)).status_code == 201
        assert await preauth.tap("04B2", CP) is None, "it charges the second time"
    # The owner and the operator see each scan in which somebody guessed.
    told = [(event["subject"], event["data"]) for event in preauth.events("scan.login_refused")]
    assert [(subject, data["pairing_id"], data["reason"], data["presence"]) for subject, data in told] == [
        ("card/04B2", pairing_id, "pins_spent", "qr"),
        ("card/04B2", again, "pin_locked", "qr"),
    ]
    assert preauth.rows("SELECT 1 FROM driver_session") == []


async def test_a_scan_that_nobody_completes_is_told(preauth: Preauth, sync: SyncDouble) -> None:
    """Two guesses and away, or none: when the time for it is over, that the scan led to no login is told, once."""
    sync.know(CARD)
    await preauth.done(SetCardPin(id_tag=CARD, pin="2468"))
    async with browser(preauth) as thief:
        pairing_id = await scan(preauth, thief, key=await qr_of(preauth))
        assert [(await log_in(thief, pairing_id, pin="0000")).json()["code"] for _ in range(2)] == ["pin_wrong"] * 2
    preauth.clock.ahead += timedelta(seconds=121)
    await preauth.until("SELECT 1 FROM outbox WHERE routing_key = 'scan.login_refused'")
    await preauth.drivers.login.end_old()
    [event] = preauth.events("scan.login_refused")
    assert (event["data"]["reason"], event["actorkind"]) == ("not_completed", "system")
    assert event["data"]["id_tag"] == CARD


async def test_a_photo_of_the_code_keeps_no_card_from_charging_twice(preauth: Preauth, sync: SyncDouble) -> None:
    """A card with a PIN is told Blocked once for a scan that nobody completes; after that it charges, for ten minutes.

    A scan that its owner completes takes nothing away, nor does one at another charger or in the owner's browser.
    """
    sync.know(CARD)
    await preauth.done(SetCardPin(id_tag=CARD, pin="2468"))
    key, other = await qr_of(preauth), await qr_of(preauth, "CP-8")
    async with browser(preauth) as thief, browser(preauth) as phone, browser(preauth) as new:
        assert (await log_in(phone, await scan(preauth, phone, key=key), pin="2468")).status_code == 200
        preauth.clock.ahead += timedelta(seconds=12)
        await scan(preauth, thief, key=key)
        for _ in range(3):
            preauth.clock.ahead += timedelta(seconds=70)
            assert (await arm(thief, key=key)).status_code == 201
            assert await preauth.tap(CARD, CP) is None
            preauth.clock.ahead += timedelta(seconds=70)
        assert [row["reason"] for row in preauth.rows("SELECT reason FROM tap ORDER BY received_at")] == [
            "matched",
            "matched",
            *["weak_scan_unfinished"] * 3,
        ]
        assert (await log_in(phone, await scan(preauth, phone, key=key))).status_code == 200
        await scan(preauth, new, charger="CP-8", key=other)
        preauth.clock.ahead += timedelta(seconds=200)
        await scan(preauth, thief, key=key)


async def test_who_stands_there_takes_a_waiting_scan_over(preauth: Preauth, sync: SyncDouble) -> None:
    """A scan armed with a photo of the code makes room for the kiosk, at once and as often as it likes."""
    sync.know(CARD)
    key = await qr_of(preauth)
    async with browser(preauth) as thief, browser(preauth) as kiosk:
        await kiosk_of(preauth, kiosk)
        taken = (await arm(thief, key=key)).json()["pairing_id"]
        following = asyncio.create_task(thief.get(f"/api/pairings/{taken}/events"))
        pairing_id = await scan(preauth, kiosk)
        assert '"result": "gave_way"' in (await following).text
        assert (await log_in(thief, taken)).json()["code"] == "scan_over"
        assert (await log_in(kiosk, pairing_id)).status_code == 200
        # Not the other way round, and no kiosk takes another's.
        assert (await arm(kiosk)).status_code == 201
        for who, more in ((thief, {"key": key}), (kiosk, {})):
            refused = await arm(who, **more)
            assert (refused.status_code, refused.json()["code"]) == (409, "pairing_already_armed")
    [gone] = preauth.events("pairing.cancelled")
    assert (gone["data"]["pairing_id"], gone["data"]["why"], gone["actorkind"]) == (taken, "gave_way", "kiosk")


@pytest.mark.parametrize("presence", ["operator", "qr"])
async def test_a_second_tap_is_not_taken_for_the_next_drivers_scan(
    preauth: Preauth, sync: SyncDouble, presence: str
) -> None:
    """A card that was just scanned is told Blocked again though the next scan waits there; that one takes it later."""
    sync.know(CARD)
    await preauth.done(SetCardPin(id_tag=CARD, pin="2468"))
    async with browser(preauth) as kiosk, browser(preauth) as phone:
        await kiosk_of(preauth, kiosk)
        first = await scan(preauth, kiosk)
        if presence == "qr":
            assert (await arm(phone, key=await qr_of(preauth))).status_code == 201
        else:
            await preauth.done(ArmPairing(charge_box_id=CP, purpose="link_card"))
        preauth.clock.ahead += timedelta(seconds=3)
        assert await preauth.tap(CARD, CP) == "BLOCKED"
        assert (await log_in(kiosk, first)).status_code == 200
        preauth.clock.ahead += timedelta(seconds=3)
        assert await preauth.tap(CARD, CP) == "BLOCKED"
        await preauth.until("SELECT FROM tap WHERE told = 'blocked' HAVING count(*) = 3")
        assert [row["state"] for row in preauth.rows("SELECT state FROM pairing ORDER BY armed_at")] == [
            "consumed",
            "armed",
        ]
        preauth.clock.ahead += timedelta(seconds=5)
        assert await preauth.tap(CARD, CP) == "BLOCKED"
    reasons = [row["reason"] for row in preauth.rows("SELECT reason FROM tap ORDER BY received_at")]
    assert reasons == ["matched", "repeated", "repeated", "matched"]


async def test_an_operator_takes_a_weak_scan_over(preauth: Preauth) -> None:
    """Nor does a photo of the code keep an operator from reading a card."""
    key = await qr_of(preauth)
    async with browser(preauth) as thief:
        assert (await arm(thief, key=key)).status_code == 201
        await preauth.done(ArmPairing(charge_box_id=CP, purpose="find_card"))
    assert await preauth.tap(CARD, CP) == "BLOCKED"


async def test_a_bound_browser_takes_an_unbound_ones_scan_over(preauth: Preauth, sync: SyncDouble) -> None:
    """Of two that hold the code, the browser that a card's owner bound comes first; strangers wait for each other."""
    sync.know(CARD)
    await preauth.done(SetCardPin(id_tag=CARD, pin="2468"))
    key = await qr_of(preauth)
    async with browser(preauth) as phone, browser(preauth) as thief, browser(preauth) as other:
        assert (await log_in(phone, await scan(preauth, phone, key=key), pin="2468")).status_code == 200
        preauth.clock.ahead += timedelta(seconds=100)
        assert (await arm(thief, key=key)).status_code == 201
        assert (await arm(other, key=key)).status_code == 409
        assert (await log_in(phone, await scan(preauth, phone, key=key))).status_code == 200
        preauth.clock.ahead += timedelta(seconds=100)
        assert (await arm(phone, key=key)).status_code == 201
        assert (await arm(thief, key=key)).status_code == 409


async def test_a_charger_that_takes_no_cards_arms_nothing(preauth: Preauth) -> None:
    """Where taps are known not to reach us, a scan is refused at its start, to whoever is there."""
    preauth.run(
        "INSERT INTO charger (charge_box_id, first_seen_at, last_seen_at, ready, ready_reason)"
        " VALUES (%s, now(), now(), 'no', 'it does not ask')",
        CP,
    )
    async with browser(preauth) as kiosk, browser(preauth) as stranger:
        await kiosk_of(preauth, kiosk)
        refused = await arm(kiosk)
        assert (refused.status_code, refused.json()["code"]) == (409, "charger_unable")
        assert (await arm(stranger)).json()["code"] == "not_present"
    assert preauth.rows("SELECT 1 FROM pairing") == []


async def test_the_pin_binds_the_owners_browser(preauth: Preauth, sync: SyncDouble) -> None:
    """With the PIN the owner is in, and next time this browser needs none; a changed PIN forgets it."""
    sync.know(CARD)
    await preauth.done(SetCardPin(id_tag=CARD, pin="2468"))
    key = await qr_of(preauth)
    async with browser(preauth) as phone:
        first = await scan(preauth, phone, key=key)
        assert (await log_in(phone, first, pin="1111")).status_code == 403
        assert (await log_in(phone, first, pin="2468")).status_code == 200
        preauth.clock.ahead += timedelta(seconds=100)
        second = await scan(preauth, phone, key=key)
        assert (await log_in(phone, second)).status_code == 200
        preauth.clock.ahead += timedelta(seconds=100)
        await preauth.done(SetCardPin(id_tag=CARD, pin="1357"))
        third = await scan(preauth, phone, key=key)
        assert (await log_in(phone, third)).json()["code"] == "pin_needed"
    assert len(preauth.events("card.pin_changed")) == 2
