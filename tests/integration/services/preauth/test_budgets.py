"""How often scans may be armed: at a charger, by a kiosk, from a source, by strangers."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.contracts.requests.preauth import (
    ArmPairing,
)
from tests.databases import TestDatabase
from tests.integration.services.preauth.driving import CP, arm, browser, from_address, kiosk_of, qr_of, scan
from tests.integration.services.preauth.world import running


async def armed_and_cancelled(client: httpx.AsyncClient, charger: str = CP, **more: str) -> httpx.Response:
    answer = await arm(client, charger, **more)
    if answer.status_code == 201:
        assert (await client.delete(f"/api/pairings/{answer.json()['pairing_id']}")).status_code == 204
    return answer


async def test_a_charger_has_a_budget_and_says_when_it_is_free_again(database: TestDatabase, tmp_path: Path) -> None:
    """Beyond its budget a charger takes no more scans until the oldest of them is ten minutes old."""
    async with running(database, tmp_path, cooldown_s=0, scans_per_charger=3) as preauth, browser(preauth) as kiosk:
        await kiosk_of(preauth, kiosk, CP, "other")
        for _ in range(3):
            assert (await armed_and_cancelled(kiosk)).status_code == 201
            preauth.clock.ahead += timedelta(seconds=60)
        refused = await arm(kiosk)
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_scans")
        assert 415 < refused.json()["retry_after_s"] <= 420
        assert refused.headers["retry-after"] == str(refused.json()["retry_after_s"])
        assert (await armed_and_cancelled(kiosk, "other")).status_code == 201
        preauth.clock.ahead += timedelta(seconds=420)
        assert (await armed_and_cancelled(kiosk)).status_code == 201
        assert (await arm(kiosk)).status_code == 429


async def test_a_stolen_code_uses_up_nobody_elses_budget(database: TestDatabase, tmp_path: Path) -> None:
    """What is armed with the code is counted for itself: the kiosk and operators do not notice."""
    async with (
        running(database, tmp_path, cooldown_s=0, scans_per_charger=3, scans_per_source=100) as preauth,
        browser(preauth) as thief,
        browser(preauth) as kiosk,
    ):
        key = await qr_of(preauth)
        await kiosk_of(preauth, kiosk)
        for _ in range(3):
            assert (await armed_and_cancelled(thief, key=key)).status_code == 201
        assert (await arm(thief, key=key)).status_code == 429
        for _ in range(3):
            assert (await armed_and_cancelled(kiosk)).status_code == 201
        assert (await arm(kiosk)).status_code == 429
        await preauth.done(ArmPairing(charge_box_id=CP, purpose="find_card"))


async def test_a_stranger_holds_a_charger_for_one_window_only(database: TestDatabase, tmp_path: Path) -> None:
    """Two who hold the same code wait for each other, but who comes back and back gives way to who had fewer turns.

    Under another cookie one is the same stranger.
    """
    async with (
        running(database, tmp_path, cooldown_s=0, trusted_proxies="127.0.0.0/8") as preauth,
        browser(preauth) as thief,
        browser(preauth) as again,
        browser(preauth) as driver,
    ):
        key = await qr_of(preauth)
        for one in (thief, again):
            from_address(one, "198.51.100.7")
        from_address(driver, "203.0.113.9")
        assert (await arm(thief, key=key)).status_code == 201
        assert (await arm(driver, key=key)).json()["code"] == "pairing_already_armed"
        preauth.clock.ahead += timedelta(seconds=91)
        held = (await arm(again, key=key)).json()["pairing_id"]
        assert (await arm(driver, key=key)).status_code == 201
        assert (await again.get(f"/api/pairings/{held}")).json()["result"] == "gave_way"
        assert (await arm(thief, key=key)).json()["code"] == "pairing_already_armed"
        # Nor is it the other's for ever: as many turns each, and they wait for each other again.
        preauth.clock.ahead += timedelta(seconds=91)
        assert (await arm(driver, key=key)).status_code == 201
        assert (await arm(thief, key=key)).json()["code"] == "pairing_already_armed"


async def test_a_budget_that_strangers_used_up_leaves_others_their_part(database: TestDatabase, tmp_path: Path) -> None:
    """Whoever uses up a charger's budget for its code, from two addresses, is refused; a third has a part of it."""
    more: dict[str, Any] = {"scans_per_charger": 6, "trusted_proxies": "127.0.0.0/8"}
    async with running(database, tmp_path, cooldown_s=0, **more) as preauth:
        key = await qr_of(preauth)

        async def from_(address: str) -> int:
            async with browser(preauth) as client:
                return (await armed_and_cancelled(from_address(client, address), key=key)).status_code

        assert [await from_(f"198.51.100.{n % 2}") for n in range(7)] == [201] * 6 + [429]
        assert [await from_("203.0.113.9") for _ in range(3)] == [201, 201, 429]
        assert await from_("198.51.100.1") == 429


async def test_a_kiosk_has_a_budget_over_all_its_chargers(database: TestDatabase, tmp_path: Path) -> None:
    """A kiosk that arms one charger after the other is slowed down; another kiosk is not."""
    async with (
        running(database, tmp_path, cooldown_s=0, scans_per_kiosk=2) as preauth,
        browser(preauth) as one,
        browser(preauth) as two,
    ):
        await kiosk_of(preauth, one, "A", "B", "C")
        await kiosk_of(preauth, two, "C")
        statuses = [(await armed_and_cancelled(one, charger)).status_code for charger in "ABC"]
        assert statuses == [201, 201, 429]
        assert (await arm(two, "C")).status_code == 201


async def test_a_source_has_a_budget_over_all_chargers(database: TestDatabase, tmp_path: Path) -> None:
    """Whoever holds many codes is counted by where the requests come from: one IPv6 network is one source."""
    more: dict[str, Any] = {"scans_per_source": 2, "trusted_proxies": "127.0.0.0/8"}
    async with running(database, tmp_path, cooldown_s=0, **more) as preauth:
        keys = {charger: await qr_of(preauth, charger) for charger in "ABCD"}

        async def from_(address: str, charger: str) -> int:
            async with browser(preauth) as client:
                client.headers["X-Forwarded-For"] = f"6.6.6.6, {address}, 127.0.0.9"
                return (await armed_and_cancelled(client, charger, key=keys[charger])).status_code

        assert [await from_(f"2001:db8:1:2::{n}", charger) for n, charger in enumerate("ABC")] == [201, 201, 429]
        assert await from_("2001:db8:1:3::1", "C") == 201
        assert [await from_("198.51.100.7", charger) for charger in "ABC"] == [201, 201, 429]
        assert await from_("::ffff:198.51.100.7", "D") == 429
        assert await from_("198.51.100.8", "D") == 201


@pytest.mark.parametrize("presence", ["kiosk", "qr"])
async def test_scans_that_are_armed_at_once_share_a_budget(
    database: TestDatabase, tmp_path: Path, presence: str
) -> None:
    """As many as come at the same moment: no more are armed than one after the other would be."""
    chargers = "ABCDEFGH"
    async with (
        running(database, tmp_path, cooldown_s=0, scans_per_kiosk=2, scans_per_source=2) as preauth,
        browser(preauth) as client,
    ):
        if presence == "kiosk":
            await kiosk_of(preauth, client, *chargers)
        keys = {charger: {"key": await qr_of(preauth, charger)} if presence == "qr" else {} for charger in chargers}
        armed = await asyncio.gather(*(arm(client, charger, **keys[charger]) for charger in chargers))
        assert sorted(one.status_code for one in armed) == [201] * 2 + [429] * 6


async def test_a_charger_rests_after_a_scan(database: TestDatabase, tmp_path: Path) -> None:
    """Soon after a card was taken, the next scan has to wait: the card may still be in front of the reader."""
    async with running(database, tmp_path, cooldown_s=30) as preauth, browser(preauth) as kiosk:
        await kiosk_of(preauth, kiosk)
        await scan(preauth, kiosk)
        refused = await arm(kiosk)
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_scans")
        assert 25 < refused.json()["retry_after_s"] <= 30
        preauth.clock.ahead += timedelta(seconds=30)
        assert (await arm(kiosk)).status_code == 201
