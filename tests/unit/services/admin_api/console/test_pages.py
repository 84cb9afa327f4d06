"""What holds for the HTML of every page, without a browser."""

import re
from html.parser import HTMLParser

import pytest

from services.admin_api.console.render import Pages
from services.admin_api.console.view.cards import CardList
from tests.browser.samples.base import FRAME, Sample
from tests.browser.samples.every import SAMPLES

PAGES = Pages()


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
    for tag, attributes in tags(PAGES.render(sample.template, sample.frame, sample.page)):
        assert "style" not in attributes, tag
        assert not [name for name in attributes if name.startswith("on")], tag
        if tag == "script":
            assert (attributes["src"] or "").startswith(PAGES.assets.address)
        if tag == "link":
            assert (attributes["href"] or "").startswith(PAGES.assets.address)
        assert tag != "style"


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=lambda sample: sample.name)
def test_a_page_has_one_heading_and_no_double_ids(sample: Sample) -> None:
    """Each page has exactly one first heading, and an id names one element."""
    found = tags(PAGES.render(sample.template, sample.frame, sample.page))
    ids = [attributes["id"] for _, attributes in found if "id" in attributes]
    assert sum(tag == "h1" for tag, _ in found) == 1
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=lambda sample: sample.name)
def test_every_form_that_changes_something_carries_the_token(sample: Sample) -> None:
    """A POST form holds the token that proves that it came from this console."""
    html = PAGES.render(sample.template, sample.frame, sample.page)
    for form in re.findall(r"<form[^>]*method=\"post\".*?</form>", html, re.DOTALL):
        assert 'name="csrf_token"' in form


def test_what_people_typed_is_escaped() -> None:
    """Names, notes and searches from outside are text on the page, never markup."""
    html = PAGES.render("cards/list.html", FRAME.at("cards"), CardList((), query="<img src=x onerror=alert(1)>\"'"))
    assert "<img" not in html
    assert "&lt;img" in html
