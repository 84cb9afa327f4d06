"""What everything rests on is away: the database, the broker, preauth itself. Cards charge, and in time."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from services.preauth.login.completing import ASK_SYNC_S
from tests.databases import TestDatabase, fresh_database, locked
from tests.infra import Infra, provided
from tests.integration.services.preauth.scenarios.conftest import ALONE, BOTH, GATEWAY, HOOK
from tests.integration.services.preauth.scenarios.site import Site, Way, built
from tests.integration.services.preauth.world import Preauth
from tests.waiting import until

DECIDE_MS, ANSWER_MS, DEADLINE_MS = 150, 180, 200
# What two busy cores add to a deadline; who waits for what is away waits for seconds.
BUSY_MS = 300


@pytest.fixture(scope="module")
def breakable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Infra]:
    with provided(tmp_path_factory.mktemp("breakable"), given=False, fsync=False) as own:
        yield own


@pytest.fixture(scope="module", params=[HOOK, GATEWAY, BOTH], ids=str)
async def site(
    request: pytest.FixtureRequest, breakable: Infra, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Site]:
    """With deadlines as in production, or as near as a busy machine lets them be."""
    short: dict[str, Any] = {
        "decide_within_ms": DECIDE_MS,
        "answer_within_ms": ANSWER_MS,
        "ocpp_deadline_ms": DEADLINE_MS,
    }
    with fresh_database(breakable.postgres.url, ["preauth"]) as database:
        folder = tmp_path_factory.mktemp("site")
        async with built(request.param, database, folder, budget_ms=1000, **short) as site:
            yield site


async def recovered(site: Site) -> None:
    """Until both replicas decide with the database again."""

    async def healthy() -> bool:
        return all(replica.taps.group.healthy_for_s() > 1 for replica in site.replicas)

    await until(healthy)


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_the_database_is_down(site: Site, breakable: Infra, charger_id: str, how: str) -> None:
    """Every card charges in time, nobody is logged in, the journal has them all; afterwards scans work again."""
    postgres, cards = breakable.postgres, [site.new_card() for _ in range(6)]
    async with site.kiosk(charger_id) as kiosk, site.charger(charger_id) as charger:
        healthy = [(await charger.authorize(card))[1] for card in cards]
        pairing_id = await kiosk.arm(charger_id)
        await asyncio.to_thread(postgres.kill if how == "killed" else postgres.freeze)
        try:
            told = [await charger.authorize(card) for card in cards[:5]]
            assert await charger.heartbeat()
        finally:
            await asyncio.to_thread(postgres.start if how == "killed" else postgres.thaw)
        assert [verdict for verdict, _ in told] == ["Accepted"] * 5
        assert max(took for _, took in told) < DEADLINE_MS + max(healthy) + BUSY_MS
        await recovered(site)
        # Where hook and gateway both saw it, nobody could know that it was one tap: then it may be there twice.
        await site.one.until(
            "SELECT FROM tap WHERE charge_box_id = %s AND told IS NOT NULL AND received_at > (SELECT armed_at FROM"
            " pairing WHERE pairing_id = %s) HAVING count(DISTINCT id_tag) = 5",
            charger_id,
            UUID(pairing_id),
            within_s=20,
        )
        assert (await kiosk.log_in(pairing_id)).json()["code"] in {"not_scanned", "scan_over"}
        assert site.events("scan.intercepted", pairing_id) == []
        if site.state(pairing_id) == "armed":
            await kiosk.cancel(pairing_id)
        again = await kiosk.arm(charger_id)
        assert (await charger.authorize(cards[5]))[0] == "Blocked"
        await kiosk.notified(again, "intercepted")
        assert (await kiosk.log_in(again)).status_code == 200


async def test_a_commit_stalls_past_the_deadline(site: Site, charger_id: str, card: str) -> None:
    """The statement that takes the card hangs: it charges in time, and the commit that comes after all is void."""
    async with site.kiosk(charger_id) as kiosk, site.charger(charger_id) as charger:
        healthy = (await charger.authorize(site.new_card()))[1]
        pairing_id = await kiosk.arm(charger_id)
        async with locked(site.one.database, b"preauth.tap"):
            told, took_ms = await charger.authorize(card)
        assert (told, took_ms < DEADLINE_MS + healthy + BUSY_MS) == ("Accepted", True)
        await kiosk.notified(pairing_id, "void")
        assert (await kiosk.log_in(pairing_id)).json()["code"] == "scan_over"
    assert site.events("scan.intercepted", pairing_id) == []


@pytest.mark.parametrize("way", ALONE, ids=str)
async def test_the_broker_is_down(way: Way, database: TestDatabase, tmp_path: Path) -> None:
    """Scans and taps go on, and events wait; nobody can vouch for the card, so its login is refused, at once."""
    async with built(way, database, tmp_path, bus=True) as site:
        charger_id, card, other = site.new_charger(), site.new_card(), site.new_card()
        for replica in site.replicas:
            assert await replica.service.checks["broker"]() is not None
        async with site.kiosk(charger_id) as kiosk, site.charger(charger_id) as charger:
            pairing_id = await kiosk.arm(charger_id)
            assert (await charger.tap(1, card)).authorize == "Blocked"
            await kiosk.notified(pairing_id, "intercepted")
            assert (await charger.tap(1, other)).charging
            started = time.monotonic()
            refused = await kiosk.log_in(pairing_id)
            assert time.monotonic() - started < ASK_SYNC_S / 2
            assert (refused.status_code, refused.json()["code"]) == (403, "login_refused")
        assert await site.reasons(charger_id) == ["matched", "other_card_matched"]
        assert len(site.events("scan.intercepted", pairing_id)) == 1
        [event] = site.events("scan.login_refused", pairing_id)
        assert event["data"]["reason"] == "no_answer"
        assert site.logins(pairing_id) == 0


async def test_preauth_is_down(database: TestDatabase, tmp_path: Path) -> None:
    """Nobody answers the hook: SteVe's own verdict stands."""
    async with built(HOOK, database, tmp_path) as site:
        charger_id, card = site.new_charger(), site.new_card()
        async with site.kiosk(charger_id) as kiosk, site.charger(charger_id) as charger:
            pairing_id = await kiosk.arm(charger_id)
            for replica in site.replicas:
                await gone(replica)
            assert (await charger.tap(1, card)).charging
        [row] = site.one.rows("SELECT state FROM pairing WHERE pairing_id = %s", UUID(pairing_id))
        assert row["state"] == "armed"


async def test_one_gateway_of_two_is_down(database: TestDatabase, tmp_path: Path) -> None:
    """The charger whose gateway stops comes back through the other one, and the scan armed there takes its card."""
    async with built(GATEWAY, database, tmp_path) as site:
        charger_id, card = site.new_charger(), site.new_card()
        async with site.kiosk(charger_id) as kiosk:
            pairing_id = await kiosk.arm(charger_id)
            await gone(site.replicas.pop(0))
            async with site.charger(charger_id) as charger:
                assert (await charger.tap(1, card)).authorize == "Blocked"
            await kiosk.notified(pairing_id, "intercepted")
            assert (await kiosk.log_in(pairing_id)).status_code == 200


async def gone(replica: Preauth) -> None:
    """Stop it, and wait until nobody answers there."""
    replica.stop.set()

    async def refused() -> bool:
        try:
            await replica.http.get("/.well-known/jwks.json")
        except httpx.HTTPError:
            return True
        return False

    await until(refused)
