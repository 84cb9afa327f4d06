"""The scenarios of the facts page with real OCPP chargers: behind a patched SteVe, behind the gateway, behind both."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.demo.chargers.charger import Charger
from deploy.demo.chargers.settings import ChargerSettings
from deploy.demo.steve.settings import HookSettings, SteveSettings
from deploy.demo.steve.simulator import SteveSimulator, run_steve
from shared.contracts.requests.preauth import ArmPairing, SearchTaps
from tests.databases import TestDatabase
from tests.integration.services.preauth.world import KEY, Preauth, running

WAYS = ("hook", "gateway", "both")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@dataclass
class Site:
    """A SteVe, a preauth, and chargers that connect the way that is under test."""

    way: str
    steve: SteveSimulator
    preauth: Preauth
    ocpp_url: str
    stack: AsyncExitStack
    chargers: dict[str, Charger] = field(default_factory=dict)

    async def charger(self, name: str = "CP-1", **more: Any) -> Charger:  # noqa: ANN401 - settings
        self.steve.state.add_charger(name)
        settings = ChargerSettings(ocpp_url=self.ocpp_url, charge_box_id=name, **more)
        return await self.stack.enter_async_context(Charger(settings))

    async def arm(self, name: str = "CP-1", **more: Any) -> None:  # noqa: ANN401 - of the request
        await self.preauth.done(ArmPairing(charge_box_id=name, purpose="find_card", **more))

    async def scanned(self, name: str = "CP-1") -> dict[str, Any]:
        return (
            await self.preauth.until("SELECT * FROM pairing WHERE state = 'intercepted' AND charge_box_id = %s", name)
        )[0]


@pytest.fixture(params=WAYS)
async def site(request: pytest.FixtureRequest, database: TestDatabase, tmp_path: Path) -> AsyncIterator[Site]:
    way, hook_port, steve_port = request.param, free_port(), free_port()
    hook = HookSettings(url=f"http://127.0.0.1:{hook_port}/api/ocpp/pre-authorize", key=KEY, budget_ms=4000)
    settings = SteveSettings(auth_delay_ms=0, ocpp_port=steve_port, hook=None if way == "gateway" else hook)
    async with AsyncExitStack() as stack:
        steve = await stack.enter_async_context(run_steve(settings))
        for card in ("04A1", "04B2"):
            steve.state.add_tag(card)
        steve.state.add_tag("BLOCKED", limit=0)
        more: dict[str, Any] = {"steve_ocpp_url": steve.ocpp_url, "ocpp_port": 0, "ocpp_deadline_ms": 4000}
        preauth = await stack.enter_async_context(running(database, tmp_path, port=hook_port, **more))
        gateway = next(part for part in preauth.service.parts if part.name == "gateway")
        url = steve.ocpp_url if way == "hook" else f"ws://127.0.0.1:{gateway.port}/ocpp"  # type: ignore[attr-defined]
        yield Site(way, steve, preauth, url, stack)


async def test_nothing_armed_charges(site: Site) -> None:
    """Nothing armed: Accepted, it charges, and each tap is one row in the journal, whatever it passed on its way."""
    charger = await site.charger()
    tap = await charger.tap(1, "04A1")
    assert (tap.authorize, tap.charging) == ("Accepted", True)
    await site.preauth.until("SELECT 1 FROM tap WHERE told = 'passed' HAVING count(*) = 2")
    rows = site.preauth.rows("SELECT kind, reason, via, also_via FROM tap ORDER BY received_at")
    assert [row["kind"] for row in rows] == ["authorize", "start"]
    if site.way == "both":
        assert [(row["via"], row["also_via"]) for row in rows] == [("gateway", "hook")] * 2
    if site.way == "gateway":
        [answered] = await site.preauth.until(
            "SELECT steve_answer FROM tap WHERE kind = 'authorize' AND steve_answer <> ''"
        )
        assert answered["steve_answer"] == "Accepted"


async def test_armed_is_blocked_and_no_session_starts(site: Site) -> None:
    """Armed: the charger is told Blocked, nothing starts, and the scan is intercepted."""
    charger = await site.charger("CP:7_%")
    await site.arm("CP:7_%")
    tap = await charger.tap(1, "04a1")
    assert (tap.authorize, tap.charging) == ("Blocked", False)
    scanned = await site.scanned("CP:7_%")
    assert scanned["id_tag"] == "04A1"
    assert site.steve.state.transactions == {}
    [event] = site.preauth.events("scan.intercepted")
    assert event["data"]["via"] == ("hook" if site.way == "hook" else "gateway")


async def test_the_same_card_is_blocked_again_and_another_charges(site: Site) -> None:
    """The card of the scan again: Blocked; another card after the match: it charges; one event."""
    charger = await site.charger()
    await site.arm()
    assert (await charger.tap(1, "04A1")).authorize == "Blocked"
    await site.scanned()
    assert (await charger.tap(1, "04A1")).authorize == "Blocked"
    assert (await charger.tap(1, "04B2")).charging
    assert len(site.preauth.events("scan.intercepted")) == 1


async def test_unknown_and_blocked_cards_keep_their_verdict(site: Site) -> None:
    """A card that SteVe refuses is taken as a scan all the same; without one, SteVe's own verdict stands."""
    charger = await site.charger()
    assert (await charger.tap(1, "NOBODY")).authorize == "Invalid"
    assert (await charger.tap(1, "BLOCKED")).authorize == "Blocked"
    await site.arm()
    # At the hook SteVe applies the override only over an Accepted; the gateway answers before SteVe does.
    assert (await charger.tap(1, "STRANGER")).authorize == ("Invalid" if site.way == "hook" else "Blocked")
    assert (await site.scanned())["id_tag"] == "STRANGER"
    assert len(site.preauth.events("scan.intercepted")) == 1


async def test_a_tap_that_arrives_only_as_a_start_charges(site: Site) -> None:
    """A charger that starts without asking is not intercepted: SteVe would have a session all the same."""
    charger = await site.charger()
    await site.arm()
    assert (await charger.tap(1, "04A1", start_only=True)).charging
    await site.preauth.until("SELECT 1 FROM tap WHERE told = 'passed'")
    assert site.preauth.rows("SELECT state FROM pairing") == [{"state": "armed"}]


async def test_armed_at_one_charger_tapped_at_another(site: Site) -> None:
    """Armed on A, tapped on B: it charges there, and two armed chargers are independent."""
    one, two = await site.charger("A"), await site.charger("B")
    await site.arm("A")
    assert (await two.tap(1, "04A1")).charging
    await site.arm("B")
    results = await asyncio.gather(one.tap(1, "04B2"), two.tap(2, "04B2"))
    assert [tap.authorize for tap in results] == ["Blocked", "Blocked"], site.preauth.rows(
        "SELECT id_tag,charge_box_id,kind,reason,told,duration_us,in_time FROM tap"
    )


async def test_a_remote_start_while_armed(site: Site) -> None:
    """A remote start is let through where the gateway sees it; the hook alone cannot, and the tap's row says so."""
    charger = await site.charger(configuration={"AuthorizeRemoteTxRequests": "true"})
    await site.arm()
    settings = site.steve.settings
    async with httpx.AsyncClient(auth=(settings.user, settings.password), trust_env=False) as rest:
        answer = await rest.post(
            f"{site.steve.rest_url}/steve/api/v1/operations/RemoteStartTransaction",
            json={"chargeBoxIdList": ["CP-1"], "idTag": "04A1", "connectorId": 1},
        )
    assert answer.status_code == 200, answer.text
    await site.preauth.until("SELECT 1 FROM tap WHERE kind = 'authorize' AND told IS NOT NULL")
    page = await site.preauth.done(SearchTaps(charge_box_id="CP-1"))
    authorize = next(tap for tap in page["taps"] if tap["kind"] == "authorize")
    if site.way == "hook":
        assert authorize["told"] == "blocked"
        assert "remote start" in authorize["explanation"]
        return
    assert (authorize["told"], authorize["reason"]) == ("passed", "remote_start_pending")
    await site.preauth.until("SELECT 1 FROM tap WHERE kind = 'start' AND told = 'passed'")
    assert charger.connectors[1].session is not None


async def test_without_preauth_a_patched_steve_charges(site: Site) -> None:
    """Nobody answers the hook: SteVe's own verdict stands; behind a gateway that is gone, nobody is connected."""
    if site.way != "hook":
        return
    charger = await site.charger()
    await site.arm()
    site.preauth.stop.set()
    async with asyncio.timeout(10):
        while True:
            try:
                await site.preauth.http.get("/.well-known/jwks.json")
            except httpx.HTTPError:
                break
            await asyncio.sleep(0.02)
    assert (await charger.tap(1, "04A1")).charging


async def test_a_charger_keeps_a_blocked_no_longer_than_it_is_told(site: Site) -> None:
    """Behind the gateway Blocked comes with a short expiry; behind the hook alone it is SteVe's hour."""
    keeps: dict[str, Any] = {"refuses_from_cache": True, "configuration": {"AuthorizationCacheEnabled": "true"}}
    charger = await site.charger(**keeps)
    await site.arm()
    assert (await charger.tap(1, "04A1")).authorize == "Blocked"
    await site.scanned()
    kept = await charger.tap(1, "04A1")
    assert (kept.authorize, kept.unasked, kept.charging) == ("Blocked", True, False)
    known = charger.cards._cache["04A1"].expires_at
    assert known is not None
    left = known - charger.settings.clock()
    assert left < timedelta(seconds=60) if site.way != "hook" else left > timedelta(minutes=30)
