"""The console: signing in with a browser, and pages that are twins of the API."""

import re
from uuid import uuid4

import pytest

from shared.contracts.requests.audit import EntryPage, GetEntry, SearchEntries
from shared.contracts.requests.preauth import GetInterception, InterceptionState, SearchTaps
from shared.contracts.requests.sync import (
    CardPage,
    CardView,
    GetCard,
    LinkCard,
    ReadCardInSteve,
    SearchCards,
    SearchSessions,
)
from shared.contracts.requests.sync_cards import RelinkCard
from tests.integration.services.admin_api import scene
from tests.integration.services.admin_api.console import Console, words
from tests.integration.services.admin_api.scene import CARD, all_is_well
from tests.integration.services.admin_api.stubs import Silence
from tests.integration.services.admin_api.support import OWN_PASSWORD, House, change, problem
from tests.unit.services.admin_api.diagnosis import cases

PAGES = ["/", "/cards", f"/cards/{CARD}", f"/cards/{CARD}/link", f"/cards/{CARD}/edit", "/audit", "/password"]


@pytest.fixture
async def console(admin: House) -> Console:
    """Signed in as the administrator, with all owners answering."""
    all_is_well(admin.owners)
    browser = Console(admin)
    answer = await browser.sign_in()
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    return browser


async def test_a_first_sign_in_leads_to_a_password_of_ones_own(house: House) -> None:
    """The one-time password opens nothing but the page where another one is chosen."""
    all_is_well(house.owners)
    browser = Console(house)
    answer = await browser.sign_in(password=house.one_time_password)
    assert (answer.status_code, answer.headers["location"]) == (303, "/password")
    assert (await browser.get("/cards")).headers["location"] == "/password"
    problem(await browser.get("/api/v1/cards"), 403, "password_change_required")
    page = await browser.get("/password")
    assert "Current password" not in page.text
    differing = await browser.submit(page, "/password", password=OWN_PASSWORD, again="something else")
    assert (differing.status_code, "not the same" in differing.text) == (422, True)
    same = await browser.submit(page, "/password", password=house.one_time_password, again=house.one_time_password)
    assert (same.status_code, "one-time" in same.text) == (422, True)
    chosen = await browser.submit(page, "/password", password=OWN_PASSWORD, again=OWN_PASSWORD)
    assert (chosen.status_code, chosen.headers["location"]) == (303, "/")
    assert (await browser.get("/")).status_code == 200


async def test_the_sessions_cookie_is_kept_from_scripts_and_from_other_sites(admin: House) -> None:
    """HttpOnly, SameSite=Strict, for the whole host; a sign-in always gives another one, and the old one is void."""
    browser = Console(admin)
    answer = await browser.sign_in()
    cookie = next(each for each in answer.headers.get_list("set-cookie") if each.startswith("expressync_session="))
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Path=/" in cookie
    first = browser.client.cookies["expressync_session"]
    browser.client.cookies.set("expressync_form", "x", domain="127.0.0.1")
    page = await Console(admin).get("/sign-in")
    again = await browser.client.post(
        "/sign-in",
        data={
            "csrf_token": csrf_of(page.text, page.cookies["expressync_form"], browser),
            "name": "admin",
            "password": OWN_PASSWORD,
        },
    )
    assert again.status_code == 303
    assert browser.client.cookies["expressync_session"] != first
    old = admin.client(Cookie=f"expressync_session={first}")
    problem(await old.get("/api/v1/me"), 401, "not_signed_in")


def csrf_of(html: str, cookie: str, browser: Console) -> str:
    """A form token with the cookie it belongs to."""
    browser.client.cookies.set("expressync_form", cookie, domain="127.0.0.1")
    found = re.search(r'name="csrf_token" value="([^"]+)"', html)
    assert found is not None
    return found[1]


async def test_a_refused_sign_in_keeps_the_name_and_never_the_password(admin: House) -> None:
    """401, one sentence, the name still there."""
    browser = Console(admin)
    answer = await browser.sign_in(password="not my password")
    assert answer.status_code == 401
    assert 'value="admin"' in answer.text
    assert "not my password" not in answer.text
    assert "The name or the password is wrong." in words(answer)


async def test_a_page_is_come_back_to_after_the_sign_in_and_only_one_of_ours(admin: House) -> None:
    """`next` is kept; an address elsewhere becomes the overview."""
    all_is_well(admin.owners)
    browser = Console(admin)
    away = await browser.get("/cards", q="a&b")
    assert away.headers["location"].startswith("/sign-in?next=%2Fcards%3Fq%3Da")
    answer = await browser.sign_in(path=away.headers["location"])
    assert answer.headers["location"] == "/cards?q=a%26b"
    for evil in ("https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", "evil"):
        fresh = Console(admin)
        page = await fresh.get("/sign-in", next=evil)
        assert (await fresh.submit(page, "/sign-in", name="admin", password=OWN_PASSWORD)).headers["location"] == "/"


async def test_a_session_ends_by_idling_by_age_and_by_signing_out(admin: House) -> None:
    """Each way leads back to the sign-in; what was open is asked for again."""
    browser = Console(admin)
    await browser.sign_in()
    admin.clock.pass_by(minutes=119)
    assert (await browser.get("/password")).status_code == 200
    admin.clock.pass_by(minutes=119)
    assert (await browser.get("/password")).status_code == 200
    admin.clock.pass_by(minutes=121)
    ended = await browser.get("/password")
    assert "why=ended" in ended.headers["location"]
    await browser.sign_in()
    for _ in range(11):
        admin.clock.pass_by(minutes=61)
        assert (await browser.get("/password")).status_code == 200
    admin.clock.pass_by(minutes=61)
    assert (await browser.get("/password")).status_code == 303
    await browser.sign_in()
    out = await browser.submit(await browser.get("/"), "/sign-out")
    assert out.headers["location"] == "/sign-in?why=out"
    assert (await browser.get("/")).status_code == 303


@pytest.mark.parametrize("token", ["", "wrong", "é"])
async def test_a_form_without_its_token_changes_nothing(console: Console, admin: House, token: str) -> None:
    """403, and the owner is not asked."""
    data = {"csrf_token": token, "customer": "ada", "subscription": "s", "valid_from": "2026-05-01T00:00"}
    answer = await console.client.post(f"/cards/{CARD}/link", data=data)
    assert answer.status_code == 403
    assert "does not come from this console" in words(answer)
    assert admin.owners.requests(LinkCard) == admin.owners.requests(RelinkCard) == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_a_form_of_another_site_is_refused_even_with_its_token(console: Console, headers: dict[str, str]) -> None:
    """By Origin and by Fetch Metadata, each by itself; the same for the API with the cookie."""
    page = await console.get("/")
    console.client.headers.update(headers)
    assert (await console.submit(page, "/sign-out")).status_code == 403
    me = (await console.get("/api/v1/me")).json()
    answer = await console.client.post(
        "/api/v1/diagnoses",
        json={"card": CARD},
        headers={"Idempotency-Key": uuid4().hex, "X-CSRF-Token": me["csrf_token"]},
    )
    problem(answer, 403, "foreign_form")


async def test_the_api_takes_the_cookie_only_with_the_token_of_the_session(console: Console) -> None:
    """Reading needs the cookie alone, a change its token in a header."""
    me = (await console.get("/api/v1/me")).json()
    headers = {"Idempotency-Key": uuid4().hex}
    problem(await console.client.post("/api/v1/diagnoses", json={"card": CARD}, headers=headers), 403, "foreign_form")
    headers["X-CSRF-Token"] = me["csrf_token"]
    answer = await console.client.post("/api/v1/diagnoses", json={"card": CARD}, headers=headers)
    assert answer.status_code == 201


async def test_a_sign_in_form_of_another_site_is_refused(admin: House) -> None:
    """Nobody is signed in as somebody else without noticing (login CSRF)."""
    browser = Console(admin)
    data = {"csrf_token": "x", "name": "admin", "password": OWN_PASSWORD}
    assert (await browser.client.post("/sign-in", data=data)).status_code == 403
    page = await browser.get("/sign-in")
    browser.client.headers["Origin"] = "https://evil.example"
    refused = await browser.submit(page, "/sign-in", name="admin", password=OWN_PASSWORD)
    assert refused.status_code == 403
    assert "expressync_session" not in browser.client.cookies


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_is_for_the_signed_in_and_carries_the_strict_headers(
    console: Console, admin: House, path: str
) -> None:
    """Otherwise it leads to the sign-in; no page runs or shows what is not ours, none is kept in a cache."""
    assert (await Console(admin).get(path)).headers["location"].startswith("/sign-in")
    page = await console.get(path)
    assert page.status_code == 200, page.text
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert not re.search(r"<script(?![^>]*src=)|\son[a-z]+=|style=", page.text)


async def test_every_asset_a_page_names_is_there_and_kept_for_ever(console: Console) -> None:
    """Their address changes with their content."""
    page = await console.get("/")
    assets = set(re.findall(r'(?:href|src)="(/static/[^"]+)"', page.text))
    assert len(assets) >= 5
    for asset in assets:
        answer = await console.get(asset)
        assert answer.status_code == 200, asset
        assert "immutable" in answer.headers["Cache-Control"]


@pytest.mark.parametrize("path", ["/", "/cards", f"/cards/{CARD}", "/audit"])
async def test_every_page_has_a_twin_in_json(console: Console, path: str) -> None:
    """The foot of a page links to the same as JSON, which the same session may read."""
    page = await console.get(path)
    found = re.search(r'<a href="([^"]+)">This page as JSON', page.text)
    assert found is not None
    twin = await console.get(found[1])
    assert twin.status_code == 200
    assert twin.headers["content-type"] == "application/json"


async def test_what_is_not_there_or_not_allowed_is_a_page_that_leads_on(console: Console, admin: House) -> None:
    """404, 405 and 403 as pages; a viewer neither sees nor reaches the link form."""
    missing = await console.get("/nothing")
    assert (missing.status_code, "Go to the overview" in words(missing)) == (404, True)
    assert (await console.client.delete("/cards")).status_code == 405
    assert (await console.get("/audit/no-uuid")).status_code == 404
    made = await change(await admin.as_admin(), "/operators", {"name": "vera", "role": "viewer"})
    await admin.sign_in("vera", made["one_time_password"], new_password="veras own password")
    vera = Console(admin)
    await vera.sign_in("vera", "veras own password")
    card = await vera.get(f"/cards/{CARD}")
    assert (card.status_code, "/link" in card.text) == (200, False)
    refused = await vera.get(f"/cards/{CARD}/link")
    assert (refused.status_code, "Your role is viewer" in words(refused)) == (403, True)


async def test_the_card_page_says_how_it_stands_and_shows_everything(console: Console) -> None:
    """Verdict, the four checks, SteVe's record, sessions in kWh, and the taps in the timeline."""
    text = words(await console.get(f"/cards/{CARD}"))
    assert "Nothing stops this card" in text
    assert "Does SteVe consider this card valid right now? Yes" in text
    assert "12.4" in text
    assert "SteVe accepted" in text
    assert "Tapped at CP-7" in text


async def test_silence_on_the_card_page_looks_like_silence(console: Console, admin: House) -> None:
    """SteVe silent: the banner, the last known record with its age, unknown checks, and nothing that says fine."""
    admin.owners.answer(ReadCardInSteve, scene.steve_is_silent())
    admin.owners.silence(SearchTaps)
    page = await console.get(f"/cards/{CARD}")
    text = words(page)
    assert page.status_code == 200
    assert "SteVe is unreachable right now" in text
    assert "Last read" in text
    assert "Preauth did not answer; what it knows is missing here." in text
    assert text.count("Unknown") >= 3
    admin.owners.silence(ReadCardInSteve)
    unasked = words(await console.get(f"/cards/{CARD}"))
    assert "Sync did not answer, so nobody asked SteVe; charging history and hierarchy may be stale." in unasked
    assert "SteVe is unreachable" not in unasked
    admin.owners.silence(GetCard)
    alone = words(await console.get(f"/cards/{CARD}"))
    assert "Not linked" not in alone
    assert "Not known" in alone


async def test_the_lists_tell_nothing_from_no_answer(console: Console, admin: House) -> None:
    """Empty says what would fill it; silent says who did not answer."""
    admin.owners.answer(SearchCards, CardPage(cards=[]))
    assert "No card fits" in words(await console.get("/cards", q="zebra"))
    for request, path in ((SearchCards, "/cards"), (SearchEntries, "/audit"), (SearchSessions, "/")):
        admin.owners.silence(request)
        assert "did not answer" in words(await console.get(path))


async def test_lists_are_read_on_and_filtered_by_their_address(console: Console, admin: House) -> None:
    """The filter stays in the link to older ones; the owner gets it."""
    admin.owners.answer(SearchCards, CardPage(cards=[cases.known()], next_cursor="c 2"))
    page = await console.get("/cards", q="ada", linked="no")
    older = re.search(r'href="(/cards\?[^"]+cursor[^"]+)" rel="next"', page.text)
    assert older is not None
    await console.get(older[1].replace("&amp;", "&"))
    asked = admin.owners.requests(SearchCards)[-1].data
    assert (asked["text"], asked["linked"], asked["cursor"]) == ("ada", False, "c 2")


async def test_the_audit_log_shows_what_was_recorded(console: Console, admin: House) -> None:
    """Who, what and when, with what changed; the filters reach audit; a bad time is named."""
    entry = cases.entry("card.changed", cases.NOW, {"before": {"active": True}, "after": {"active": False}})
    admin.owners.answer(SearchEntries, EntryPage(entries=[entry]))
    admin.owners.answer(GetEntry, entry)
    text = words(await console.get("/audit", actor_kind="operator", within="24h"))
    assert "Card changed" in text
    assert "Operator m" in text
    asked = admin.owners.requests(SearchEntries)[-1].data
    assert asked["actor_kind"] == "operator"
    assert asked["since"] is not None
    assert "active yes no" in words(await console.get(f"/audit/{entry.event_id}"))
    bad = await console.get("/audit", since="yesterday")
    assert (bad.status_code, "'yesterday' is no date" in words(bad)) == (422, True)


async def test_parents_that_run_in_a_circle_are_told(console: Console, admin: House) -> None:
    """Among the relations with the way they take, and where it is said why the card is linked to nobody."""
    circle = {"ancestors": ["META", "TOP"], "parent_cycle": True}
    admin.owners.answer(GetCard, cases.known(link=None, **circle))
    admin.owners.answer(ReadCardInSteve, scene.in_steve(parent_id_tag="META"))
    text = words(await console.get(f"/cards/{CARD}"))
    assert text.count(f"Its parents run in a circle, {CARD} → META → TOP and round again") == 2
    assert "above it TOP" in text


async def test_a_card_below_a_linked_one_is_billed_through_it(console: Console, admin: House) -> None:
    """The card that the link is of is named, and the one below it can have a link of its own."""
    cards = {CARD: cases.known(link=None, ancestors=["META", "TOP"]), "META": cases.known(id_tag="META", link=None)}
    admin.owners.answer(GetCard, lambda request: cards.get(request.id_tag) or cases.known(id_tag="TOP"))
    text = words(await console.get(f"/cards/{CARD}"))
    assert "through TOP" in text
    assert "Through TOP above it, linked to ada" in text
    assert "Link this card" in text
    assert "sessions are held" not in text


@pytest.mark.parametrize("page", ["card", "list"])
async def test_a_card_below_others_is_not_said_to_be_unlinked_where_that_is_not_known(
    console: Console, admin: House, page: str
) -> None:
    """Sync is silent about the card above it, or is not asked about it: whether its sessions are held is not said."""
    mine = cases.known(link=None, ancestors=["META"])

    def answer(request: GetCard) -> CardView:
        if request.id_tag != CARD:
            raise Silence
        return mine

    admin.owners.answer(GetCard, answer)
    admin.owners.answer(SearchCards, CardPage(cards=[mine]))
    text = words(await console.get(f"/cards/{CARD}" if page == "card" else "/cards"))
    said = {"card": "Sync did not say whether a card above it is linked", "list": "No link of its own"}
    assert said[page] in text
    assert "its sessions are held" not in text.lower()


async def test_the_overview_says_the_worst_first(console: Console, admin: House) -> None:
    """What does not answer is named; nothing that is unknown counts as fine."""
    text = words(await console.get("/"))
    assert "Last taps" in text
    assert "Everything answers" not in text
    assert scene.CARD in text
    assert "photo" not in text
    state = InterceptionState(everywhere=True, off_at=["CP-7"], qr_is_strong=True)
    admin.owners.answer(GetInterception, state)
    text = words(await console.get("/"))
    assert "whoever has a photo of one is logged in as the next card" in text
    assert "switched off at CP-7" in text
    admin.owners.answer(GetInterception, state.model_copy(update={"everywhere": False}))
    assert "switched off everywhere" in words(await console.get("/"))
    admin.owners.silence(SearchTaps)
    assert "Preauth did not answer" in words(await console.get("/"))
