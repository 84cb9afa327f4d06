"""The console's edit page of a card: each change reaches its owner, and what became of it is told."""

from typing import Any
from uuid import uuid4

import pytest

from shared.contracts.problem import Conflict
from shared.contracts.request import Request
from shared.contracts.requests.audit import EntryPage, SearchEntries
from shared.contracts.requests.sync import GetCard, ReadCardInSteve
from shared.contracts.requests.sync_cards import (
    BlockCard,
    ChangeCard,
    ChangeParent,
    SetExpiry,
    UnblockCard,
    UndoChange,
    UnlinkCard,
)
from tests.integration.services.admin_api import scene
from tests.integration.services.admin_api.console import Console, words
from tests.integration.services.admin_api.scene import CARD, all_is_well
from tests.integration.services.admin_api.support import House, change
from tests.unit.services.admin_api.diagnosis import cases
from tests.unit.services.admin_api.diagnosis.cases import AN_ID

EDIT = f"/cards/{CARD}/edit"
STANDS = cases.known(notes="In the\noffice", cardholder="Ada", last_change_id=AN_ID)
CHANGED = cases.entry("card.blocked", cases.NOW, {"change_id": str(AN_ID), "before": {}, "after": {"blocked": True}})


@pytest.fixture
async def console(admin: House) -> Console:
    """Signed in as the administrator, with all owners answering."""
    all_is_well(admin.owners)
    admin.owners.answer(GetCard, STANDS)
    admin.owners.answer(SearchEntries, EntryPage(entries=[CHANGED]))
    browser = Console(admin)
    await browser.sign_in()
    return browser


async def test_the_edit_page_shows_the_whole_record_and_what_each_change_will_do(
    console: Console, admin: House
) -> None:
    """SteVe's record of now, the fields that only ExpresSync keeps, the consequences, and the last change."""
    record = {"user_pk": 41, "parent_id_tag": "META", "parent_ocpp_tag_pk": 12, "note": "fleet"}
    admin.owners.answer(ReadCardInSteve, scene.in_steve(**record))
    assert EDIT in (await console.get(f"/cards/{CARD}")).text
    page = await console.get(EDIT)
    text = words(page)
    assert "1 session at once" in text
    for given in ("User 41", "META key 12", "Key 7", "Note fleet"):
        assert given in text
    assert "SteVe refuses it at every charger from the next tap on" in text
    assert "billed to nobody, unless a parent is linked" in text
    assert "Card blocked" in text
    assert "In the\noffice" in page.text


@pytest.mark.parametrize(
    ("section", "typed", "request_", "sent", "says"),
    [
        ("block", {"reason": " lost "}, BlockCard, {"reason": "lost"}, "is blocked: SteVe refuses it"),
        ("parent", {"parent": "META"}, ChangeParent, {"parent_id_tag": "META"}, "stands under no card any more"),
        ("parent", {"parent": ""}, ChangeParent, {"parent_id_tag": None}, "stands under"),
        (
            "expiry",
            {"expiry": "2030-01-01T09:30"},
            SetExpiry,
            {"expiry": "2030-01-01T09:30:00Z"},
            "does not expire any more",
        ),
        ("expiry", {"expiry": ""}, SetExpiry, {"expiry": None}, "does not expire"),
        ("unlink", {}, UnlinkCard, {"id_tag": CARD, "valid_to": None}, "is linked to nobody"),
        ("undo", {}, UndoChange, {"change_id": str(AN_ID)}, "The last change"),
    ],
)
async def test_a_change_is_made_once_and_told_with_its_undo(  # noqa: PLR0917 - a row of the table
    console: Console,
    admin: House,
    section: str,
    typed: dict[str, str],
    request_: type[Request[Any]],
    sent: dict[str, Any],
    says: str,
) -> None:
    """The form's own key, so that sending it twice does it once; afterwards the page says what was done."""
    admin.owners.answer(request_, STANDS)
    page = await console.get(EDIT)
    done = await console.submit(page, f"{EDIT}/{section}", **typed)
    change_id = "" if section == "undo" else f"&change={AN_ID}"
    assert (done.status_code, done.headers.get("location")) == (303, f"{EDIT}?done={section}{change_id}"), words(done)
    await console.submit(page, f"{EDIT}/{section}", **typed)
    first, second = admin.owners.requests(request_)
    assert first.idempotency_key == second.idempotency_key
    assert {name: first.data[name] for name in sent} == sent
    shown = await console.get(done.headers["location"])
    assert says in words(shown)
    notice = shown.text.partition('role="status"')[2].partition("</div>")[0]
    assert ("Undo" in notice) is (section != "undo")


async def test_the_undo_beside_what_was_done_takes_back_that_and_nothing_later(console: Console, admin: House) -> None:
    """Somebody else changed the card since: the sentence stands, and what they did is undone by its own name only."""
    admin.owners.answer(BlockCard, STANDS)
    done = await console.submit(await console.get(EDIT), f"{EDIT}/block", reason="lost")
    admin.owners.answer(GetCard, STANDS.model_copy(update={"last_change_id": uuid4()}))
    shown = await console.get(done.headers["location"])
    notice = shown.text.partition('role="status"')[2].partition("</div>")[0]
    assert "is blocked: SteVe refuses it" in notice
    assert "Undo" not in notice


async def test_only_what_differs_is_changed(console: Console, admin: House) -> None:
    """Fields that stand as they were shown are not sent; nothing that differs is said so, and nobody is asked."""
    admin.owners.answer(ChangeCard, STANDS)
    page = await console.get(EDIT)
    kept = {"card_type": "ev_card", "notes": "In the\r\noffice", "active": "1"}
    same = await console.submit(page, f"{EDIT}/local", **kept)
    assert (same.status_code, "Nothing differs" in words(same)) == (422, True)
    assert admin.owners.requests(ChangeCard) == []
    await console.submit(page, f"{EDIT}/local", **{**kept, "cardholder": "", "card_type": "keytag", "active": ""})
    (asked,) = admin.owners.requests(ChangeCard)
    assert asked.data["changes"] == {"cardholder": None, "card_type": "keytag", "active": False}


async def test_a_blocked_card_is_unblocked_with_the_limit_that_is_remembered_or_given(
    console: Console, admin: House
) -> None:
    """Who blocked it and why; the limit is asked for only where nobody remembers it."""
    admin.owners.answer(ReadCardInSteve, scene.blocked_in_steve())
    admin.owners.answer(UnblockCard, STANDS)
    block = {"block_kind": "operator", "block_reason": "lost", "blocked_by": "ada", "blocked_at": cases.NOW}
    admin.owners.answer(GetCard, cases.known(remembered_limit=2, **block))
    page = await console.get(EDIT)
    assert "with the limit it had: 2 sessions at once" in words(page)
    assert (await console.submit(page, f"{EDIT}/unblock")).status_code == 303
    admin.owners.answer(GetCard, cases.known())
    page = await console.get(EDIT)
    assert "Somebody blocked it in SteVe itself" in words(page)
    wrong = await console.submit(page, f"{EDIT}/unblock", limit="0")
    assert (wrong.status_code, "from 1 to 1000, or -1" in words(wrong)) == (422, True)
    assert (await console.submit(page, f"{EDIT}/unblock", limit="-1")).status_code == 303
    assert [asked.data["limit"] for asked in admin.owners.requests(UnblockCard)] == [None, -1]


async def test_an_operator_blocks_what_the_policy_or_steve_blocks_already(console: Console, admin: House) -> None:
    """A stolen card that the policy blocks would open with its next link: an operator's own block can be put on top,
    and on top of that there is only the unblocking.
    """
    admin.owners.answer(ReadCardInSteve, scene.blocked_in_steve())
    admin.owners.answer(BlockCard, STANDS)
    policy = {"block_kind": "policy", "block_reason": "it is linked to nobody", "blocked_by": "card-policy"}
    admin.owners.answer(GetCard, cases.known(remembered_limit=2, **policy))
    page = await console.get(EDIT)
    assert "It stays blocked when the policy no longer wants it" in words(page)
    assert (await console.submit(page, f"{EDIT}/block", reason="stolen")).status_code == 303
    (asked,) = admin.owners.requests(BlockCard)
    assert asked.data["reason"] == "stolen"
    admin.owners.answer(GetCard, cases.known())
    assert "It stays blocked as it is, with a reason and your name" in words(await console.get(EDIT))
    admin.owners.answer(GetCard, cases.known(**policy | {"block_kind": "operator"}))
    page = await console.get(EDIT)
    assert "Unblock this card" in words(page)
    assert f'action="{EDIT}/block"' not in page.text


@pytest.mark.parametrize("kind", ["operator", "policy"])
async def test_a_block_that_never_came_about_is_asked_for_again(console: Console, admin: House, kind: str) -> None:
    """It was noted, and SteVe, which did not answer then, does not have it: the card charges. The page says so, and
    blocks it; there is nothing to unblock.
    """
    by = "ada" if kind == "operator" else "card-policy"
    block = {"block_kind": kind, "block_reason": "stolen", "blocked_by": by, "blocked_at": cases.NOW}
    admin.owners.answer(GetCard, cases.known(remembered_limit=1, **block))
    admin.owners.answer(BlockCard, STANDS)
    page = await console.get(EDIT)
    assert "SteVe does not have it so." in words(page)
    assert f"{'ada' if kind == 'operator' else 'The policy'} wanted it blocked" in words(page)
    assert "blocked it" not in words(page)
    assert f'action="{EDIT}/unblock"' not in page.text
    typed = {} if kind == "operator" else {"reason": "stolen"}
    assert (await console.submit(page, f"{EDIT}/block", **typed)).status_code == 303
    (asked,) = admin.owners.requests(BlockCard)
    assert asked.data["reason"] == "stolen"
    admin.owners.answer(ReadCardInSteve, scene.steve_is_silent())
    text = words(await console.get(EDIT))
    assert "whether SteVe has it so is not known" in text
    assert "Block this card" in text


async def test_a_refusal_and_a_silence_are_told_beside_their_form(console: Console, admin: House) -> None:
    """The owner's own sentence with its status; without an answer the same key is sent again, and nothing is lost."""

    class CardExpired(Conflict):
        code, title = "card_expired", "SteVe does not write an expired card"

    page = await console.get(EDIT)
    admin.owners.answer(BlockCard, CardExpired("The card expired; set a new expiry first."))
    refused = await console.submit(page, f"{EDIT}/block", reason="stolen at noon")
    assert (refused.status_code, "set a new expiry first" in words(refused)) == (409, True)
    assert 'value="stolen at noon"' in refused.text
    admin.owners.silence(BlockCard)
    unknown = await console.submit(refused, f"{EDIT}/block", reason="stolen at noon")
    assert (unknown.status_code, "it is done once" in words(unknown)) == (504, True)
    admin.owners.answer(BlockCard, STANDS)
    assert (await console.submit(unknown, f"{EDIT}/block", reason="stolen at noon")).status_code == 303
    keys = [asked.idempotency_key for asked in admin.owners.requests(BlockCard)]
    assert keys[0] != keys[1] == keys[2]
    bad = await console.submit(page, f"{EDIT}/expiry", expiry="soon")
    assert (bad.status_code, "'soon' is no date" in words(bad)) == (422, True)


@pytest.mark.parametrize("code", ["outcome_unknown", "still_running"])
async def test_what_sync_does_not_know_looks_unknown(console: Console, admin: House, code: str) -> None:
    """SteVe did not say whether it did it: the next try is another one. What is still being done is asked after by the
    key it has.
    """

    class NotKnown(Conflict):
        title = "Nobody knows"

    NotKnown.code = code
    page = await console.get(EDIT)
    admin.owners.answer(BlockCard, NotKnown("It timed out while it was being changed."))
    unknown = await console.submit(page, f"{EDIT}/block", reason="stolen")
    notice = unknown.text.partition('role="alert"')[0].rpartition("<div")[2]
    assert 'data-state="unknown"' in notice
    await console.submit(unknown, f"{EDIT}/block", reason="stolen")
    first, second = admin.owners.requests(BlockCard)
    assert (first.idempotency_key == second.idempotency_key) is (code == "still_running")


async def test_a_silent_steve_looks_like_silence(console: Console, admin: House) -> None:
    """The banner, the last known record with its age, and who did not say what the last change was. Where sync did not
    answer, nobody asked SteVe, which may be well.
    """
    admin.owners.answer(ReadCardInSteve, scene.steve_is_silent())
    admin.owners.silence(SearchEntries)
    assert "SteVe is unreachable right now" in words(await console.get(EDIT))
    admin.owners.silence(ReadCardInSteve)
    text = words(await console.get(EDIT))
    assert "SteVe is unreachable right now" not in text
    assert "Sync did not answer, so nobody asked SteVe" in text
    assert "Last read" in text
    assert "Audit did not say what it was." in text


async def test_a_viewer_reads_and_changes_nothing(console: Console, admin: House) -> None:
    """The page without its forms; a form that is sent all the same is refused."""
    made = await change(await admin.as_admin(), "/operators", {"name": "vera", "role": "viewer"})
    await admin.sign_in("vera", made["one_time_password"], new_password="veras own password")
    vera = Console(admin)
    await vera.sign_in("vera", "veras own password")
    page = await vera.get(EDIT)
    assert (page.status_code, "In the office" in words(page)) == (200, True)
    assert f'action="{EDIT}' not in page.text
    token = page.text.partition('name="csrf_token" value="')[2].partition('"')[0]
    refused = await vera.client.post(f"{EDIT}/block", data={"csrf_token": token, "reason": "x"})
    assert refused.status_code == 403
    assert admin.owners.requests(BlockCard) == []
