"""`/me` on a real preauth: the driver's sessions, kWh and billing, and the customer page in Lago."""

import html
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from services.preauth.login.account import address_of
from tests.databases import TestDatabase
from tests.integration.services.preauth.driving import CARD, browser, kiosk_of, log_in, scan
from tests.integration.services.preauth.sync_double import SyncDouble, session_view
from tests.integration.services.preauth.world import Preauth, running

PORTAL = "https://lago.example/customer-portal/abc?x=1&y=2"


@pytest.fixture
async def preauth(database: TestDatabase, tmp_path: Path) -> AsyncIterator[Preauth]:
    async with running(database, tmp_path, cooldown_s=0) as one:
        yield one


@pytest.fixture
async def driver(preauth: Preauth, sync: SyncDouble) -> AsyncIterator[httpx.AsyncClient]:
    """Signed in at a kiosk."""
    sync.know(CARD, customer="ada")
    sync.portals["ada"] = PORTAL
    async with browser(preauth) as kiosk:
        await kiosk_of(preauth, kiosk)
        assert (await log_in(kiosk, await scan(preauth, kiosk))).status_code == 200
        yield kiosk


def words(response: httpx.Response) -> str:
    assert response.status_code == 200
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", response.text)).split())


def portal_link(response: httpx.Response) -> str | None:
    found = re.search(r'<p class="portal"><a class="button" href="([^"]*)"', response.text)
    return html.unescape(found[1]) if found else None


async def test_the_own_sessions_are_shown_with_energy_and_billing(driver: httpx.AsyncClient, sync: SyncDouble) -> None:
    """Newest first, each with its kWh and whether it is billed; nobody else's, and no card's id."""
    sync.sessions = [
        session_view(CARD, 1, "counted", energy_wh=12_400),
        session_view(CARD, 2, "held", energy_wh=7_949),
        session_view(CARD, 3, "open", energy_wh=None),
        session_view("04B2", 4, "counted", energy_wh=99_000, charger="SECRET"),
    ]
    page = await driver.get("/me")
    shown = words(page)
    assert re.findall(r"\d+\.\d kWh|no reading yet", shown) == ["no reading yet", "7.9 kWh", "12.4 kWh"]
    states = ["charging", "being checked, not billed yet", "billed"]
    assert [shown.index(state) for state in states] == sorted(shown.index(state) for state in states)
    assert "SECRET" not in page.text
    assert CARD not in page.text


async def test_the_customer_page_is_one_link(driver: httpx.AsyncClient, sync: SyncDouble) -> None:
    """Of the customer whom the card is linked to, and of nobody else; without a link there is none."""
    page = await driver.get("/me")
    assert portal_link(page) == PORTAL
    sync.know(CARD)
    page = await driver.get("/me")
    assert portal_link(page) is None
    assert "customer page" not in words(page)
    # Lago answered that it knows no such customer.
    sync.know(CARD, customer="gone")
    sync.portals["gone"] = None
    assert portal_link(await driver.get("/me")) is None


async def test_a_silent_lago_or_sync_is_said(driver: httpx.AsyncClient, sync: SyncDouble) -> None:
    """What nobody answered is not shown as none."""
    sync.portals.clear()
    page = await driver.get("/me")
    assert portal_link(page) is None
    assert "Your customer page could not be looked up just now." in words(page)
    sync.silent = True
    shown = words(await driver.get("/me"))
    for silence in ("your card just now", "Your sessions could not be looked up", "customer page could not be looked"):
        assert silence in shown


@pytest.mark.parametrize(
    ("url", "address"),
    [
        (PORTAL, PORTAL),
        ("http://lago.local/p", "http://lago.local/p"),
        ("javascript:alert(1)", ""),
        ("data:text/html,x", ""),
        (None, ""),
    ],
)
def test_only_web_addresses_become_links(url: str | None, address: str) -> None:
    """Whatever Lago or somebody before it answers, a page never links to a script."""
    assert address_of(url) == address
