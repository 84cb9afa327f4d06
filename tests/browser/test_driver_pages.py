"""The driver pages in a real browser, against a running preauth: from the kiosk's set-up to signing out."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import BrowserContext, Page, async_playwright, expect

from shared.contracts.requests.preauth import EnrolKiosk, RotateChargerQr, SetCardPin
from tests.browser.preview import CHROMIUM, CHROMIUM_ARGS
from tests.databases import TestDatabase, fresh_database
from tests.infra import Infra
from tests.integration.services.preauth.sync_double import SyncDouble
from tests.integration.services.preauth.world import Preauth, running

pytestmark = pytest.mark.browser

CP = "CP:7/ä"
CARD = "04A1"
PHONE = {"width": 390, "height": 844}
KIOSK = {"width": 1280, "height": 800}


@pytest.fixture
def database(infra: Infra) -> Iterator[TestDatabase]:
    with fresh_database(infra.postgres.url, ["preauth"]) as fresh:
        yield fresh


@pytest.fixture
async def preauth(database: TestDatabase, tmp_path: Path) -> AsyncIterator[Preauth]:
    async with running(database, tmp_path, cooldown_s=0) as one:
        yield one


@pytest.fixture
def sync(preauth: Preauth, monkeypatch: pytest.MonkeyPatch) -> SyncDouble:
    double = SyncDouble()
    monkeypatch.setattr(preauth.service.requester, "ask", double.ask)
    return double


@asynccontextmanager
async def a_browser(preauth: Preauth, size: dict[str, int]) -> AsyncIterator[tuple[BrowserContext, Page]]:
    """A browser of its own, which fails on anything that a page complains about."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGS)
        context = await browser.new_context(base_url=str(preauth.http.base_url), viewport=size)  # type: ignore[arg-type]
        page = await context.new_page()
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if "Content Security" in said.text else None)
        yield context, page
        assert complaints == []
        await browser.close()


async def check(page: Page) -> None:
    """Axe finds nothing, and nothing is wider than the screen."""
    found = await Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def test_from_set_up_to_sign_out_at_a_kiosk(preauth: Preauth, sync: SyncDouble) -> None:
    """An operator's code sets the kiosk up; a driver chooses the charger, taps, is in, and leaves nothing behind."""
    sync.know(CARD)
    made = await preauth.done(EnrolKiosk(kiosk_name="Car park, level 1", charge_box_ids=[CP, "CP-8"]))
    async with a_browser(preauth, KIOSK) as (_, page):
        await page.goto("/kiosk")
        await check(page)
        await page.get_by_label("Code").fill("WRONG")
        await page.get_by_role("button", name="Set up").click()
        await expect(page.get_by_role("alert")).to_contain_text("Ask an operator for a new one")
        await page.get_by_label("Code").fill(made["code"].lower())
        await page.get_by_role("button", name="Set up").click()
        await expect(page.get_by_role("heading", name="At which charger are you?")).to_be_visible()
        await check(page)
        await page.get_by_role("link", name=CP).click()
        await check(page)
        await page.get_by_role("button", name="Start").click()
        await expect(page.get_by_role("heading", name="Hold your card to the charger now")).to_be_visible()
        await check(page)
        code = preauth.rows("SELECT code FROM pairing")[0]["code"]
        await expect(page.get_by_text(code)).to_be_visible()
        # A page that is reloaded goes on where it was.
        await page.reload()
        await expect(page.get_by_text(code)).to_be_visible()
        assert await preauth.tap(CARD, CP) == "BLOCKED"
        await expect(page.get_by_role("heading", name="Ada's card")).to_be_visible()
        await expect(page.get_by_text("No sessions yet")).to_be_visible()
        assert CARD not in await page.content()
        await check(page)
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_role("heading", name="At which charger are you?")).to_be_visible()
        await page.go_back()
        await expect(page.get_by_text("Ada's card")).to_have_count(0)


async def test_with_the_phone_and_a_pin(preauth: Preauth, sync: SyncDouble) -> None:
    """The code on the charger opens the page, its secret leaves the address at once, and the PIN is asked for."""
    sync.know(CARD)
    await preauth.done(SetCardPin(id_tag=CARD, pin="2468"))
    address = (await preauth.done(RotateChargerQr(charge_box_id=CP)))["address"]
    async with a_browser(preauth, PHONE) as (_, page):
        await page.goto(address.removeprefix("http://127.0.0.1:8091"))
        await expect(page.get_by_role("button", name="Start")).to_be_visible()
        assert "key" not in page.url
        await check(page)
        await page.get_by_role("button", name="Start").click()
        await expect(page.get_by_role("heading", name="Hold your card to the charger now")).to_be_visible()
        assert await preauth.tap(CARD, CP) == "BLOCKED"
        await expect(page.get_by_role("heading", name="Enter the PIN of your card")).to_be_visible()
        await check(page)
        await page.get_by_label("PIN").fill("1111")
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_text("That was not the PIN")).to_be_visible()
        await page.get_by_label("PIN").fill("2468")
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("heading", name="Ada's card")).to_be_visible()
        await check(page)


async def test_each_way_it_can_end_has_its_words(preauth: Preauth, sync: SyncDouble) -> None:
    """Cancelled, refused, too many at once, out of time: the page says which, and what to do."""
    sync.know(CARD, blocked=True)
    made = await preauth.done(EnrolKiosk(kiosk_name="hall", charge_box_ids=[CP]))
    async with a_browser(preauth, PHONE) as (context, page):
        assert (await context.request.post("/kiosk", form={"code": made["code"]})).ok
        await page.goto(f"/scan?charger={CP}")
        await page.get_by_role("button", name="Start").click()
        await page.get_by_role("button", name="Cancel").click()
        await expect(page.get_by_role("heading", name="Cancelled")).to_be_visible()
        await check(page)
        await page.get_by_role("button", name="Try again").click()
        await expect(page.get_by_role("heading", name="Hold your card to the charger now")).to_be_visible()
        other = await context.new_page()
        await other.goto(f"/scan?charger={CP}")
        await other.get_by_role("button", name="Start").click()
        await expect(other.get_by_text("A scan is waiting")).to_be_visible()
        await other.close()
        assert await preauth.tap(CARD, CP) == "BLOCKED"
        await expect(page.get_by_role("heading", name="You cannot log in with this card")).to_be_visible()
        await check(page)
        await page.get_by_role("button", name="Try again").click()
        await expect(page.get_by_role("heading", name="Hold your card to the charger now")).to_be_visible()
        preauth.run("UPDATE pairing SET state = 'expired' WHERE state = 'armed'")
        await expect(page.get_by_role("heading", name="Time is up")).to_be_visible()
        await page.goto("/scan")
        await expect(page.get_by_role("heading", name="At which charger are you?")).to_be_visible()
        await context.clear_cookies()
        await page.goto("/scan")
        await expect(page.get_by_role("heading", name="Scan the code on the charger")).to_be_visible()
        await check(page)
