"""A driver at a charger, in a real browser, before a server that answers as told."""

import re
import time
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from services.preauth.login.screens.view import Choice, Enrol, Kiosk, Me
from tests.browser.driver_pages_preview import Answer, Desk, Preview, refusal, serving
from tests.browser.driver_pages_samples import KIOSK, PHONE, ROWS, SAMPLES, Sample
from tests.browser.preview import chromium, findings

pytestmark = pytest.mark.browser

QR = "/scan?charger=CP-7&key=s3cret"
HEADING = "h1"


@pytest.fixture(scope="module")
def server() -> Iterator[Preview]:
    with serving() as server:
        yield server


@pytest.fixture
def preview(server: Preview) -> Iterator[Preview]:
    server.desk, server.pages = Desk(), dict(SAMPLES)
    yield server
    server.desk.read.set()
    server.desk.hang_up()


@pytest.fixture
def desk(preview: Preview) -> Desk:
    return preview.desk


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def page(browser: Browser, preview: Preview) -> Iterator[Page]:
    context = browser.new_context(base_url=preview.address, viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.set_default_timeout(15_000)
    yield page
    context.close()


def until(true: Callable[[], object], within_s: float = 15.0) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.02)


def start(page: Page, address: str = QR) -> None:
    page.goto(address)
    page.get_by_role("button", name="Start").click()


def says(page: Page, heading: str) -> None:
    expect(page.locator(HEADING)).to_have_text(heading, timeout=15_000)


def test_a_tap_becomes_a_login(page: Page, desk: Desk) -> None:
    """Start, tap now with the code, we have it, you are in, the driver's page: each as the server tells it."""
    start(page)
    says(page, "Tap now")
    expect(page.locator(".code [aria-hidden]")).to_have_text("K7PX")
    expect(page.get_by_role("timer")).to_contain_text("seconds left")
    until(lambda: desk.streams)
    desk.move("matched")
    says(page, "We have it, one moment")
    desk.move("intercepted")
    says(page, "You are in")
    desk.read.set()
    page.wait_for_url("**/me")
    assert desk.calls("POST", "/api/pairings")[0][2] == {"charge_box_id": "CP-7", "key": "s3cret"}
    assert [each[2] for each in desk.calls("POST", "/login")] == [{}]


def test_the_key_of_a_qr_code_leaves_the_address_bar(page: Page) -> None:
    """The secret is taken out of the address at once, and a reload still has it."""
    page.goto(QR)
    assert "s3cret" not in page.url
    page.reload()
    page.get_by_role("button", name="Start").click()
    says(page, "Tap now")


def test_the_focus_follows_the_screen(page: Page) -> None:
    """Each new screen has the focus on its heading, so that it is read out; the title says it too."""
    start(page)
    says(page, "Tap now")
    expect(page.locator(HEADING)).to_be_focused()
    expect(page).to_have_title("Tap now")


def test_a_scan_is_cancelled(page: Page, desk: Desk) -> None:
    """Cancel takes the scan back, says that cards charge as usual, and lets one begin again."""
    start(page)
    page.get_by_role("button", name="Cancel").click()
    says(page, "Cancelled")
    assert len(desk.calls("DELETE")) == 1
    desk.state = "armed"
    page.get_by_role("button", name="Try again").click()
    says(page, "Tap now")


def test_a_card_that_is_faster_than_cancel_logs_in(page: Page, desk: Desk) -> None:
    """What the server says counts: cancelling after the match does not show Cancelled."""
    start(page)
    says(page, "Tap now")
    desk.state = "intercepted"
    page.get_by_role("button", name="Cancel").click()
    says(page, "You are in")


@pytest.mark.parametrize(
    ("state", "result", "heading"),
    [
        ("expired", None, "Time is up, try again"),
        ("cancelled", None, "Cancelled"),
        ("void", None, "It did not go through, try again"),
        ("cancelled", "gave_way", "Somebody else goes first"),
        ("cancelled", "kiosk_revoked", "This screen was switched off"),
        ("cancelled", "qr_rotated", "We cannot see that you are here"),
        ("consumed", "pins_spent", "None of these PINs was right"),
        ("consumed", "not_completed", "Not finished in time"),
        ("consumed", "refused", "This card cannot sign in here now"),
        ("consumed", "something_new", "This sign-in is over"),
    ],
)
def test_each_end_has_its_words(page: Page, desk: Desk, state: str, result: str | None, heading: str) -> None:
    """However a scan ends without a login, the page says it in its own words."""
    start(page)
    until(lambda: desk.streams)
    desk.move(state, result)
    says(page, heading)


def test_another_card_is_said_and_the_scan_goes_on(page: Page, desk: Desk) -> None:
    """A card that was not taken is told at once, each time, with the code and the time left; then the right one is."""
    start(page)
    until(lambda: desk.streams)
    for which, heading in (
        ("another_card", "That was another card"),
        ("charges_here", "That card is charging here"),
        ("another_card", "That was another card"),
    ):
        desk.another_card(which)
        says(page, heading)
        expect(page.locator(HEADING)).to_be_focused()
        expect(page.locator(".code [aria-hidden]")).to_have_text("K7PX")
        expect(page.get_by_role("timer")).to_contain_text("seconds left")
        page.get_by_role("button", name="Cancel").focus()
    desk.move("intercepted")
    says(page, "You are in")


@pytest.mark.parametrize(
    ("answer", "heading"),
    [
        (refusal(409, "pairing_already_armed"), "Somebody else is signing in here"),
        (refusal(403, "not_present"), "We cannot see that you are here"),
        (refusal(409, "interception_off"), "Signing in by card is switched off"),
        (refusal(409, "charger_unable"), "This charger cannot do it"),
        (refusal(500, "internal"), "It did not work"),
    ],
)
def test_each_refusal_to_begin_has_its_words(page: Page, desk: Desk, answer: Answer, heading: str) -> None:
    """A scan that may not begin says why, and what to do."""
    desk.arm = answer
    start(page)
    says(page, heading)


def test_too_many_tries_says_how_long_to_wait(page: Page, desk: Desk) -> None:
    """The wait is told in words that count down, and trying again is possible only afterwards."""
    desk.arm = refusal(429, "too_many_scans", retry_after_s=180)
    page.clock.install()
    start(page)
    says(page, "Too many tries")
    again = page.get_by_role("button", name="Try again")
    expect(page.locator(".lead")).to_contain_text("Wait 3 minutes")
    expect(again).to_be_disabled()
    page.clock.run_for(130_000)
    expect(page.locator(".lead")).to_contain_text("Wait 50 seconds")
    page.clock.run_for(60_000)
    expect(again).to_be_enabled()


def test_a_pin_is_asked_for_tried_again_and_locked(page: Page, desk: Desk) -> None:
    """Behind a QR code the card's PIN is asked for; a wrong one may be tried again until the card is locked."""
    desk.login = [refusal(401, "pin_needed"), refusal(403, "pin_wrong"), refusal(403, "pin_locked")]
    start(page)
    until(lambda: desk.streams)
    desk.move("intercepted")
    says(page, "Enter your PIN")
    pin = page.get_by_label("PIN of your card")
    expect(pin).to_be_focused()
    pin.fill("1234")
    page.keyboard.press("Enter")
    says(page, "That PIN is not right")
    expect(pin).to_be_focused()
    expect(pin).to_have_value("")
    pin.fill("2345")
    page.get_by_role("button", name="Sign in").click()
    says(page, "Too many wrong PINs")
    assert [each[2] for each in desk.calls("POST", "/login")] == [{}, {"pin": "1234"}, {"pin": "2345"}]


def test_a_pin_that_may_be_another_drivers_says_so(page: Page, desk: Desk) -> None:
    """A card that is held there after the one that was read is told beside the PIN, which stays as it was typed."""
    desk.login = [refusal(401, "pin_needed"), refusal(403, "pin_wrong")]
    start(page)
    until(lambda: desk.streams)
    desk.move("intercepted")
    says(page, "Enter your PIN")
    note = page.locator("#stage [data-later]")
    expect(note).to_be_hidden()
    page.get_by_label("PIN of your card").fill("12")
    until(lambda: len(desk.calls("GET", "/events")) == 2 and desk.streams)
    desk.another_card("came_later")
    expect(note).to_be_visible()
    expect(page.locator("#said")).to_contain_text("Another card")
    assert findings(page) == []
    expect(page.get_by_label("PIN of your card")).to_have_value("12")
    page.get_by_label("PIN of your card").fill("1234")
    page.keyboard.press("Enter")
    says(page, "That PIN is not right")
    expect(note).to_be_visible()
    desk.state, desk.other_cards, desk.other_card = "armed", 0, None
    page.get_by_role("button", name="Start again").click()
    says(page, "Tap now")
    assert len(desk.calls("POST", "/api/pairings")) == 2


def test_a_pin_that_nobody_enters_ends_the_scan(page: Page, desk: Desk) -> None:
    """The page does not ask for the PIN of a scan that is over: it says so, and lets one begin again."""
    desk.login = [refusal(401, "pin_needed")]
    start(page)
    until(lambda: desk.streams)
    desk.move("intercepted")
    says(page, "Enter your PIN")
    until(lambda: len(desk.calls("GET", "/events")) == 2 and desk.streams)
    desk.move("consumed", "not_completed")
    says(page, "Not finished in time")
    desk.state, desk.result = "armed", None
    page.get_by_role("button", name="Try again").click()
    says(page, "Tap now")


def test_a_login_is_refused_with_the_same_words_whatever_the_reason(page: Page, desk: Desk) -> None:
    """The refusal shows the page's own sentence, not what the server adds to it."""
    desk.login = [refusal(403, "login_refused", detail="unknown card")]
    start(page)
    until(lambda: desk.streams)
    desk.move("intercepted")
    says(page, "This card cannot sign in here now")
    expect(page.locator("main")).not_to_contain_text("unknown card")


def test_a_stream_that_ends_goes_on_where_it_was(page: Page, desk: Desk) -> None:
    """After a reconnect the server is told the last event's id, and what happened meanwhile is not lost."""
    start(page)
    says(page, "Tap now")
    until(lambda: desk.streams)
    desk.hang_up()
    until(lambda: len(desk.calls("GET", "/events")) >= 2)
    assert [each[3] for each in desk.calls("GET", "/events")][:2] == [None, "1"]
    until(lambda: desk.streams)
    desk.move("intercepted")
    says(page, "You are in")


def test_a_page_that_is_reloaded_after_the_match_completes_the_login(page: Page, desk: Desk) -> None:
    """A reload does not lose the scan: what was matched meanwhile is completed, once."""
    start(page)
    says(page, "Tap now")
    desk.state = "intercepted"
    page.reload()
    says(page, "You are in")
    desk.read.set()
    page.wait_for_url("**/me")
    assert len(desk.calls("POST", "/login")) == 1
    assert len(desk.calls("POST", "/api/pairings")) == 1


def test_a_server_that_is_away_is_said_and_tried_again(page: Page, desk: Desk) -> None:
    """The page says that nobody is reached, keeps the code in sight, tries by itself, and goes on."""
    start(page)
    says(page, "Tap now")
    until(lambda: desk.streams)
    desk.away = True
    desk.hang_up()
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("We cannot reach the server")
    expect(alert).to_contain_text("Next try in")
    expect(page.locator(".code [aria-hidden]")).to_have_text("K7PX")
    assert findings(page) == []
    # The pauses get longer, and one is long enough to ask for the next try oneself, on a busy machine too.
    expect(alert).to_contain_text(re.compile(r"Next try in ([4-9]|\d\d)\b"), timeout=30_000)
    desk.away, desk.state = False, "intercepted"
    alert.get_by_role("button", name="Try now").click()
    says(page, "You are in")
    expect(alert).to_be_hidden()


def test_a_login_whose_answer_is_lost_is_asked_for_again(page: Page, desk: Desk) -> None:
    """The tap is not wasted by a bad connection: the login is asked for until it is answered."""
    start(page)
    until(lambda: desk.streams)
    desk.away = True
    desk.state = "intercepted"
    for stream in desk.streams:
        stream.put(desk.event())
    until(lambda: desk.calls("POST", "/login"))
    expect(page.get_by_role("alert")).to_contain_text("We cannot reach the server")
    desk.away = False
    says(page, "You are in")


def test_a_proxy_that_lets_no_stream_through_is_lived_with(page: Page, desk: Desk) -> None:
    """Where streams are refused the page asks again and again, and nobody is told that the server is away."""
    desk.no_stream = True
    start(page)
    says(page, "Tap now")
    until(lambda: len(desk.calls("GET", "/events")) >= 2)
    expect(page.get_by_role("alert")).to_be_hidden()
    desk.state = "intercepted"
    says(page, "You are in")


def test_the_countdown_is_said_in_words_too(page: Page, desk: Desk) -> None:
    """The ring empties, its text says the same, and who hears the page is told now and then."""
    desk.expires_in_s = 40
    page.clock.install()
    start(page)
    says(page, "Tap now")
    expect(page.get_by_role("timer")).to_have_text("40 seconds left")
    page.clock.run_for(11_000)
    expect(page.get_by_role("timer")).to_have_text("29 seconds left")
    expect(page.locator("#said")).to_have_text("30 seconds left")
    gone = float(page.locator("circle.left").get_attribute("stroke-dashoffset") or 0)
    assert 60 < gone < 75
    desk.state = "expired"
    page.clock.run_for(32_000)
    says(page, "Time is up, try again")


def test_one_touch_on_the_kiosks_list_begins(page: Page, desk: Desk) -> None:
    """A charger chosen on the kiosk's own list is armed at once; opening the same address alone is not enough."""
    page.goto("/kiosk")
    page.get_by_role("link", name="CP-1").click()
    says(page, "Tap now")
    assert desk.calls("POST", "/api/pairings")[0][2] == {"charge_box_id": "CP-1"}
    page.goto("/scan?charger=CP-5")
    says(page, "Sign in with your card")
    assert len(desk.calls("POST", "/api/pairings")) == 1


def test_a_kiosk_returns_to_its_chargers_by_itself(page: Page, desk: Desk) -> None:
    """After an end the kiosk counts down to its list; a touch gives whoever stands there the time again."""
    page.clock.install()
    page.goto("/kiosk-expired")
    note = page.locator("[data-return]")
    expect(note).to_have_text("This screen starts over in 20 s.")
    page.clock.run_for(12_000)
    # The page's clock goes on beside ours while it is looked at.
    expect(note).to_have_text(re.compile(r"This screen starts over in \d s\."))
    page.mouse.click(5, 5)
    page.clock.run_for(1_000)
    expect(note).to_contain_text("in 1")
    page.clock.run_for(20_000)
    page.wait_for_url("**/kiosk")


def test_a_kiosk_notices_new_states_and_that_it_was_switched_off(page: Page, preview: Preview) -> None:
    """The list of chargers is kept fresh without moving the focus; a revoked screen asks for a new code."""
    page.clock.install()
    page.goto("/kiosk")
    link = page.get_by_role("link", name="CP-2")
    expect(link).to_contain_text("somebody is signing in")
    link.focus()
    preview.pages["kiosk"] = Sample("kiosk", KIOSK, Kiosk("West", (Choice("CP-1"), Choice("CP-2"))))
    page.clock.run_for(21_000)
    expect(link).to_contain_text("free")
    expect(link).to_be_focused()
    preview.pages["kiosk"] = Sample("kiosk", PHONE, Enrol("revoked"))
    page.clock.run_for(21_000)
    says(page, "Set up this screen")


def test_the_account_counts_down_warns_and_leaves_nothing(page: Page, desk: Desk) -> None:
    """Before the sign-out the driver is warned in words; when it comes, everything personal is gone at once."""
    page.clock.install()
    page.goto("/me")
    words = page.locator("[data-idle-words]")
    expect(words).to_contain_text("3:00")
    page.clock.run_for(151_000)
    expect(words).to_contain_text("You will be signed out in 29 seconds")
    expect(page.locator("#said")).to_contain_text("You will be signed out in")
    page.get_by_role("link", name="Stay signed in").click()
    expect(words).to_contain_text("You are signed out in")
    desk.away = True
    page.clock.run_for(181_000)
    expect(page.locator("body")).not_to_contain_text("Mara Lindt")


def test_the_end_of_the_time_is_no_touch(page: Page, preview: Preview) -> None:
    """When the time is over the page only looks: where the driver is active in another one, it goes on with what is
    left there; else it shows that it signed out.
    """
    looked: list[str] = []
    page.on("request", lambda request: looked.append(request.url) if request.is_navigation_request() else None)
    page.clock.install()
    page.goto("/me")
    preview.pages["me"] = Sample("me", PHONE, Me("Mara Lindt", ROWS, left_s=41))
    page.clock.run_for(181_000)
    words = page.locator("[data-idle-words]")
    expect(words).to_contain_text("0:41")
    assert looked[-1].endswith("/me?look")
    # A reload by hand is one.
    page.wait_for_url("**/me")
    preview.pages["me"] = preview.pages["out"]
    page.clock.run_for(42_000)
    says(page, "You are signed out")
    assert looked[-1].endswith("/me?look")


def test_touches_keep_a_driver_signed_in(page: Page, desk: Desk) -> None:
    """The server hears of touches, but at most every 20 s."""
    page.clock.install()
    page.goto("/me")
    before = len(desk.calls("GET", "/me"))
    page.mouse.click(5, 5)
    page.clock.run_for(21_000)
    page.mouse.click(5, 5)
    page.mouse.click(5, 5)
    until(lambda: len(desk.calls("GET", "/me")) > before)
    expect(page.locator("[data-idle-words]")).to_contain_text("3:00")
    assert len(desk.calls("GET", "/me")) <= before + 2


def test_nothing_is_left_behind_after_the_sign_out(page: Page, preview: Preview) -> None:
    """The back button after the sign-out shows nothing of the driver."""
    page.goto("/me")
    expect(page.get_by_text("Mara Lindt")).to_be_visible()
    preview.pages["me"] = preview.pages["out"]
    page.get_by_role("button", name="Sign out").click()
    says(page, "You are signed out")
    page.go_back()
    says(page, "You are signed out")
    expect(page.locator("body")).not_to_contain_text("Mara Lindt")


def test_a_session_that_ended_elsewhere_closes_the_page(page: Page, desk: Desk, preview: Preview) -> None:
    """When the server no longer knows the driver, a touch ends the page as well."""
    page.clock.install()
    preview.pages["me"] = Sample("me", PHONE, Me("Mara Lindt", ROWS))
    page.goto("/me")
    desk.stay = 401
    preview.pages["me"] = preview.pages["out"]
    page.clock.run_for(21_000)
    page.mouse.click(5, 5)
    says(page, "You are signed out")


def test_a_code_is_sent_once(page: Page, desk: Desk) -> None:
    """Pressing twice on Set up sends the enrolment code once, as it was typed."""
    page.goto("/enrol")
    page.get_by_role("textbox", name="Code").fill("abcde-fghjk")
    page.get_by_role("button", name="Set up").dblclick()
    says(page, "You are signed out")
    assert [each[2] for each in desk.calls("POST")] == ["code=abcde-fghjk"]


def test_the_events_are_read_as_the_standard_says(page: Page, server: Preview) -> None:
    """Fields, comments, empty lines, several data lines and every line end, in pieces of any size (HTML, 9.2.6)."""
    page.goto("/scan-ready")
    script = """async ([address, text, size]) => {
      const { Parser } = await import(address);
      const events = [];
      const parser = new Parser(event => { if (event.data !== null) events.push([event.id, event.name, event.data]); });
      for (let at = 0; at < text.length; at += size) parser.feed(text.slice(at, at + size));
      return events;
    }"""
    address = f"{server.screens.assets.address}/js/stream.js"
    text = ": hello\r\n\r\nid: 3\r\nevent: intercepted\r\ndata: a\r\ndata:b\r\n\r\n"
    text += "retry: 10\n\ndata\n\nid: 4\ndata:  c\n\ndata: cut"
    for size in (1, 2, 3, 7, 1000):
        assert page.evaluate(script, [address, text, size]) == [
            ["3", "intercepted", "a\nb"],
            [None, "message", ""],
            ["4", "message", " c"],
        ]


def test_a_page_that_is_left_is_emptied_before_the_browser_keeps_it(page: Page) -> None:
    """On the way out the account takes everything off the page: what the browser keeps for going back is blank."""
    page.goto("/me")
    expect(page.get_by_text("Mara Lindt")).to_be_visible()
    page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))")
    assert page.locator("body").inner_text().strip() == ""
