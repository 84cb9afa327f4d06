"""What holds for the driver pages' HTML and words, without a browser."""

import re
from html.parser import HTMLParser
from typing import get_args

import pytest

from services.preauth.decision.statement import Windows
from services.preauth.login import rules as login
from services.preauth.login.screens import stages
from services.preauth.login.screens.render import HERE, LEAVING, Screens
from services.preauth.login.screens.stages import LOOKS, Screen
from services.preauth.login.screens.view import BILLED_STATE, Frame, Me, Scan, SessionRow
from services.preauth.login.screens.words import Words
from services.preauth.pairing import rules as pairing
from shared.contracts.requests.sync import BillingState
from tests.browser.driver_pages_samples import NOW, SAMPLES, Sample

SCREENS = Screens()
WORDS = Words()


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def tags(html: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Tags()
    parser.feed(html)
    return parser.found


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=lambda sample: sample.name)
def test_a_page_needs_no_exception_from_the_content_security_policy(sample: Sample) -> None:
    """No page holds an inline script, an inline style or handler, or loads anything from elsewhere."""
    for tag, attributes in tags(SCREENS.render(sample.frame, sample.page)):
        assert "style" not in attributes, tag
        assert not [name for name in attributes if name.startswith("on")], tag
        if tag == "script":
            assert (attributes["src"] or "").startswith(SCREENS.assets.address)
        if tag == "link":
            assert (attributes["href"] or "").startswith(SCREENS.assets.address)
        assert tag != "style"


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=lambda sample: sample.name)
def test_every_asset_a_page_asks_for_exists(sample: Sample) -> None:
    """Stylesheets, scripts and icons of a page are there."""
    for _, attributes in tags(SCREENS.render(sample.frame, sample.page)):
        for address in (attributes.get("src"), attributes.get("href")):
            if address and address.startswith("/static/"):
                assert SCREENS.assets.get(address.removeprefix(f"{SCREENS.assets.address}/")) is not None, address


def test_every_module_a_script_imports_exists() -> None:
    """An import of a script names a file that is served."""
    for file in (HERE / "static" / "js").glob("*.js"):
        for name in re.findall(r'from "\./([a-z]+\.js)"', file.read_text()):
            assert SCREENS.assets.get(f"js/{name}") is not None, f"{file.name} imports {name}"


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=lambda sample: sample.name)
def test_a_page_leaves_nothing_open_that_nobody_fills_in(sample: Sample) -> None:
    """Outside the templates that scripts fill in, only what counts down is still in braces."""
    html = re.sub(r"<template.*?</template>", "", SCREENS.render(sample.frame, sample.page), flags=re.DOTALL)
    shown = re.sub(r"<[^>]*>", "", html)
    assert set(re.findall(r"\{[a-z_]+\}", shown)) <= {"{seconds}"}


def test_what_comes_from_outside_is_escaped() -> None:
    """The ids of chargers and the names of cards are text on the page, never markup."""
    nasty = "<img src=x onerror=alert(1)>\"'"
    scan = SCREENS.render(
        Frame(kiosk=nasty), Scan(nasty, screen=Screen.UNABLE, unable=nasty, client={"state": nasty}, key=nasty)
    )
    me = SCREENS.render(Frame(), Me(nasty, (SessionRow(nasty, 1, NOW, 1, "open"),), portal=nasty))
    assert "<img" not in scan + me


def test_every_screen_has_its_words() -> None:
    """Each screen has a title and a text that are its own."""
    titles = {WORDS(f"scan.{screen}.title") for screen in Screen}
    assert set(LOOKS) == set(Screen)
    assert len(titles) == len(Screen)
    assert all(WORDS(f"scan.{screen}.text") for screen in Screen)


def test_every_sentence_is_used() -> None:
    """The file of words holds nothing that no page says: a translator's work is not wasted."""
    said = "".join(path.read_text() for kind in ("*.html", "*.js") for path in HERE.rglob(kind))
    families = (
        "scan.",
        "me.billed.",
        "kiosk.state.",
        "enrol.notice.",
        "script.",
        "common.",
        "trouble.",
        "bind.notice.",
    )
    unused = [name for name in WORDS.places() if f'"{name}"' not in said and not name.startswith(families)]
    assert unused == []


def test_a_sentence_fills_in_what_is_known_and_leaves_the_rest() -> None:
    """What the server knows is filled in once; what scripts know stays in braces; unknown names are errors."""
    assert WORDS("scan.wait.text", charger="{code}") == "Hold your card to the reader of {code}."
    assert WORDS("scan.wait.left") == "{seconds} seconds left"
    with pytest.raises(KeyError):
        WORDS("scan.nowhere")


@pytest.mark.parametrize("name", [*WORDS.places()])
def test_words_do_not_shout_or_blame(name: str) -> None:
    """No exclamation marks, no "oops", no "invalid": people read this in the rain."""
    assert not re.search(r"!|oops|invalid|illegal|your fault", WORDS(name), re.IGNORECASE)


def test_every_refusal_of_the_service_has_its_screen() -> None:
    """Each refusal that arming or logging in can end in leads to a screen of its own words, and so does each state."""
    codes = {
        problem.code
        for problem in (
            pairing.AlreadyArmed,
            pairing.TooManyScans,
            pairing.NotPresent,
            login.NoSuchScan,
            login.NotScanned,
            login.AlreadyUsed,
            login.ScanOver,
            login.LoginRefused,
            login.PinNeeded,
            login.PinWrong,
            login.PinLocked,
            login.PinsSpent,
            pairing.ChargerUnable,
            pairing.InterceptionOff,
        )
    }
    assert codes <= set(stages.OF_PROBLEM)
    assert set(login.STAGE) - {"consumed"} <= set(stages.OF_STATE)


def test_every_state_of_billing_has_its_word() -> None:
    """However far a session is billed, a driver's page has a word and a shape for it."""
    assert set(get_args(BillingState)) | {"unknown"} == set(BILLED_STATE)
    assert all(WORDS(f"me.billed.{state}") for state in BILLED_STATE)


def test_a_driver_leaves_no_copy_behind() -> None:
    """The answer that signs out has the browser forget what it kept, and no page is ever stored."""
    assert LEAVING["Cache-Control"] == "no-store"
    assert '"cache"' in LEAVING["Clear-Site-Data"]
    assert '"cookies"' not in LEAVING["Clear-Site-Data"], "the kiosk's key and the browser's binding stay"


@pytest.mark.parametrize("screen", ["pins_spent", "unfinished"])
def test_who_has_to_wait_is_told_how_long(screen: str) -> None:
    """A scan by QR code that came to nothing keeps the card from the next one; nobody is asked to try at once."""
    assert Windows().unfinished_s == 600
    assert "after ten minutes" in WORDS(f"scan.{screen}.text")
