"""The console's pages in a real browser: accessible, within their screen, quiet in the console, usable by keyboard."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.preview import Preview, chromium, faults, findings, fullest, opened, overflow, serving
from tests.browser.samples.base import Sample
from tests.browser.samples.every import SAMPLES

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def preview() -> Iterator[Preview]:
    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def address(preview: Preview) -> str:
    return preview.address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with opened(browser) as (page, _):
        yield page


@pytest.mark.parametrize(
    ("width", "scheme", "all_by_axe"),
    [
        (1280, "light", False),
        pytest.param(1280, "light", True, marks=pytest.mark.full),
        pytest.param(390, "dark", True, marks=pytest.mark.full),
        pytest.param(768, "dark", True, marks=pytest.mark.full),
        pytest.param(390, "light", True, marks=pytest.mark.full),
    ],
)
def test_every_page_is_accessible_and_fits(
    browser: Browser, preview: Preview, width: int, scheme: str, *, all_by_axe: bool
) -> None:
    """Axe finds nothing on any page in any state, nothing is wider than the screen, and nothing breaks the policy. By
    default pages are looked at in their fullest state, and by axe only what is new on them: `.ci/run` has it look
    at all.
    """

    def length(sample: Sample) -> int:
        return len(preview.pages.render(sample.template, sample.frame, sample.page))

    some = fullest(SAMPLES.values(), length, lambda each: each.template, 1)
    addresses = [preview.address + sample.address for sample in (SAMPLES.values() if all_by_axe else some)]
    with opened(browser, width, scheme) as (page, complaints):
        assert faults(page, complaints, addresses, all_by_axe=all_by_axe) == []


@pytest.mark.full
@pytest.mark.parametrize("width", [1280, 390])
def test_what_opens_is_accessible_too(browser: Browser, address: str, width: int) -> None:
    """The confirmation, the menus, the evidence and an entry's details pass axe as well when they are open."""
    wrong: list[str] = []
    with opened(browser, width) as (page, _):
        page.goto(f"{address}/card-blocked")
        page.get_by_role("button", name="Unblock").click()
        wrong += findings(page)
        page.goto(f"{address}/card-long")
        page.get_by_role("button", name="Operator menu").click()
        wrong += findings(page)
        page.goto(f"{address}/audit")
        page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
        wrong += findings(page) + overflow(page)
        page.goto(f"{address}/card-long")
        page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
        wrong += findings(page) + overflow(page)
    assert wrong == []


@pytest.mark.parametrize("key", ["/", "Control+k"])
def test_a_key_leads_to_the_search_and_escape_back(page: Page, address: str, key: str) -> None:
    """The search is one key away, and Escape returns to where one was."""
    page.goto(f"{address}/card")
    link = page.get_by_role("link", name="Change link")
    link.focus()
    page.keyboard.press(key)
    search = page.get_by_role("searchbox", name="Search cards")
    expect(search).to_be_focused()
    expect(search).to_have_value("")
    page.keyboard.press("Escape")
    expect(link).to_be_focused()


def test_a_slash_typed_into_a_field_stays_there(page: Page, address: str) -> None:
    """The shortcut does not take a character away from somebody who types."""
    page.goto(f"{address}/audit")
    subject = page.get_by_label("Subject")
    subject.click()
    page.keyboard.type("card/04")
    expect(subject).to_have_value("card/04")


def test_a_dangerous_action_asks_first_and_gives_the_focus_back(page: Page, address: str) -> None:
    """The confirmation names the consequences, keeps the focus inside, and returns it when it closes."""
    page.goto(f"{address}/card-blocked")
    button = page.get_by_role("button", name="Unblock")
    button.click()
    dialog = page.get_by_role("dialog", name="Unblock 04A1B2C3D4?")
    expect(dialog).to_contain_text("SteVe accepts the card from the next tap on")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(button).to_be_focused()
    button.click()
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_be_hidden()
    expect(button).to_be_focused()


def test_an_id_is_copied(browser: Browser, address: str) -> None:
    """The button beside an id puts exactly that id on the clipboard and says so."""
    with opened(browser) as (page, _):
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.goto(f"{address}/card")
        page.get_by_role("button", name="Copy 04A1B2C3D4").click()
        expect(page.locator("#said")).to_have_text("Copied 04A1B2C3D4")
        assert page.evaluate("navigator.clipboard.readText()") == "04A1B2C3D4"


def test_times_are_local_with_the_zone_on_hover(page: Page, address: str) -> None:
    """A time is shown in the reader's zone, relative when recent, and tells its zone and UTC when asked."""
    page.goto(f"{address}/card")
    time = page.locator("#sessions ~ table time").first
    expect(time).to_have_text("today 11:30")
    title = time.get_attribute("title") or ""
    assert "1 May 2026" in title
    assert "11:30:00" in title
    assert "GMT+02:00" in title
    assert "2026-05-01 09:30:00 UTC" in title


def test_live_rows_wait_while_paused(page: Page, preview: Preview) -> None:
    """A row that arrives enters at the top; while paused, rows are counted and kept back until one goes on."""
    page.goto(f"{preview.address}/overview")
    rows = page.locator("[data-live-rows] > li")
    state = page.locator("[data-live-state]")
    expect(state).to_have_text("Live")
    before = rows.count()
    preview.push("first")
    expect(rows.first).to_contain_text("first")
    expect(rows).to_have_count(before + 1)
    page.get_by_role("button", name="Pause").click()
    preview.push("second")
    expect(state).to_have_text("Paused, 1 new")
    expect(rows.first).to_contain_text("first")
    page.get_by_role("button", name="Go on").click()
    expect(rows.first).to_contain_text("second")
    expect(state).to_have_text("Live")


def test_live_rows_do_not_move_under_the_pointer(page: Page, preview: Preview) -> None:
    """A row that arrives while the pointer is in the list waits until it has left, so that nothing is misclicked."""
    page.goto(f"{preview.address}/overview")
    expect(page.locator("[data-live-state]")).to_have_text("Live")
    rows = page.locator("[data-live-rows] > li")
    rows.nth(1).hover()
    preview.push("late")
    expect(page.locator("[data-live-state]")).to_have_text("Live, 1 new")
    expect(rows.first).not_to_contain_text("late")
    page.get_by_role("heading", name="Overview").hover()
    expect(rows.first).to_contain_text("late")


def test_the_rail_stays_as_it_was_left(page: Page, address: str) -> None:
    """The collapsed rail is kept in a cookie, from which the server draws the next page."""
    page.goto(f"{address}/overview")
    page.get_by_role("button", name="Icons only").click()
    assert page.evaluate("document.documentElement.dataset.rail") == "icons"
    assert [(each["name"], each["value"]) for each in page.context.cookies()] == [("rail", "icons")]


def test_a_phone_reaches_every_room(browser: Browser, address: str) -> None:
    """The bottom bar shows four rooms, and More the others."""
    with opened(browser, 390) as (page, _):
        page.goto(f"{address}/card-long")
        rooms = page.get_by_role("navigation", name="Rooms")
        expect(rooms.get_by_role("link", name="Audit")).to_be_hidden()
        rooms.get_by_role("button", name="More").click()
        expect(rooms.get_by_role("link", name="Audit")).to_be_visible()


def test_the_pages_work_without_scripts(browser: Browser, address: str) -> None:
    """Without JavaScript the card page still shows its times, and the confirmation still opens."""
    context = browser.new_context(java_script_enabled=False)
    try:
        page = context.new_page()
        page.goto(f"{address}/card-blocked")
        expect(page.locator("#sessions ~ table time").first).to_have_text("2026-05-01 09:30 UTC")
        page.get_by_role("button", name="Unblock").click()
        expect(page.get_by_role("dialog")).to_be_visible()
    finally:
        context.close()
