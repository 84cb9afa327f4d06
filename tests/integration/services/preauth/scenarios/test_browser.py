"""A driver at a kiosk and with a phone, in a real browser, at services that run and a charger that speaks OCPP."""

import re
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, Route, async_playwright, expect

from shared.contracts.requests.preauth import EnrolKiosk
from tests.browser.chromium import find
from tests.databases import TestDatabase, refusing
from tests.integration.services.preauth.driving import qr_of
from tests.integration.services.preauth.scenarios.site import Site, built, way
from tests.integration.services.preauth.sync_double import session_view

pytestmark = pytest.mark.browser

KIOSK, PHONE = {"width": 1024, "height": 768}, {"width": 390, "height": 844}


@pytest.fixture
async def site(database: TestDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with built(way("gateway", 1), database, tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(**find().launch)
        yield running
        await running.close()


@asynccontextmanager
async def opened(
    browser: Browser, site: Site, size: dict[str, int], *, expected: tuple[str, ...] = ()
) -> AsyncIterator[Page]:
    """A dark page, with cookies of its own, that fails its test when the browser complains of anything else."""
    complaints: list[str] = []
    context = await browser.new_context(
        base_url=str(site.one.http.base_url),
        viewport=size,  # type: ignore[arg-type]
        color_scheme="dark",
        reduced_motion="reduce",
    )
    page = await context.new_page()
    page.set_default_timeout(20_000)
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    await context.close()
    # Chromium complains of the page of who is signed out, whose status says so.
    expected = ("401 (Unauthorized)", *expected)
    assert [each for each in complaints if not any(words in each for words in expected)] == []


async def shows(page: Page, heading: str) -> None:
    """It is this screen, in which axe finds nothing and nothing stands out of it."""
    await expect(page.get_by_role("heading", level=1)).to_have_text(heading, timeout=20_000)
    wide = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0
    violations = (await Axe().run(page)).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in violations] == []


async def test_a_kiosk_signs_a_driver_in_and_binds_the_phone(site: Site, browser: Browser) -> None:
    """Set up, choose, tap, in, bind the phone, out; then the phone is in by itself, and another card is not."""
    charger_id, card, stranger = site.new_charger(), site.new_card(), site.new_card()
    # Seconds after the scan at the kiosk, the same card at the same charger would be that scan again.
    next_to_it = site.new_charger()
    site.sync.sessions = [session_view(card, 1, "counted", energy_wh=12_400)]
    made = await site.one.done(EnrolKiosk(kiosk_name="Hall", charge_box_ids=[charger_id]))
    key = await qr_of(site.one, next_to_it)
    async with (
        opened(browser, site, KIOSK) as kiosk,
        opened(browser, site, PHONE) as phone,
        site.charger(charger_id) as charger,
        site.charger(next_to_it) as other,
    ):
        await kiosk.goto("/kiosk")
        await shows(kiosk, "Set up this screen")
        await kiosk.get_by_label("Code").fill(made["code"].lower())
        await kiosk.get_by_role("button", name="Set up").click()
        await shows(kiosk, "At which charger are you?")
        await kiosk.get_by_role("link", name=charger_id).click()
        await shows(kiosk, "Tap now")
        assert (await charger.tap(1, card)).authorize == "Blocked"
        await kiosk.wait_for_url("**/me")
        await shows(kiosk, "Ada's card")
        await expect(kiosk.get_by_text("12.4 kWh")).to_be_visible()
        assert card not in await kiosk.content()

        await kiosk.get_by_role("button", name="Bind your phone").click()
        await shows(kiosk, "Open this on your phone")
        code = await kiosk.locator(".typed-by-hand").inner_text()
        await phone.goto(f"/bind?code={code}")
        await shows(phone, "Bind this phone to your card?")
        await phone.get_by_role("button", name="Bind this phone").click()
        await shows(phone, "This phone is bound")
        await kiosk.get_by_role("link", name="Done").click()
        await shows(kiosk, "Ada's card")
        await expect(kiosk.get_by_role("button", name=re.compile("Forget"))).to_have_count(1)
        await kiosk.get_by_role("button", name="Sign out").click()
        await shows(kiosk, "At which charger are you?")
        await kiosk.go_back()
        await expect(kiosk.get_by_text("12.4 kWh")).to_have_count(0)

        await phone.goto(f"/scan?charger={next_to_it.replace('%', '%25')}&key={key}")
        await shows(phone, "Sign in with your card")
        await phone.get_by_role("button", name="Start").click()
        await shows(phone, "Tap now")
        assert (await other.tap(1, stranger)).charging
        await shows(phone, "That was another card")
        assert (await other.tap(2, card)).authorize == "Blocked"
        await phone.wait_for_url("**/me")
        await shows(phone, "Ada's card")
        await phone.get_by_role("button", name="Sign out").click()
        await shows(phone, "You are signed out")
    assert len(site.one.rows("SELECT 1 FROM driver_session")) == 2


async def test_a_matched_scan_outlives_the_database(site: Site, browser: Browser) -> None:
    """The database is away as the page completes its login: the page says so and goes on, and the driver gets in."""
    charger_id, card = site.new_charger(), site.new_card()
    made = await site.one.done(EnrolKiosk(kiosk_name="Hall", charge_box_ids=[charger_id]))
    site.one.service.database.pool.timeout = 1.0
    away = ExitStack()

    async def log_in(route: Route) -> None:
        away.enter_context(refusing(site.one.database))
        await route.continue_()

    async with (
        opened(browser, site, KIOSK, expected=("503 (Service Unavailable)",)) as kiosk,
        site.charger(charger_id) as charger,
    ):
        lost = kiosk.get_by_role("heading", name="We cannot reach the server")
        await kiosk.context.request.post("/kiosk", form={"code": made["code"]})
        await kiosk.goto(f"/scan?charger={charger_id.replace('%', '%25')}")
        await kiosk.get_by_role("button", name="Start").click()
        await shows(kiosk, "Tap now")
        await kiosk.route("**/login", log_in, times=1)
        with away:
            assert (await charger.tap(1, card)).authorize == "Blocked"
            await expect(lost).to_be_visible(timeout=20_000)
        await kiosk.wait_for_url("**/me")
