"""The console at work in a real browser: cookies, forms and the policy as a browser understands them."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from shared.contracts.requests.sync import CustomerPage, GetCard, LinkCard, ReadCardInSteve, SearchCustomers
from shared.contracts.requests.sync_cards import BlockCard, UndoChange
from shared.runtime.clock import utc_now
from tests.browser.chromium import find
from tests.integration.services.admin_api import scene
from tests.integration.services.admin_api.scene import CARD, all_is_well
from tests.integration.services.admin_api.support import OWN_PASSWORD, House
from tests.integration.services.admin_api.test_console_link import ADA
from tests.unit.services.admin_api.diagnosis import cases

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(**find().launch)
        yield running
        await running.close()


@pytest.fixture
async def page(browser: Browser, house: House) -> AsyncIterator[Page]:
    """A page that fails its test when the browser complains of anything."""
    complaints: list[str] = []
    context = await browser.new_context(viewport={"width": 390, "height": 844})
    opened = await context.new_page()
    opened.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    yield opened
    await context.close()
    assert complaints == []


async def test_from_the_one_time_password_to_a_linked_card(page: Page, house: House) -> None:
    """On a phone: sign in, choose a password, find the card, read why it is not billed, link it, sign out."""
    all_is_well(house.owners)
    house.owners.answer(GetCard, cases.known(link=None))
    house.owners.answer(SearchCustomers, CustomerPage(answered=True, customers=[ADA]))
    await page.goto(f"{house.url}/cards/{CARD}")
    await page.get_by_label("Operator").fill("admin")
    await page.get_by_label("Password").fill(house.one_time_password)
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_label("New password", exact=True).fill(OWN_PASSWORD)
    await page.get_by_label("New password, once more").fill(OWN_PASSWORD)
    await page.get_by_role("button", name="Set the password").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Overview")

    await page.get_by_role("link", name="Tags").click()
    await page.get_by_role("link", name=CARD).click()
    await expect(page.locator(".verdict .says")).to_contain_text("linked to no Lago customer")
    await page.locator(".verdict").get_by_role("link", name="Link this card").click()
    await page.get_by_label("Customer name, e-mail or id in Lago").fill("ada")
    await page.get_by_role("button", name="Find").click()
    await page.get_by_role("link", name="Ada GmbH").click()
    await page.get_by_role("radio").check()
    await page.get_by_role("button", name="Show what will change").click()
    await expect(page.locator(".consequences")).to_contain_text("subscription sub_fleet")

    house.owners.answer(GetCard, cases.known())
    assert house.owners.requests(LinkCard) == []
    await page.get_by_role("button", name="Link this card").click()
    await expect(page.get_by_role("status")).to_contain_text(f"{CARD} is linked to ada")
    assert len(house.owners.requests(LinkCard)) == 1

    await page.get_by_role("button", name="Operator menu").click()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_text("You are signed out.")).to_be_visible()
    await page.goto(f"{house.url}/cards")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")


@pytest.mark.parametrize("scripts", [True, False])
async def test_a_card_is_blocked_and_the_block_undone(browser: Browser, admin: House, scripts: bool) -> None:  # noqa: FBT001
    """On a phone, with JavaScript and without: the consequences before, the reason, what was done, and its undo."""
    all_is_well(admin.owners)
    context = await browser.new_context(viewport={"width": 390, "height": 844}, java_script_enabled=scripts)
    page = await context.new_page()
    await page.goto(f"{admin.url}/cards/{CARD}/edit")
    await page.get_by_label("Operator").fill("admin")
    await page.get_by_label("Password").fill(OWN_PASSWORD)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_text("SteVe refuses it at every charger")).to_be_visible()
    blocked = cases.known(
        last_change_id=cases.AN_ID, block_kind="operator", block_reason="lost", blocked_by="admin", remembered_limit=1
    )
    admin.owners.answer(BlockCard, blocked)
    admin.owners.answer(GetCard, blocked)
    admin.owners.answer(ReadCardInSteve, scene.blocked_in_steve())
    await page.get_by_label("Reason to block it").fill("lost")
    await page.get_by_role("button", name="Block this card").click()
    await expect(page.get_by_role("status")).to_contain_text(f"{CARD} is blocked")
    admin.owners.answer(UndoChange, cases.known())
    admin.owners.answer(GetCard, cases.known())
    admin.owners.answer(ReadCardInSteve, scene.in_steve())
    await page.get_by_role("status").get_by_role("button", name="Undo").click()
    await expect(page.get_by_role("status")).to_contain_text("is undone")
    await expect(page.get_by_role("button", name="Block this card")).to_be_visible()
    assert [len(admin.owners.requests(each)) for each in (BlockCard, UndoChange)] == [1, 1]
    await context.close()


async def test_times_are_the_readers_and_identifiers_can_be_copied(page: Page, admin: House) -> None:
    """UTC in the page becomes local in the browser, with the zone on hover; an idTag is copied with one click."""
    all_is_well(admin.owners)
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    # A minute after the session began, not an hour: in the first one of a day that was yesterday.
    await page.clock.install(time=utc_now() - timedelta(minutes=59))
    await page.goto(f"{admin.url}/sign-in")
    await page.get_by_label("Operator").fill("admin")
    await page.get_by_label("Password").fill(OWN_PASSWORD)
    await page.get_by_role("button", name="Sign in").click()
    await page.goto(f"{admin.url}/cards/{CARD}")
    moment = page.locator(".sessions .c-start time").first
    await expect(moment).to_contain_text("today")
    await page.clock.run_for(3_000)
    assert len((await moment.get_attribute("title") or "").splitlines()) == 2
    await page.get_by_role("button", name=f"Copy {CARD}").first.click()
    assert await page.evaluate("navigator.clipboard.readText()") == CARD
