"""The driver pages in a real browser: accessible, within their screen, quiet in the console, large enough."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.driver_pages_preview import Preview, serving
from tests.browser.driver_pages_samples import SAMPLES, Sample
from tests.browser.preview import chromium, faults, fullest, opened

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def preview() -> Iterator[Preview]:
    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.mark.parametrize(
    ("width", "scheme", "all_by_axe"),
    [
        (390, "dark", False),
        pytest.param(390, "dark", True, marks=pytest.mark.full),
        pytest.param(1280, "light", True, marks=pytest.mark.full),
        pytest.param(768, "dark", True, marks=pytest.mark.full),
        pytest.param(390, "light", True, marks=pytest.mark.full),
    ],
)
def test_every_page_is_accessible_and_fits(
    browser: Browser, preview: Preview, width: int, scheme: str, *, all_by_axe: bool
) -> None:
    """Axe finds nothing on any page in any state, nothing is wider than the screen, and nothing breaks the policy. By
    default each screen is looked at in its fullest state, and by axe only what is new on it: `.ci/run` has it look at
    all.
    """

    def kind(sample: Sample) -> object:
        return type(sample.page), getattr(sample.page, "screen", None)

    some = fullest(SAMPLES.values(), lambda each: len(repr(each.page)), kind, 1)
    addresses = [preview.address + sample.address for sample in (SAMPLES.values() if all_by_axe else some)]
    with opened(browser, width, scheme) as (page, complaints):
        assert faults(page, complaints, addresses, all_by_axe=all_by_axe) == []


@pytest.mark.parametrize("name", ["scan-wait", "kiosk-wait"])
def test_the_code_is_large_and_monospaced(browser: Browser, preview: Preview, name: str) -> None:
    """The pairing code is set in a monospaced face of at least 28 px, and is spelled out to who hears it."""
    with opened(browser, 390) as (page, _):
        page.goto(f"{preview.address}/{name}")
        shown = page.locator(".code [aria-hidden]")
        expect(shown).to_have_text("K7PX")
        assert float(shown.evaluate("each => parseFloat(getComputedStyle(each).fontSize)")) >= 28
        assert "mono" in str(shown.evaluate("each => getComputedStyle(each).fontFamily"))
        expect(page.locator(".code .visually-hidden")).to_have_text("K 7 P X")


@pytest.mark.parametrize("name", ["scan-ready", "scan-wait", "scan-expired", "scan-pin", "me", "kiosk", "enrol"])
def test_what_is_touched_is_large_enough_for_a_wet_thumb(browser: Browser, preview: Preview, name: str) -> None:
    """Every button, link and field is at least 44 px high (WCAG 2.5.5)."""
    with opened(browser, 390) as (page, _):
        page.goto(f"{preview.address}/{name}")
        small = page.evaluate(
            """() => [...document.querySelectorAll('main a, main button, main input')]
                .filter(each => each.offsetParent && each.getBoundingClientRect().height < 44)
                .map(each => each.outerHTML)"""
        )
        assert small == []


def test_nothing_moves_for_those_who_asked_for_that(browser: Browser, preview: Preview) -> None:
    """With reduced motion no animation runs on the page that waits for the server."""
    with opened(browser, 390) as (page, _):
        page.goto(f"{preview.address}/scan-working")
        assert page.evaluate("document.getAnimations().length") == 0


def test_the_pages_work_without_scripts(browser: Browser, preview: Preview) -> None:
    """Without JavaScript forms start and cancel a scan, the page looks again by itself; others show all they have."""
    context = browser.new_context(java_script_enabled=False)
    try:
        page = context.new_page()
        page.goto(f"{preview.address}/scan-wait-plain")
        expect(page.locator("noscript meta[http-equiv=refresh]")).to_have_attribute("content", "3")
        expect(page.locator(".code [aria-hidden]")).to_have_text("K7PX")
        expect(page.get_by_role("button", name="Cancel")).to_be_visible()
        page.goto(f"{preview.address}/scan-ready")
        page.get_by_role("button", name="Start").click()
        assert [each[2] for each in preview.desk.calls("POST", "/scan")] == ["charger=CP-7&connector=2&do=start"]
        page.goto(f"{preview.address}/me")
        expect(page.get_by_text("12.4 kWh")).to_be_visible()
        expect(page.get_by_role("button", name="Sign out")).to_be_visible()
        page.goto(f"{preview.address}/kiosk")
        expect(page.get_by_role("link", name="CP-1")).to_be_visible()
        page.goto(f"{preview.address}/enrol")
        expect(page.get_by_role("textbox", name="Code")).to_be_visible()
    finally:
        context.close()


@pytest.mark.parametrize("name", ["kiosk-wait", "kiosk-charges-here"])
def test_a_kiosk_shows_the_ring_beside_the_words(browser: Browser, preview: Preview, name: str) -> None:
    """On its side, the words stand at the left and the ring at the right, also while another card passed by. Cancel is
    a button like others, and on the screen.
    """
    with opened(browser, 1280) as (page, _):
        page.set_viewport_size({"width": 1280, "height": 800})
        page.goto(f"{preview.address}/{name}")
        words, ring = page.locator("h1").bounding_box(), page.locator(".ring").bounding_box()
        assert words is not None
        assert ring is not None
        assert ring["x"] > words["x"] + words["width"]
        assert ring["y"] < words["y"] + words["height"] < ring["y"] + ring["height"]
        cancel = page.get_by_role("button", name="Cancel").bounding_box()
        assert cancel is not None
        assert cancel["height"] == 72
        assert cancel["y"] + cancel["height"] < 800
